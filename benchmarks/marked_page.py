"""Tables in a page of documentation, written by the script that measured them."""

from __future__ import annotations

from pathlib import Path


def replace_section(page: Path, name: str, text: str) -> None:
    """Replace what stands between `<!-- NAME: ... -->` and `<!-- end of NAME -->`, each alone on its line.

    Raises:
        ValueError: If the page does not have each of these marks once, in this order.
    """
    lines = page.read_text(encoding="utf-8").splitlines()
    starts = [i for i, line in enumerate(lines) if line.startswith(f"<!-- {name}:")]
    ends = [i for i, line in enumerate(lines) if line == f"<!-- end of {name} -->"]
    if len(starts) != 1 or len(ends) != 1 or starts > ends:
        raise ValueError(f"{page} must have one line '<!-- {name}: ... -->' and after it one '<!-- end of {name} -->'")
    lines[starts[0] + 1 : ends[0]] = text.splitlines()
    page.write_text("\n".join(lines) + "\n", encoding="utf-8")
