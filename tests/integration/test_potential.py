"""Models as potentials: the host's predictions, from a trainer and from a checkpoint."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch_geometric.data import Batch

from ev2_plugin.integration.potential import HostModelPotential, ModelPotential, potential_of_trainer
from ev2_plugin.potential.structures import Structures, from_atoms
from helpers import tiny_s2ef
from helpers.models import fill_by_name
from helpers.trainers import config, make_trainer

NESTED = {**tiny_s2ef.HYDRA_MODEL, "pass_through_head_outputs": False}
HOST_MODEL = {**tiny_s2ef.FLAT_MODEL, "name": "equiformer_v2"}
MODELS = {"flat": tiny_s2ef.FLAT_MODEL, "hydra": tiny_s2ef.HYDRA_MODEL, "nested": NESTED, "host": HOST_MODEL}
REFERENCES = {"energy": {"elements": {"Cu": -3.25, "O": -7.5, "C": -8.0}}}
NORMALIZER = {"energy": {"mean": -0.75, "rmsd": 2.9}, "forces": {"mean": 0.0, "rmsd": 1.7}}
Make = Callable[..., Any]


@pytest.fixture
def trainer(dataset: dict[str, Any], tmp_path: Path) -> Make:
    """Make a trainer with references, normalisers and weights far from their initialisation."""

    def make(model: str, **optim: Any) -> Any:
        data = {**dataset, "transforms": {"normalizer": NORMALIZER, "element_references": REFERENCES}}
        settings = config(data, copy.deepcopy(MODELS[model]), **optim)
        if model == "nested":
            for name in ("energy", "forces"):
                settings["outputs"][name]["property"] = name
        made = make_trainer(settings, tmp_path)
        fill_by_name(made.model)
        made.ema = None
        return made

    return make


def slabs() -> Structures:
    """Slabs of the dataset in the precision that the host's samples have."""
    structures = from_atoms(tiny_s2ef.slabs(), ids=["a", "b", "c", "d"])
    return structures.moved_to(structures.positions.float().double())


@pytest.mark.parametrize("model", MODELS)
def test_says_what_the_trainer_predicts(model: str, trainer: Make) -> None:
    made = trainer(model)
    batch = next(iter(make_batches(made)))
    potential = potential_of_trainer(made)
    assert isinstance(potential, HostModelPotential if model == "host" else ModelPotential)
    structures = of_batch(batch)
    predicted = potential(structures)
    assert (predicted.energy.dtype, predicted.forces.dtype) == (torch.float64, torch.float64)
    if model == "host":
        torch.manual_seed(5)
        predicted = potential(structures)
        torch.manual_seed(5)
    expected = made.predict(batch, per_image=False, disable_tqdm=True)
    torch.testing.assert_close(predicted.energy, expected["energy"].squeeze(1).double(), rtol=1e-6, atol=2e-5)
    torch.testing.assert_close(predicted.forces, expected["forces"].double(), rtol=1e-4, atol=2e-5)
    assert float(predicted.forces.std()) > 0.01


def make_batches(trainer: Any) -> list[Batch]:
    return list(trainer.val_loader)


def of_batch(batch: Batch) -> Structures:
    """The same structures without the host."""
    return Structures(
        ids=tuple(map(str, batch.sid)),
        atomic_numbers=batch.atomic_numbers.long(),
        positions=batch.pos.double(),
        cells=batch.cell.double(),
        pbc=torch.ones(len(batch.natoms), 3, dtype=torch.bool),
        natoms=batch.natoms,
        fixed=batch.fixed.bool(),
        tags=batch.tags,
    )
