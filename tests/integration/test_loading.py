"""From checkpoints to potentials: what the trainer that wrote them predicts, and refusals of anything incomplete."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from ev2_plugin.integration.loading import load_potential
from ev2_plugin.integration.potential import ModelPotential, potential_of_trainer
from ev2_plugin.potential.structures import from_atoms
from helpers import tiny_s2ef
from helpers.models import fill_by_name
from helpers.trainers import config, make_trainer

REFERENCES = {"energy": {"elements": {"Cu": -3.25}}}
NORMALIZER = {"energy": {"mean": -0.75, "rmsd": 2.9}, "forces": {"mean": 0.0, "rmsd": 1.7}}


@pytest.fixture
def trained(dataset: dict[str, Any], tmp_path: Path) -> Callable[..., Any]:
    def make(model: dict[str, Any], trainer: str = "ev2_plugin.Trainer") -> Any:
        data = {**dataset, "transforms": {"normalizer": NORMALIZER, "element_references": REFERENCES}}
        settings = config(data, copy.deepcopy(model))
        made = make_trainer(settings, tmp_path)
        fill_by_name(made.model)
        for shadow in made.ema.shadow_params:
            shadow.copy_(1.01 * shadow)
        return made

    return make


@pytest.mark.parametrize("model", [tiny_s2ef.FLAT_MODEL, tiny_s2ef.HYDRA_MODEL], ids=["flat", "hydra"])
@pytest.mark.parametrize("training_state", [True, False])
def test_loads_what_a_trainer_wrote(model: dict[str, Any], training_state: bool, trained: Any) -> None:
    trainer = trained(model)
    path = trainer.save(training_state=training_state)
    potential = load_potential(Path(path), "cpu")
    structures = from_atoms(tiny_s2ef.slabs(), "abcd")
    assert isinstance(potential, ModelPotential)
    raw = potential_of_trainer(trainer)(structures).energy
    trainer.ema.copy_to()
    expected, predicted = potential_of_trainer(trainer)(structures), potential(structures)
    assert not torch.allclose(raw, expected.energy)
    assert torch.equal(predicted.energy, expected.energy)
    assert torch.equal(predicted.forces, expected.forces)
    assert potential.energy_kind.name == "total"
