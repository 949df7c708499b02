"""docs/recipes.md against the run files."""

from pathlib import Path

import pytest

from ev2_plugin.integration.run_config import load_config
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


def test_another_target_of_qm9_takes_what_the_page_shows(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs/recipes.md").read_text(encoding="utf-8")
    (block,) = (block for block in page.split("```yaml\n") if "rotational constant" in block.split("```")[0])
    own = tmp_path / "rotational_constant.yml"
    own.write_text(block.split("```")[0], encoding="utf-8")
    expected, _ = load_config(RUN_FILES["qm9/mu"])
    expected["dataset"]["train"]["key_mapping"] = {"A": "property"}
    assert load_config(own)[0] == expected
