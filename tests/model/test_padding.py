"""Ghost atoms and ghost edges do not change what is predicted."""

from dataclasses import astuple, replace

import pytest
import torch
from ase import Atoms

from ev2_plugin.model.batch import AtomBatch
from ev2_plugin.model.config import ModelConfig
from ev2_plugin.model.padding import Capacity, pad, pad_rows, rounded_capacity, step_up
from helpers.models import filled_model, predict
from helpers.structures import GATE, TINY, assorted, atom_batch, crystal, molecule, single_atom, slab, two_far_atoms


def larger(atoms: AtomBatch, atoms_more: int = 5, edges_more: int = 13, structures_more: int = 3) -> Capacity:
    size = Capacity.of(atoms)
    return Capacity(size.atoms + atoms_more, size.edges + edges_more, size.structures + structures_more)


@pytest.mark.parametrize("config", [TINY, GATE, replace(TINY, share_atom_edge_embedding=True, use_m_share_rad=True)])
@pytest.mark.parametrize("structures", [assorted(), [slab()], [single_atom()], [two_far_atoms()]])
@pytest.mark.parametrize("more", [(5, 13, 3), (1, 0, 1), (1, 40, 1), (40, 1, 9)])
def test_real_results_are_those_without_padding(
    config: ModelConfig, structures: list[Atoms], more: tuple[int, int, int]
) -> None:
    atoms, model = atom_batch(structures, config), filled_model(config)
    padded = pad(atoms, larger(atoms, *more))
    for ours, expected in zip(predict(model, padded), predict(model, atoms), strict=True):
        assert torch.isfinite(ours).all()
        torch.testing.assert_close(ours[: len(expected)], expected, atol=1e-12, rtol=1e-12)


def test_sizes_and_order() -> None:
    atoms = atom_batch(assorted())
    capacity = larger(atoms)
    padded = pad(atoms, capacity)
    graph, ghosts = padded.graph, torch.arange(len(atoms.atomic_numbers), capacity.atoms)
    assert Capacity.of(padded) == capacity
    assert graph.num_nodes == capacity.atoms
    assert int(padded.natoms.sum()) == capacity.atoms
    assert (graph.receivers.diff() >= 0).all()
    new = slice(len(atoms.graph.senders), None)
    assert torch.isin(graph.senders[new], ghosts).all()
    assert torch.isin(graph.receivers[new], ghosts).all()
    torch.testing.assert_close(graph.vectors[new].norm(dim=1), torch.ones(13, dtype=torch.float64))
    assert graph.receivers[new].bincount(minlength=capacity.atoms)[ghosts].tolist() == [3, 3, 2, 3, 2]
    assert (padded.batch[ghosts] == capacity.structures - 1).all()


def test_the_batch_itself_stays() -> None:
    atoms = atom_batch([molecule(), crystal()])
    before = [tensor.clone() for tensor in (atoms.atomic_numbers, atoms.natoms, atoms.graph.vectors)]
    pad(atoms, larger(atoms))
    for tensor, was in zip((atoms.atomic_numbers, atoms.natoms, atoms.graph.vectors), before, strict=True):
        assert torch.equal(tensor, was)


@pytest.mark.parametrize("short", [(0, 0, 1), (1, -1, 1), (1, 0, 0), (-3, 9, 9)])
def test_overflow_is_refused(short: tuple[int, int, int]) -> None:
    atoms = atom_batch([molecule(), crystal()])
    size = Capacity.of(atoms)
    with pytest.raises(ValueError, match=f"a batch of {size.atoms} atoms, {size.edges} edges and 2 structures"):
        pad(atoms, larger(atoms, *short))


def test_rows_of_zeros() -> None:
    assert torch.equal(pad_rows(torch.ones(2, 3), 4), torch.tensor([[1.0] * 3, [1.0] * 3, [0.0] * 3, [0.0] * 3]))


def test_steps_of_the_ladder() -> None:
    ladder = sorted({step_up(size) for size in range(1, 129)})
    assert ladder == [1, 2, 3, 4, 6, 8, 11, 16, 23, 32, 45, 64, 91, 128]
    for size in range(1, 3000):
        assert size <= step_up(size) <= max(1.5 * size, 1)


@pytest.mark.parametrize("structures", [assorted(), [single_atom()], [slab()] * 3])
def test_rounded_capacity_takes_the_batch(structures: list[Atoms]) -> None:
    atoms = atom_batch(structures)
    size, capacity = Capacity.of(atoms), rounded_capacity(atoms)
    assert capacity.holds(size)
    for have, need in zip(astuple(capacity), astuple(size), strict=True):
        assert have <= 1.5 * (need + 1)
