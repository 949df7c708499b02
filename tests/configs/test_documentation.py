"""docs/recipes.md against the run files."""

from pathlib import Path

import pytest

from helpers.run_files import RUN_FILES
from helpers.run_parameters import PARAMETERS

ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in (Path(__file__).parents[2] / "docs/recipes.md").read_text(encoding="utf-8").splitlines()
    if line.startswith("|")
]


@pytest.mark.parametrize("name", RUN_FILES)
def test_every_run_has_a_row_with_its_parameters(name: str) -> None:
    (cells,) = [row[row.index(f"`{name}.yml`") :] for row in ROWS if f"`{name}.yml`" in row]
    counts = [cell for cell in cells if cell.replace(",", "").isdigit() and len(cell) > len("999,999")]
    assert counts[0] == f"{PARAMETERS[name]:,}"


def test_no_row_names_a_file_that_is_not_there() -> None:
    named = {cell.strip("`") for row in ROWS for cell in row if cell.startswith("`") and cell.endswith(".yml`")}
    assert named == {f"{name}.yml" for name in RUN_FILES}
