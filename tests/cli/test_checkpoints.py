"""`ev2 convert` and `ev2 inspect` at the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from ase.build import bulk
from typer.testing import CliRunner

from ev2_plugin.cli.main import app
from helpers import official_checkpoints as official


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("checkpoints") / "oc22.pt"
    torch.save(official.oc22().content, path)
    return path


def test_convert_then_inspect(checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "oc22.safetensors"
    result = CliRunner().invoke(app, ["convert", str(checkpoint), str(out), "--layout", "hydra"])
    assert result.exit_code == 0, result.output
    assert f"wrote {out} and {tmp_path / 'oc22.json'}: hydra, 58,787 weights, averaged" in result.output
    assert "energies: energy relative to a sum of element references that is not added" in result.output
    result = CliRunner().invoke(app, ["inspect", str(out), "--json"])
    facts = json.loads(result.stdout)
    assert facts["model"]["layout"] == "hydra"
    assert facts["origin"]["converted_from"]["file"] == "oc22.pt"
    result = CliRunner().invoke(app, ["inspect", str(checkpoint)])
    for part in ("layout", "flat", "4 Å", "58,787", "referenced", "4,000", "linear reference", "yes"):
        assert part in result.output


@pytest.mark.parametrize("command", [["convert", "none.pt", "out.pt"], ["inspect", "none.pt"]])
def test_one_sentence_for_what_is_wrong(command: list[str]) -> None:
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 1
    assert result.stderr.startswith("error: ")
    assert "none.pt" in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


def test_commands_of_the_page_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (Path(__file__).parents[2] / "docs/checkpoints.md").read_text(encoding="utf-8")
    lines = [line.split("#")[0].split("||")[0] for line in page.splitlines() if line.startswith("ev2 ")]
    commands = [line.split()[1:] for line in lines]
    assert len(commands) == 4
    monkeypatch.chdir(tmp_path)
    torch.save(official.oc20().content, "eq2_31M_ec4_allmd.pt")
    Path("slabs").mkdir()
    bulk("Cu", cubic=True).write("slabs/a.vasp")
    for command in commands:
        result = CliRunner().invoke(app, command)
        # relaxations that need more steps end with 3
        assert result.exit_code == (3 if command[0] == "relax" else 0), f"{command}: {result.output}"
    assert "adsorption" in json.loads(Path("eq2_31M.json").read_text())["energy"]["kind"]


def test_parameters_in_the_page_are_those_that_are_tested() -> None:
    page = (Path(__file__).parents[2] / "docs/checkpoints.md").read_text(encoding="utf-8")
    tests = (Path(__file__).parents[1] / "integration/test_official_checkpoints.py").read_text(encoding="utf-8")
    rows = [line.strip("| ").split(" | ")[-1].strip() for line in page.splitlines() if line.startswith("| `e")]
    counts = [row.replace(",", "_") for row in rows if row[0].isdigit()]
    assert len(counts) == 8
    assert all(count in tests for count in counts)
