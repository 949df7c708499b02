"""`ev2 bench`: the same answers first, then times of both."""

from __future__ import annotations

import json
from pathlib import Path

import ase.io
import pytest
import torch
import yaml
from ase.build import fcc111, molecule
from typer.testing import CliRunner, Result

from ev2_plugin.cli.main import app
from ev2_plugin.integration import bench, pairing
from helpers import official_checkpoints as official
from helpers.tiny_s2ef import FLAT_MODEL


@pytest.fixture
def slab(tmp_path: Path) -> Path:
    """Eight atoms of copper, off their lattice."""
    atoms = fcc111("Cu", (2, 2, 2), vacuum=6.0, periodic=True)
    atoms.info.clear()
    atoms.rattle(0.05, seed=0)
    ase.io.write(tmp_path / "slab.extxyz", atoms)
    return tmp_path / "slab.extxyz"


def ev2(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["bench", *map(str, arguments), "--repeats", "2", "--device", "cpu"])


def test_a_checkpoint_is_timed_beside_the_host_with_its_own_weights(
    slab: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = official.oc20().content
    torch.save(content, tmp_path / "model.pt")
    seen = {}

    def remember(*arguments: object) -> dict[str, pairing.Contender]:
        seen.update(pairing.contenders(*arguments))
        return seen

    monkeypatch.setattr(bench, "contenders", remember)
    result = ev2(tmp_path / "model.pt", "--structures", slab, "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert (found["structures"], found["atoms"], found["weights"]) == (1, 8, "of the checkpoint")
    assert found["deviations"].keys() == {"energy", "forces", "worst gradient"}
    assert max(found["deviations"].values()) < 4e-4
    for task in ("prediction", "training_step"):
        times = found["seconds"][task]
        assert times["host_over_ours"] == pytest.approx(times["host"]["median"] / times["ours"]["median"])
        assert len(times["ours"]["samples"]) == 2
    assert found["machine"]["fairchem-core"].startswith("1.10")
    name = "sphere_embedding.weight"
    stored = next(value for key, value in content["state_dict"].items() if key.endswith(name))
    for one in seen.values():
        assert torch.equal(dict(one.model.named_parameters())[name], stored)


def test_a_run_file_is_timed_with_random_weights(slab: Path, tmp_path: Path) -> None:
    (tmp_path / "run.yml").write_text(yaml.safe_dump({"model": FLAT_MODEL}))
    result = ev2(tmp_path / "run.yml", "--structures", slab, "--predict-only")
    assert result.exit_code == 0, result.output
    assert "prediction" in result.stdout
    assert "training step" not in result.stdout
    assert "largest deviation from fairchem's answers" in result.stdout


def test_a_model_that_the_host_does_not_have_is_timed_alone(slab: Path, tmp_path: Path) -> None:
    (tmp_path / "run.yml").write_text(yaml.safe_dump({"model": {**FLAT_MODEL, "num_radial_basis": 32}}))
    result = ev2(tmp_path / "run.yml", "--structures", slab, "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert "this model has 32 basis functions of kind gaussian, the host's 600" in found["without_host"]
    assert found["deviations"] is None
    assert [list(times) for times in found["seconds"].values()] == [["ours"], ["ours"]]
    result = ev2(tmp_path / "run.yml", "--structures", slab, "--predict-only")
    assert "timed alone: there is nothing to set beside it" in result.stdout


def test_nothing_is_timed_where_the_answers_differ(slab: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "run.yml").write_text(yaml.safe_dump({"model": FLAT_MODEL}))
    monkeypatch.setitem(pairing.LIMITS, "highest", 1e-12)
    monkeypatch.setattr(bench, "alternating", lambda *_: pytest.fail("timed"))
    result = ev2(tmp_path / "run.yml", "--structures", slab, "--predict-only")
    assert result.exit_code == 3, result.output
    assert "the answers differ by more than 1e-12" in result.stderr


def test_mistakes_are_one_sentence(slab: Path, tmp_path: Path) -> None:
    water = molecule("H2O", vacuum=4.0)
    ase.io.write(tmp_path / "water.extxyz", water)
    for arguments, said in {
        ("OC20_31",): "error: OC20_31: neither a checkpoint nor a run file nor a preset; presets are IS2RE_36M",
        ("OC20_31M", "--structures", tmp_path / "water.extxyz"): "structure 0 is not periodic in all directions",
    }.items():
        result = ev2(*arguments)
        assert result.exit_code == 1
        assert said in result.stderr
        assert result.stderr.count("\n") == 1
