"""Every block of code in the documentation is of a kind that is tested: run, read, or shown as output."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest
import yaml

from helpers.documentation import PAGES, Block, blocks, without_blocks

ALL = [block for page in PAGES for block in blocks(page)]
SHOWN = {"text", "math"}
"""Output, figures in characters and equations: nothing that a reader would type."""


def of(*languages: str) -> list[Block]:
    return [block for block in ALL if block.language in languages]


def test_every_block_names_its_language() -> None:
    assert {block.language for block in ALL} <= SHOWN | {"bash", "python", "yaml", "json"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_no_code_stands_outside_of_blocks(page: Path) -> None:
    lines = without_blocks(page).splitlines()
    if lines and lines[0].startswith("    make "):
        lines = lines[2:]  # the first lines of the README; what they start is tested as a whole
    assert not [
        line for above, line in zip(["", *lines], lines, strict=False) if re.match(r"    \S", line) and not above
    ]


@pytest.mark.parametrize("block", of("text"), ids=str)
def test_output_holds_no_command(block: Block) -> None:
    assert not re.search(r"^\s*(\$ |ev2 (?!check CONFIG|estimate CONFIG))", block.text, re.MULTILINE)


@pytest.mark.parametrize("block", of("yaml", "json"), ids=str)
def test_yaml_and_json_can_be_read(block: Block) -> None:
    if block.language == "yaml":
        assert isinstance(yaml.safe_load(block.text), dict)
    elif block.text.startswith("{\n"):
        json.loads(block.text)
    else:
        assert all(isinstance(json.loads(line), dict) for line in block.text.splitlines())


def test_shell_blocks_are_shell() -> None:
    for block in of("bash"):
        found = subprocess.run(["bash", "-n"], input=block.text, text=True, capture_output=True, check=False)
        assert found.returncode == 0, f"{block}: {found.stderr}"


@pytest.mark.parametrize("block", of("python"), ids=str)
def test_python_blocks_are_python(block: Block) -> None:
    compile(block.text, str(block), "exec")
