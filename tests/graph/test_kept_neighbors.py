"""Edges from kept candidates are those of a new search to the last bit, however the atoms move and batches change."""

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, fcc111
from torch import Tensor

from ev2_plugin.graph import EdgeGraph, NeighborRule, kept_edges, radius_graph
from ev2_plugin.graph.kept_neighbors import Geometry, KeptNeighbors
from helpers.structures import assorted, crystal, molecule, single_atom, slab, tensors, two_far_atoms, wire

strictness = pytest.mark.parametrize("strict", [True, False])


def batch_of(structures: list[Atoms], ids: str | list[str], dtype: torch.dtype = torch.float64) -> Geometry:
    _, positions, cells, pbc, natoms = tensors(structures, dtype)
    return Geometry(tuple(ids), positions, cells, pbc, natoms)


def moved(batch: Geometry, positions: Tensor) -> Geometry:
    return Geometry(batch.ids, positions, batch.cells, batch.pbc, batch.natoms)


def searched(batch: Geometry, rule: NeighborRule, method: str = "auto") -> EdgeGraph:
    return radius_graph(batch.positions, batch.cells, batch.pbc, batch.natoms, rule, method)


def assert_same(ours: EdgeGraph, reference: EdgeGraph) -> None:
    for name in ("senders", "receivers", "vectors"):
        assert torch.equal(getattr(ours, name), getattr(reference, name)), name
    assert ours.num_nodes == reference.num_nodes


def shapes() -> list[Atoms]:
    """Mixed periodicity, no edges, no atoms, ties, atoms outside their cells."""
    surface = fcc111("Cu", size=(2, 2, 3), vacuum=6.0, periodic=True)
    return [*assorted(), Atoms(), bulk("Cu"), surface, bulk("NaCl", "rocksalt", a=5.6)]


@strictness
@pytest.mark.parametrize("limit", [1, 12, 60])
@pytest.mark.parametrize("step", [1e-9, 0.02, 0.15, 1.0])
def test_random_walks(step: float, limit: int, strict: bool, dtype: torch.dtype) -> None:
    rng = np.random.default_rng(int(1e4 * step) + limit)
    rule, structures = NeighborRule(5.0, limit, strict), shapes()
    batch = batch_of(structures, "abcdefghij", dtype)
    neighbors = KeptNeighbors(rule)
    for _ in range(5):
        try:
            reference = searched(batch, rule)
        except ValueError as error:  # steps of 1 Å may bring two atoms together
            with pytest.raises(ValueError, match=str(error)[:20]):
                neighbors.graph(batch)
            return
        assert_same(neighbors.graph(batch), reference)
        shift = torch.tensor(rng.normal(scale=step, size=batch.positions.shape), dtype=dtype)
        batch = moved(batch, batch.positions + shift)
    calls = 5 * len(structures)
    assert neighbors.searched + neighbors.reused == calls
    if step <= 0.02:
        assert neighbors.reused > 0.9 * (calls - len(structures))
    else:
        assert neighbors.searched > 1.2 * len(structures)


def test_atoms_that_cross_the_faces_of_their_cells() -> None:
    rule, neighbors = NeighborRule(6.0, 9), KeptNeighbors(NeighborRule(6.0, 9), skin=3.0)
    batch = batch_of([crystal(), slab(), wire()], "csw")
    direction = torch.tensor([0.8, -0.5, 0.9], dtype=torch.float64)
    fractions = []
    for number in range(12):
        here = moved(batch, batch.positions + 0.04 * number * direction)
        assert_same(neighbors.graph(here), searched(here, rule, "all_pairs"))
        fractions.append(torch.floor(here.positions[:2] @ torch.linalg.inv(here.cells[0])))
    assert any(not torch.equal(fractions[0], one) for one in fractions)  # some did cross
    assert neighbors.searched == 3


def test_shaking_on_a_face() -> None:
    """The cell an atom is taken to be in flips from call to call by rounding alone."""
    atoms = bulk("Cu", cubic=True)
    rule, neighbors = NeighborRule(2 * 3.61, 18, strict=False), KeptNeighbors(NeighborRule(2 * 3.61, 18, strict=False))
    batch, rng = batch_of([atoms], "c"), np.random.default_rng(0)
    for _ in range(20):
        here = moved(batch, batch.positions + torch.tensor(rng.choice([-1e-16, 0, 1e-16, -1e-15], (4, 3))))
        assert_same(neighbors.graph(here), searched(here, rule, "all_pairs"))
    assert (neighbors.searched, neighbors.reused) == (1, 19)


def test_an_atom_that_comes_from_afar_is_seen() -> None:
    atoms = Atoms("ArXe", positions=[[0, 0, 0], [0, 0, 9.0]])
    neighbors = KeptNeighbors(NeighborRule(5.0, 20), skin=0.5)
    batch, edges = batch_of([atoms], "a"), []
    for height in np.arange(9.0, 3.0, -0.2):
        positions = batch.positions.clone()
        positions[1, 2] = height
        edges.append(len(neighbors.graph(moved(batch, positions)).senders))
    assert edges == [0] * edges.count(0) + [2] * edges.count(2)
    assert edges.count(2) == sum(np.arange(9.0, 3.0, -0.2) <= 5.0)
    assert neighbors.reused > 3


@strictness
def test_members_come_and_go(strict: bool) -> None:
    rng, rule = np.random.default_rng(4), NeighborRule(5.0, 7, strict)
    neighbors = KeptNeighbors(rule)
    everyone = dict(zip("abcdefghij", shapes(), strict=True))
    present: list[str] = list("abc")
    new_ones = 0
    for _ in range(15):
        if rng.random() < 0.5:
            before = set(present)
            present = sorted(rng.choice(list(everyone), size=rng.integers(1, 8), replace=False).tolist())
            rng.shuffle(present)
            new_ones += len(set(present) - before)
        for name in present:
            everyone[name].positions += rng.normal(scale=0.002, size=everyone[name].positions.shape)
        batch = batch_of([everyone[name] for name in present], present)
        assert_same(neighbors.graph(batch), searched(batch, rule))
    assert neighbors.searched == 3 + new_ones  # those that were away are searched for anew
    assert neighbors.present is not None
    assert neighbors.present.ids == tuple(present)


def test_a_name_is_no_proof() -> None:
    """Another structure under the same name, another cell, another periodicity: what is kept is not used."""
    rule, neighbors = NeighborRule(5.0, 7), KeptNeighbors(NeighborRule(5.0, 7))
    other_atoms, stretched, open_sides, swapped = slab(), slab(), slab(), slab()
    other_atoms.positions[0] += 3.0
    stretched.cell[0, 0] += 1e-6
    open_sides.pbc = [True, False, False]
    swapped.positions = swapped.positions[::-1]
    for atoms in (slab(), molecule(), slab(), other_atoms, slab(), stretched, slab(), open_sides, slab(), swapped):
        batch = batch_of([atoms], "a")
        assert_same(neighbors.graph(batch), searched(batch, rule))
    assert neighbors.reused == 0


def test_twice_the_same_name() -> None:
    rule, neighbors = NeighborRule(5.0, 7), KeptNeighbors(NeighborRule(5.0, 7))
    first, second = slab(), slab()
    second.rattle(0.5, seed=9)
    batch = batch_of([first, second], "aa")
    for _ in range(3):
        assert_same(neighbors.graph(batch), searched(batch, rule))


def approaching_pairs() -> tuple[Geometry, Tensor]:
    """Two pairs of atoms, out of reach of each other, and how they move to be nearer than their own partners are."""
    atoms = Atoms("HHeLiBe", positions=[[0, 1, 0], [0, 0, 0], [1.55, 0, 0], [1.55, 1, 0]])
    towards = torch.tensor([[0.3], [0.3], [-0.3], [-0.3]]) * torch.tensor([1.0, 0, 0])
    return batch_of([atoms], "a"), towards.double()


def test_atoms_that_move_towards_each_other() -> None:
    rule, neighbors = NeighborRule(5.0, 1), KeptNeighbors(NeighborRule(5.0, 1), skin=0.5)
    batch, towards = approaching_pairs()
    assert neighbors.graph(batch).senders.tolist() == [1, 0, 3, 2]
    near = moved(batch, batch.positions + towards)
    assert searched(near, rule).senders.tolist() == [3, 2, 1, 0]
    assert_same(neighbors.graph(near), searched(near, rule))


def test_positions_written_over_in_place() -> None:
    rule, neighbors = NeighborRule(5.0, 1), KeptNeighbors(NeighborRule(5.0, 1), skin=0.5)
    batch, towards = approaching_pairs()
    neighbors.graph(batch)
    batch.positions.add_(towards)
    assert_same(neighbors.graph(batch), searched(batch, rule))


@pytest.mark.parametrize("atom", range(2, 42, 4))
def test_a_crowd_within_the_skin(atom: int) -> None:
    """More candidates than a search asks for at first: any one of them may become the nearest."""
    turn = np.arange(40) * np.pi * (3 - np.sqrt(5))
    height = 1 - (2 * np.arange(40) + 1) / 40
    shell = 1.4 * np.stack(
        (np.sqrt(1 - height**2) * np.cos(turn), np.sqrt(1 - height**2) * np.sin(turn), height), axis=1
    )
    batch = batch_of([Atoms("H42", positions=[[0, 0, 0], [0.6, 0.6, 0.53], *shell])], "a")
    rule, neighbors = NeighborRule(5.0, 1), KeptNeighbors(NeighborRule(5.0, 1), skin=0.5)
    neighbors.graph(batch)
    here = batch.positions.clone()
    here[1] *= 1.24
    here[atom] *= 1.16 / 1.4
    graph = neighbors.graph(moved(batch, here))
    assert int(graph.senders[0]) == atom
    assert_same(graph, searched(moved(batch, here), rule))


def test_an_image_beyond_those_that_a_search_lists() -> None:
    """Its distance rounds to the cutoff, but a search for the cutoff does not look as far."""
    position = [np.nextafter(4.0, 0), 3.9, 0]
    atoms = Atoms("H2", positions=[[0, 0, 0], position], cell=[[4, 1.3, 0], [0, 4, 0], [0, 0, 4]], pbc=True)
    batch, rule = batch_of([atoms], "a"), NeighborRule(8.0, 1000)
    assert_same(KeptNeighbors(rule).graph(batch), searched(batch, rule, "all_pairs"))


def test_counting_serves_the_next_batch() -> None:
    rule, neighbors = NeighborRule(5.0, 7), KeptNeighbors(NeighborRule(5.0, 7))
    first = batch_of([slab(), wire()], "sw")
    neighbors.graph(first)
    others = [batch_of([atoms], name) for name, atoms in (("m", molecule()), ("o", single_atom()))]
    for one in others:
        assert neighbors.count(one) == [len(searched(one, rule).senders)]
    assert neighbors.count(first) == [len(searched(batch_of([atoms], "x"), rule).senders) for atoms in (slab(), wire())]
    assert neighbors.searched == 4
    both = batch_of([wire(), molecule(), slab(), single_atom()], "wmso")
    assert_same(neighbors.graph(both), searched(both, rule))
    assert neighbors.searched == 4
    assert not neighbors.ahead


def test_single_precision_far_from_the_origin() -> None:
    """Roundings of positions are larger than the skin: nothing is reused, nothing is wrong."""
    far, rule = slab(), NeighborRule(5.0, 7)
    far.pbc = False
    batch = batch_of([far], "f", torch.float32)
    here, neighbors = moved(batch, batch.positions + 1e5), KeptNeighbors(rule, skin=0.05)
    for _ in range(3):
        assert_same(neighbors.graph(here), searched(here, rule))
    assert neighbors.searched == 3


def test_no_atoms_at_all() -> None:
    rule, neighbors = NeighborRule(5.0, 7), KeptNeighbors(NeighborRule(5.0, 7))
    for structures, ids in (([Atoms()], "a"), ([Atoms(), Atoms()], "ab"), ([slab(), Atoms()], "sa"), ([Atoms()], "a")):
        batch = batch_of(structures, ids)
        assert_same(neighbors.graph(batch), searched(batch, rule))
        assert neighbors.count(batch)[-1] == 0


def test_another_precision_starts_anew() -> None:
    rule, neighbors = NeighborRule(5.0, 7), KeptNeighbors(NeighborRule(5.0, 7))
    for dtype in (torch.float64, torch.float32, torch.float64):
        batch = batch_of([slab()], "a", dtype)
        assert_same(neighbors.graph(batch), searched(batch, rule))
    assert neighbors.searched == 3


def test_small_groups_of_atoms(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_edges, "MEMBERS", 50)
    rule, neighbors = NeighborRule(5.0, 7), KeptNeighbors(NeighborRule(5.0, 7))
    batch = batch_of(assorted(), "abcdef")
    for _ in range(2):
        assert_same(neighbors.graph(batch), searched(batch, rule))


@pytest.mark.parametrize("step", [0.0, 0.3])
def test_what_a_search_refuses_is_refused(step: float) -> None:
    rule, neighbors = NeighborRule(5.0, 7), KeptNeighbors(NeighborRule(5.0, 7))
    atoms = slab()
    batch = batch_of([molecule(), atoms], "ma")
    neighbors.graph(moved(batch, batch.positions + step))
    together = batch.positions.clone()
    together[7] = together[8] + 0.001
    with pytest.raises(ValueError, match=r"structure 1 of the batch: atoms 1 and 2 are 0.0017 Å apart"):
        neighbors.graph(moved(batch, together))
    with pytest.raises(ValueError, match="must be finite numbers"):
        neighbors.graph(moved(batch, batch.positions * torch.nan))
    singular = Geometry(
        batch.ids, batch.positions, batch.cells * torch.tensor([[1.0, 1.0, 0.0]]).T, batch.pbc, batch.natoms
    )
    singular.cells[1, 1] = singular.cells[1, 0]
    with pytest.raises(ValueError, match="structure 1 of the batch: its cell .* is singular"):
        neighbors.graph(singular)
    assert_same(neighbors.graph(batch), searched(batch, rule))


def test_refused_settings() -> None:
    with pytest.raises(ValueError, match="skin must be a positive distance in Å, got 0"):
        KeptNeighbors(NeighborRule(5.0, 7), skin=0.0)
    lacking = batch_of([two_far_atoms()], "t")
    with pytest.raises(ValueError, match="natoms adds up to 3 atoms, but there are 2 positions"):
        KeptNeighbors(NeighborRule(5.0, 7)).graph(
            Geometry(lacking.ids, lacking.positions, lacking.cells, lacking.pbc, lacking.natoms + 1)
        )


@pytest.mark.gpu
@strictness
def test_on_a_gpu(strict: bool) -> None:
    rule, rng = NeighborRule(5.0, 7, strict), np.random.default_rng(1)
    neighbors, batch = KeptNeighbors(rule), batch_of(shapes(), "abcdefghij")
    for _ in range(6):
        there = Geometry(batch.ids, batch.positions.cuda(), batch.cells.cuda(), batch.pbc.cuda(), batch.natoms.cuda())
        ours, reference = neighbors.graph(there), searched(there, rule)
        assert_same(ours, reference)
        batch = moved(batch, batch.positions + torch.tensor(rng.normal(scale=0.01, size=batch.positions.shape)))
    assert neighbors.reused > 30
