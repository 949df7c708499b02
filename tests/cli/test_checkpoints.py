"""`ev2 convert` and `ev2 inspect` at the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
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
