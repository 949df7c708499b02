"""A trained model as the start of another training."""

from pathlib import Path
from typing import Any

import pytest
import torch
from ase.build import fcc111

from ev2_plugin.integration.loading import load_potential
from ev2_plugin.integration.starting_point import read_starting_point, write_start
from ev2_plugin.potential.structures import from_atoms
from ev2_plugin.storage.checkpoint_file import read_checkpoint, write_checkpoint
from helpers import tiny_s2ef
from helpers.trainers import config, make_trainer

NORMALIZER = {"energy": {"mean": -0.5, "rmsd": 1.5}, "forces": {"mean": 0.0, "rmsd": 0.75}}


def trained(dataset: dict[str, Any], folder: Path, model: dict[str, Any], **transforms: Any) -> Path:
    """A checkpoint of training, whose averaged weights differ from the last ones."""
    made = config({**dataset, "transforms": {"normalizer": NORMALIZER, **transforms}}, model)
    trainer = make_trainer(made, folder)
    trainer.train(disable_eval_tqdm=True)
    return trainer.folder.path / "checkpoint.pt"


def energies(checkpoint: Path) -> torch.Tensor:
    slab = fcc111("Cu", (2, 2, 2), vacuum=6.0, periodic=True)
    return load_potential(checkpoint, "cpu")(from_atoms([slab], ["slab"])).energy


@pytest.mark.parametrize("model", [tiny_s2ef.FLAT_MODEL, tiny_s2ef.HYDRA_MODEL], ids=["flat", "hydra"])
def test_what_is_written_predicts_as_the_checkpoint(
    dataset: dict[str, Any], tmp_path: Path, model: dict[str, Any]
) -> None:
    checkpoint = trained(dataset, tmp_path, model)
    start = read_starting_point(checkpoint)
    assert {target: one["rmsd"] for target, one in start.normalizers.items()} == {"energy": 1.5, "forces": 0.75}
    assert (start.references, start.energy.name, start.num_blocks) == (None, "unknown", 1)
    write_start(tmp_path / "start.pt", start, None, None)
    assert torch.equal(energies(tmp_path / "start.pt"), energies(checkpoint))
    assert not {"optimizer", "ema", "step"} & set(read_checkpoint(tmp_path / "start.pt"))


def test_new_references_are_added_to_its_energies(dataset: dict[str, Any], tmp_path: Path) -> None:
    references = {"element_references": {"energy": {"elements": {"Cu": 2.0, "O": 1.0}}}}
    checkpoint = trained(dataset, tmp_path, tiny_s2ef.FLAT_MODEL, **references)
    start = read_starting_point(checkpoint)
    assert (start.references, start.energy.name) == ({"Cu": 2.0, "O": 1.0}, "total")
    write_start(tmp_path / "start.pt", start, {"Cu": 2.5}, "total")
    again = read_starting_point(tmp_path / "start.pt")
    assert (again.references, again.digest) == ({"Cu": 2.5}, start.digest)
    torch.testing.assert_close(energies(tmp_path / "start.pt"), energies(checkpoint) + 8 * 0.5)


def test_heads_for_anything_else_are_left_out(dataset: dict[str, Any], tmp_path: Path) -> None:
    heads = {**tiny_s2ef.HYDRA_MODEL["heads"], "noise": {"module": "ev2_plugin.VectorHead", "output_name": "noise"}}
    model = {**tiny_s2ef.HYDRA_MODEL, "heads": heads}
    made = config({**dataset, "transforms": {"normalizer": NORMALIZER}}, model)
    checkpoint = Path(make_trainer(made, tmp_path).save())
    start = read_starting_point(checkpoint)
    assert start.left_out == ("noise",)
    assert not [name for name in start.weights if name.startswith("output_heads.noise.")]
    write_start(tmp_path / "start.pt", start, None, None)
    assert torch.equal(energies(tmp_path / "start.pt"), energies(checkpoint))


def test_a_model_without_forces_is_refused(dataset: dict[str, Any], tmp_path: Path) -> None:
    content = read_checkpoint(Path(make_trainer(config(dataset), tmp_path).save()))
    del content["config"]["outputs"]["forces"]
    write_checkpoint(tmp_path / "energies.pt", content)
    with pytest.raises(ValueError, match="predicts energy: fine-tuning needs a model of energies and forces"):
        read_starting_point(tmp_path / "energies.pt")
