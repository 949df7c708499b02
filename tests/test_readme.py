"""The README's example runs and prints what it says."""

import re
from pathlib import Path

import pytest

README = Path(__file__).parents[1] / "README.md"


def test_python_example(capsys: pytest.CaptureFixture[str]) -> None:
    example, *_ = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    promised = re.search(r"# normalised: (.*)", example)
    assert promised
    exec(compile(example, "README.md", "exec"), {})
    assert capsys.readouterr().out.strip() == promised.group(1)


def test_first_lines_are_the_two_commands() -> None:
    first, second = README.read_text().splitlines()[:2]
    assert first.split()[:2] == ["make", "demo"]
    assert second.split()[:2] == ["make", "test"]
