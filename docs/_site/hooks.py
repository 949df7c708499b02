"""What the site does to a page before Markdown sees it.

Equations become MathML, which needs no script. Links that leave the folder of the documentation become plain text.

Equations are written as GitHub reads them too: a block ```math, and $`...`$ within a line.
"""

import re
from typing import Any

from latex2mathml.converter import convert

BLOCK = re.compile(r"^```math\n(.*?)^```$", re.DOTALL | re.MULTILINE)
INLINE = re.compile(r"\$`([^`]+)`\$")
OUTSIDE = re.compile(r"\[([^\]]+)\]\(\.\./(?!CHANGELOG)[^)]*\)")
SNIPPET = re.compile(r'^--8<-- "([^"]+)"$', re.MULTILINE)


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Called by MkDocs for every page."""
    markdown = SNIPPET.sub(_included, markdown)
    markdown = OUTSIDE.sub(r"\1", markdown)
    markdown = BLOCK.sub(
        lambda found: f'<div class="equation">{convert(found[1].strip(), display="block")}</div>', markdown
    )
    return INLINE.sub(lambda found: convert(found[1]), markdown)


def _included(found: re.Match[str]) -> str:
    """A file from beside the folder of the documentation, its links seen from there."""
    with open(found[1], encoding="utf-8") as file:
        return re.sub(r"\]\((?:docs/)", "](", file.read())
