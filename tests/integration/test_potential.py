"""Models as potentials: the host's predictions, from a trainer and from a checkpoint."""

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from ase import Atoms
from fairchem.core.datasets import data_list_collater
from fairchem.core.preprocessing import AtomsToGraphs
from torch_geometric.data import Batch

from ev2_plugin.graph.structure_error import StructureError
from ev2_plugin.integration.potential import HostModelPotential, ModelPotential, host_batch, potential_of_trainer
from ev2_plugin.potential.structures import Structures, from_atoms
from ev2_plugin.relax.faults import RelaxationError, evaluate
from helpers import tiny_s2ef
from helpers.models import fill_by_name
from helpers.structures import assorted
from helpers.tiny_s2ef import slabs
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


@pytest.mark.parametrize("model", MODELS)
def test_says_what_the_trainer_predicts(model: str, trainer: Make) -> None:
    made = trainer(model)
    batch = next(iter(made.val_loader))
    potential = potential_of_trainer(made)
    assert isinstance(potential, HostModelPotential if model == "host" else ModelPotential)
    structures = of_batch(batch)
    predicted = potential(structures)
    assert (predicted.energy.dtype, predicted.forces.dtype) == (torch.float64, torch.float64)
    if model == "host":  # which turns every edge at random
        torch.manual_seed(5)
        predicted = potential(structures)
        torch.manual_seed(5)
    expected = made.predict(batch, per_image=False, disable_tqdm=True)
    torch.testing.assert_close(predicted.energy, expected["energy"].squeeze(1).double(), rtol=1e-6, atol=2e-5)
    torch.testing.assert_close(predicted.forces, expected["forces"].double(), rtol=1e-4, atol=2e-5)
    assert float(predicted.forces.std()) > 0.01


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


def test_takes_the_weights_that_the_trainer_has_now(trainer: Make) -> None:
    made = trainer("flat")
    potential, structures = potential_of_trainer(made), of_batch(next(iter(made.val_loader)))
    before = potential(structures)
    made.model.train()
    with torch.no_grad():
        made.model.norm.affine_weight.mul_(2.0)
    after = potential(structures)
    assert not torch.allclose(before.forces, after.forces, rtol=0.1)
    assert not made.model.training
    assert not after.energy.requires_grad


def test_half_precision_as_the_trainer_predicts(trainer: Make) -> None:
    made = trainer("flat", precision="bf16")
    batch = next(iter(made.val_loader))
    potential = potential_of_trainer(made)
    assert potential.autocast_dtype is torch.bfloat16
    forces = potential(of_batch(batch)).forces
    expected = made.predict(batch, per_image=False, disable_tqdm=True)["forces"].double()
    torch.testing.assert_close(forces, expected, rtol=1e-4, atol=2e-5)
    potential.autocast_dtype = None
    assert (potential(of_batch(batch)).forces - expected).abs().max() > 1e-3


@pytest.mark.parametrize("model", ["flat", "hydra"])
def test_each_structure_for_itself(model: str, trainer: Make) -> None:
    made = trainer(model)
    made.elementrefs.clear()
    potential = potential_of_trainer(made)
    structures = from_atoms(assorted(), "abcdef")
    together = potential(structures)
    start = 0
    for index, count in enumerate(structures.natoms.tolist()):
        alone = potential(structures.select([index]))
        torch.testing.assert_close(alone.energy[0], together.energy[index], rtol=1e-5, atol=2e-5)
        torch.testing.assert_close(alone.forces, together.forces[start : start + count], rtol=1e-4, atol=2e-5)
        start += count


def test_edges_are_counted_once(trainer: Make) -> None:
    potential, structures = potential_of_trainer(trainer("flat")), from_atoms(tiny_s2ef.slabs(), "abcd")
    counted = [potential.num_edges(structures.select([index]))[0] for index in range(4)]
    assert counted == potential.num_edges(structures) == [8 * 12] * 4
    potential(structures)
    potential(structures.moved_to(structures.positions + 0.01))
    assert potential.neighbors.searched == 4


def test_periodicity_can_be_switched_off(trainer: Make) -> None:
    structures, made = from_atoms(tiny_s2ef.slabs()[:1], "a"), trainer("flat")
    made.model.options = replace(made.model.options, use_pbc=False)
    (edges,) = potential_of_trainer(made).num_edges(structures)
    assert edges < 8 * 8


def test_edges_of_the_hosts_model(trainer: Make) -> None:
    potential, structures = potential_of_trainer(trainer("host")), from_atoms(tiny_s2ef.slabs(), "abcd")
    edges = potential.model.generate_graph(
        host_batch(structures), enforce_max_neighbors_strictly=True, use_pbc_single=False
    ).edge_index
    assert sum(potential.num_edges(structures)) == edges.shape[1]


def test_a_batch_as_the_hosts_collater_makes_it() -> None:
    structures = slabs()
    for atoms in structures:
        atoms.wrap()  # as the host's conversion does
    convert = AtomsToGraphs(r_energy=False, r_forces=False, r_fixed=True, r_pbc=True, r_edges=False).convert
    samples = [convert(atoms, sid=name) for name, atoms in zip("abcd", structures, strict=True)]
    expected, batch = data_list_collater(samples, otf_graph=True), host_batch(from_atoms(structures, "abcd"))
    assert batch.num_graphs == expected.num_graphs == 4
    for name in ("pos", "cell", "atomic_numbers", "natoms", "batch", "tags", "fixed", "ptr"):
        torch.testing.assert_close(batch[name], expected[name], check_dtype=name == "pos", msg=name)
    assert batch.sid == expected.sid
    assert torch.equal(batch.pbc.flatten(), expected.pbc.flatten())


def test_hosts_models_get_one_periodicity_at_a_time(trainer: Make) -> None:
    made = trainer("host")
    made.elementrefs.clear()
    with pytest.raises(ValueError, match="of a batch's first structure for all, but a and others differ in it"):
        potential_of_trainer(made)(from_atoms(assorted(), "abcdef"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda outputs: outputs.pop("forces"), "the model's outputs are energy: forces missing"),
        (lambda outputs: outputs["energy"].update(property="enrgy"), "property must be one of energy, got 'enrgy'"),
        (lambda outputs: outputs["energy"].pop("property"), "property must be one of energy, got None"),
    ],
)
def test_outputs_that_do_not_fit(change: Callable[[Any], Any], message: str, trainer: Make) -> None:
    made = trainer("nested")
    change(made.output_targets)
    with pytest.raises(ValueError, match=message):
        potential_of_trainer(made)(of_batch(next(iter(made.val_loader))))


def test_an_output_that_the_model_lacks(trainer: Make) -> None:
    made = trainer("flat")
    made.output_targets["stress"] = {"level": "system"}
    potential = potential_of_trainer(made)
    assert potential.properties == ("energy", "forces", "stress")
    with pytest.raises(ValueError, match="does not predict 'stress'; it predicts energy, forces"):
        potential.evaluate(of_batch(next(iter(made.val_loader))), potential.properties)


def test_elements_without_reference_or_row(trainer: Make) -> None:
    potential = potential_of_trainer(trainer("flat"))
    for symbol, message in (("Fe", "Fe: no element reference"), ("Th", "atomic number 90, but the model's tables end")):
        with pytest.raises(ValueError, match=message):
            potential(from_atoms([Atoms(symbol)], "a"))


def test_hosts_models_are_told_apart(trainer: Make) -> None:
    host = potential_of_trainer(trainer("host"))
    with pytest.raises(ValueError, match="is not a model of ev2_plugin: HostModelPotential takes it"):
        ModelPotential(host.model, host.outputs, host.energy_kind)


def test_what_is_wrong_with_a_structure_is_said_by_its_id(trainer: Make) -> None:
    made = trainer("flat")
    potential, structures = potential_of_trainer(made), of_batch(next(iter(made.val_loader)))
    structures = replace(structures, ids=("first", "second"))
    there = structures.positions.clone()
    there[int(structures.natoms[0]) + 2] = there[int(structures.natoms[0])]
    for ask in (potential, potential.num_edges):
        with pytest.raises(StructureError, match="^structure second: atoms 0 and 2 are 0.0000 Å apart"):
            ask(structures.moved_to(there))
    with pytest.raises(RelaxationError, match="^structure second: atoms 0 and 2 are"):
        evaluate(potential, structures.moved_to(there))
