"""Every form of the neighbour search gives the edges of all pairs, to the last bit."""

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, fcc111
from torch import Tensor
from torch_geometric.data import Data

from ev2_plugin.graph import EdgeGraph, NeighborRule, candidates, cell_list, kd_tree, neighbors, radius_graph
from ev2_plugin.graph.periodic import copies_within, periodic_systems
from helpers.structures import assorted, crystal, molecule, slab, tensors, wire

methods = pytest.mark.parametrize("method", ["kd_tree", "cell_list"])
strictness = pytest.mark.parametrize("strict", [True, False])


def same(ours: EdgeGraph, reference: EdgeGraph) -> bool:
    """Equal in every bit and in the order of the edges."""
    return all(
        torch.equal(getattr(ours, name), getattr(reference, name)) for name in ("senders", "receivers", "vectors")
    )


def inputs(*structures: Atoms, dtype: torch.dtype = torch.float64) -> tuple[Tensor, ...]:
    return tensors(structures, dtype)[1:]


def random_systems(rng: np.random.Generator) -> list[Atoms]:
    """Up to four systems of up to thirteen atoms, none included, cells small and skewed, any periodicity."""
    systems = []
    for _ in range(rng.integers(1, 5)):
        cell = np.zeros((3, 3))
        while abs(np.linalg.det(cell)) < 8:
            cell = rng.normal(size=(3, 3)) * rng.uniform(1.5, 7)
        scaled = rng.uniform(-1.5, 2.5, (rng.integers(0, 14), 3))
        systems.append(Atoms("H" * len(scaled), scaled_positions=scaled, cell=cell, pbc=rng.integers(0, 2, 3)))
    return systems


def outcome(*arguments: object) -> EdgeGraph | str:
    try:
        return radius_graph(*arguments)
    except ValueError as error:
        return str(error)


@methods
@pytest.mark.parametrize("seed", range(24))
def test_random_systems(method: str, seed: int, dtype: torch.dtype) -> None:
    rng = np.random.default_rng(seed)
    edges = 0
    for _ in range(3):
        arrays = inputs(*random_systems(rng), dtype=dtype)
        rule = NeighborRule(float(rng.uniform(1, 7)), int(rng.integers(1, 40)), bool(rng.integers(0, 2)))
        reference = outcome(*arrays, rule, "all_pairs")
        ours = outcome(*arrays, rule, method)
        if isinstance(reference, str) or isinstance(ours, str):  # two random atoms may coincide
            assert ours == reference
            continue
        assert same(ours, reference)
        edges += len(reference.senders)
    assert edges


@methods
@strictness
@pytest.mark.parametrize("limit", [1, 11, 12, 13, 17, 18, 20, 41, 42, 200, 1000])
def test_crystals_full_of_ties(method: str, strict: bool, limit: int, dtype: torch.dtype) -> None:
    surface = fcc111("Cu", size=(3, 3, 3), vacuum=6.0)
    arrays = inputs(bulk("Cu"), bulk("Cu", cubic=True), surface, bulk("NaCl", "rocksalt", a=5.6), dtype=dtype)
    rule = NeighborRule(8.0, limit, strict)
    assert same(radius_graph(*arrays, rule, method), radius_graph(*arrays, rule, "all_pairs"))


@methods
@strictness
def test_atoms_in_thin_surroundings_beside_a_dense_crystal(method: str, strict: bool) -> None:
    dense = bulk("Cu", cubic=True).repeat(3)
    dense.rattle(0.05, seed=1)
    cell = dense.cell.array.copy()
    cell[2, 2] += 40
    sparse = Atoms("Ar3", positions=[[2, 2, 30], [2, 9, 36], [8, 3, 24]])
    both = Atoms(
        np.concatenate((sparse.numbers, dense.numbers)),
        positions=np.concatenate((sparse.positions, dense.positions)),
        cell=cell,
        pbc=True,
    )
    arrays, rule = inputs(both, molecule(), dtype=torch.float32), NeighborRule(12.0, 20, strict)
    graph = radius_graph(*arrays, rule, method)
    assert same(graph, radius_graph(*arrays, rule, "all_pairs"))
    assert graph.row_pointers.diff()[3 : 3 + len(dense)].min() >= 20


@methods
@pytest.mark.parametrize("pbc", [False, (True, False, False), True])
@pytest.mark.parametrize("far", [1e3, 1e6])
def test_atoms_far_apart(method: str, pbc: bool | tuple[bool, ...], far: float) -> None:
    positions = [[0.0, 0, 0], [1, 0, 0], [far, far, far], [far, far + 1, far]]
    atoms = Atoms("H4", positions=positions, cell=[5, far + 10, far + 10], pbc=pbc)
    graph = radius_graph(*inputs(atoms), NeighborRule(3.0, 20), method)
    assert graph.senders.tolist() == [1, 0, 3, 2]
    assert same(graph, radius_graph(*inputs(atoms), NeighborRule(3.0, 20), "all_pairs"))


@methods
@strictness
def test_batch_is_its_systems(method: str, strict: bool) -> None:
    rule, structures = NeighborRule(5.0, 7, strict), [*assorted(), Atoms(), slab()]
    batch = radius_graph(*inputs(*structures), rule, method)
    parts = [radius_graph(*inputs(atoms), rule, method) for atoms in structures]
    assert torch.equal(batch.vectors, torch.cat([part.vectors for part in parts]))
    assert torch.equal(batch.row_pointers.diff(), torch.cat([part.row_pointers.diff() for part in parts]))


@methods
def test_same_edges_every_time_and_in_small_groups(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    arrays, rule = inputs(crystal(), slab(), wire(), dtype=torch.float32), NeighborRule(12.0, 20, strict=False)
    once = radius_graph(*arrays, rule, method)
    assert same(once, radius_graph(*arrays, rule, method))
    for module in (cell_list, kd_tree):
        monkeypatch.setattr(module, "MEMBERS", 50)
    assert same(once, radius_graph(*arrays, rule, method))


@methods
def test_order_of_the_atoms(method: str) -> None:
    atoms, rule = slab(), NeighborRule(7.0, 9)
    order = np.random.default_rng(3).permutation(len(atoms))
    graph, other = (radius_graph(*inputs(a), rule, method) for a in (atoms, atoms[order]))

    def edges(graph: EdgeGraph, names: np.ndarray) -> set[tuple[float, ...]]:
        ends = np.stack((names[graph.senders], names[graph.receivers]), axis=1)
        return set(map(tuple, np.concatenate((ends, graph.vectors.numpy().round(6) + 0.0), axis=1).tolist()))

    assert edges(other, order) == edges(graph, np.arange(len(atoms)))


def test_five_thousand_atoms_by_brute_force() -> None:
    rng, side, limit = np.random.default_rng(5), 45.0, 20
    # no two distances of random points are equal, and the cutoff is below half the cell: one image of each suffices
    grid = np.stack(np.meshgrid(*[np.arange(18)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)[:5000]
    positions = grid * side / 18 + rng.uniform(-0.9, 0.9, (5000, 3))
    atoms = Atoms("H5000", positions=positions, cell=[side] * 3, pbc=True)
    graph, other = (radius_graph(*inputs(atoms), NeighborRule(12.0, limit), m) for m in ("kd_tree", "cell_list"))
    assert same(graph, other)
    assert graph.row_pointers.diff().tolist() == [limit] * 5000
    for start in range(0, 5000, 500):
        apart = positions[start : start + 500, None] - positions
        squared = np.square(apart - side * np.round(apart / side)).sum(axis=-1)
        squared[np.arange(500), np.arange(start, start + 500)] = np.inf
        expected = np.sort(np.argpartition(squared, limit, axis=1)[:, :limit], axis=1)
        np.testing.assert_array_equal(graph.senders.view(5000, limit)[start : start + 500].numpy(), expected)


@methods
@strictness
def test_against_the_host_at_its_own_cutoff(method: str, strict: bool) -> None:
    host = pytest.importorskip("fairchem.core.common.utils")
    atoms = bulk("Cu", cubic=True).repeat((3, 2, 2))
    atoms.set_cell(atoms.cell.array @ [[1, 0.1, 0], [0, 1, -0.2], [0.05, 0, 1]], scale_atoms=True)
    atoms.rattle(0.2, seed=4)
    atoms.wrap()
    _, positions, cells, pbc, natoms = tensors([atoms], torch.float32)
    data = Data(pos=positions, cell=cells, natoms=natoms, pbc=pbc[0])
    edge_index, images, _ = host.radius_graph_pbc(data, 12.0, 20, enforce_max_neighbors_strictly=strict)
    expected = set(map(tuple, torch.cat((edge_index.T, images.long()), dim=1).tolist()))
    graph = radius_graph(positions, cells, pbc, natoms, NeighborRule(12.0, 20, strict), method)
    offsets = graph.vectors - positions[graph.senders] + positions[graph.receivers]
    images = (offsets @ torch.linalg.inv(cells[0])).round().long()
    ours = torch.cat((torch.stack((graph.senders, graph.receivers), dim=1), images), dim=1)
    assert set(map(tuple, ours.tolist())) == expected
    assert len(ours) == len(expected) >= 20 * len(atoms)


@methods
@pytest.mark.parametrize("repeats", [5, 9])
def test_candidates_do_not_grow_with_the_system(method: str, repeats: int) -> None:
    atoms = bulk("Cu", cubic=True).repeat(repeats)  # 500 and 2916 atoms; 12 Å hold some 600 others
    atoms.rattle(0.1, seed=1)
    arrays = inputs(atoms, dtype=torch.float32)
    systems = periodic_systems(*arrays, 12.0)
    copies = copies_within(systems, 12.0)
    search = neighbors.search_form(method, torch.device("cpu"))(systems, copies, 12.0)
    groups = list(search(torch.arange(len(atoms)), 33))
    assert torch.equal(torch.cat([group.receivers for group in groups]), torch.arange(len(atoms)))
    held = sum(int((group.copies < len(copies.points)).sum()) for group in groups)
    assert 20 * len(atoms) < held < 60 * len(atoms)
    assert all(group.copies.numel() <= candidates.MEMBERS for group in groups)
    box = np.prod(atoms.cell.lengths() + 24) / atoms.get_volume()
    assert len(copies.points) <= 1.1 * box * len(atoms)


@methods
def test_gradients(method: str) -> None:
    _, positions, cells, pbc, natoms = tensors([slab(), crystal()])
    rule, weights = NeighborRule(5.0, 12), None
    gradients = []
    for form in (method, "all_pairs"):
        leaves = [positions.clone().requires_grad_(), cells.clone().requires_grad_()]
        vectors = radius_graph(leaves[0], leaves[1], pbc, natoms, rule, form).vectors
        weights = torch.randn(vectors.shape, dtype=vectors.dtype) if weights is None else weights
        gradients.append(torch.autograd.grad((vectors.square() * weights).sum(), leaves))
    for ours, reference in zip(*gradients, strict=True):
        assert ours.abs().max() > 0.1
        torch.testing.assert_close(ours, reference)


def test_no_atoms_at_all() -> None:
    graph = radius_graph(*inputs(Atoms(), Atoms()), NeighborRule(5.0, 10))
    assert graph.vectors.shape == (0, 3)
    assert graph.num_nodes == 0


def test_methods_that_cannot_serve() -> None:
    with pytest.raises(ValueError, match="positions are on cuda:0: use method='cell_list'"):
        neighbors.search_form("kd_tree", torch.device("cuda", 0))
    assert neighbors.search_form("auto", torch.device("cuda", 0)) is cell_list.cell_list_search
    assert neighbors.search_form("auto", torch.device("cpu")) is kd_tree.kd_tree_search


@pytest.mark.gpu
@strictness
def test_gpu_finds_the_edges_of_the_cpu(strict: bool, dtype: torch.dtype) -> None:
    arrays, rule = inputs(*assorted(), slab(), dtype=dtype), NeighborRule(9.0, 20, strict)
    expected = radius_graph(*arrays, rule)
    graph, again = (radius_graph(*(array.cuda() for array in arrays), rule) for _ in range(2))
    assert same(graph, again)
    assert torch.equal(graph.senders.cpu(), expected.senders)
    assert torch.equal(graph.receivers.cpu(), expected.receivers)
    torch.testing.assert_close(graph.vectors.cpu(), expected.vectors)
