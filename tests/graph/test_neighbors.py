import functools

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk
from ase.geometry import complete_cell
from ase.neighborlist import neighbor_list
from fairchem.core.common.utils import radius_graph_pbc
from torch_geometric.data import Data

from ev2_plugin.graph import EdgeGraph, NeighborRule, radius_graph
from ev2_plugin.graph.neighbors import SearchMethod
from ev2_plugin.graph.structure_error import StructureError
from helpers.structures import assorted, crystal, molecule, single_atom, slab, tensors, two_far_atoms, wire

EVERYTHING = 10_000


def graph_of(*structures: Atoms, rule: NeighborRule, dtype: torch.dtype = torch.float64) -> EdgeGraph:
    return radius_graph(*tensors(structures, dtype)[1:], rule)


def edges_of(graph: EdgeGraph, structures: list[Atoms]) -> set[tuple[int, ...]]:
    """(sender, receiver, periodic image of the sender) of every edge, recovered from the vectors."""
    positions = np.concatenate([atoms.positions for atoms in structures])
    inverses = np.concatenate([[np.linalg.inv(complete_cell(atoms.cell))] * len(atoms) for atoms in structures])
    senders, receivers = graph.senders.numpy(), graph.receivers.numpy()
    offsets = graph.vectors.double().numpy() - positions[senders] + positions[receivers]
    images = np.einsum("ei,eij->ej", offsets, inverses[receivers])
    np.testing.assert_allclose(images, images.round(), atol=1e-4)
    edges = set(zip(senders.tolist(), receivers.tolist(), *images.round().astype(int).T.tolist(), strict=True))
    assert len(edges) == len(senders)
    return edges


def reference_edges(atoms: Atoms, rule: NeighborRule, start: int = 0) -> set[tuple[int, ...]]:
    """The same by ASE's cell lists and a loop over the receivers."""
    receivers, senders, images, distances = neighbor_list("ijSd", atoms, rule.cutoff)
    edges = set()
    for receiver in range(len(atoms)):
        mine = sorted(np.flatnonzero(receivers == receiver), key=lambda edge: distances[edge])
        if len(mine) > rule.max_neighbors:
            limit = distances[mine[rule.max_neighbors]] ** 2 + 0.01
            within = len(mine) if not rule.strict else rule.max_neighbors
            mine = [edge for edge in mine[:within] if rule.strict or distances[edge] ** 2 <= limit]
        edges |= {(int(senders[e]) + start, receiver + start, *map(int, images[e])) for e in mine}
    return edges


def skewed(pbc: tuple[bool, bool, bool]) -> Atoms:
    cell = [[3.1, 0.2, -0.4], [2.9, 4.2, 0.3], [-1.5, 1.9, 5.0]]
    scaled = np.random.default_rng(0).uniform(-1.6, 2.4, (4, 3))
    return Atoms("HHeLiBe", scaled_positions=scaled, cell=cell, pbc=pbc)


def small_cell() -> Atoms:
    return Atoms("Po", positions=[[0.1, 7.0, -3.0]], cell=[[1.9, 0, 0], [0.4, 2.1, 0], [0.2, -0.3, 2.3]], pbc=True)


CASES = {
    "slab": slab(),
    "crystal": crystal(),
    "molecule": molecule(),
    "wire": wire(),
    "single atom": single_atom(),
    "far atoms": two_far_atoms(),
    "cell much smaller than the cutoff": small_cell(),
    "skewed": skewed((True, True, True)),
    "skewed, xy": skewed((True, True, False)),
    "skewed, xz": skewed((True, False, True)),
    "skewed, y": skewed((False, True, False)),
    "skewed, none": skewed((False, False, False)),
}
each_case = pytest.mark.parametrize("atoms", CASES.values(), ids=CASES)
several = pytest.mark.parametrize("name", ["slab", "crystal", "skewed", "skewed, xz", "molecule"])
limits = pytest.mark.parametrize("limit", [1, 4, 9, 20])


@each_case
@pytest.mark.parametrize("cutoff", [2.3, 6.0])
def test_edges_against_ase(atoms: Atoms, cutoff: float) -> None:
    rule = NeighborRule(cutoff, EVERYTHING)
    graph = graph_of(atoms, rule=rule)
    assert edges_of(graph, [atoms]) == reference_edges(atoms, rule)
    assert graph.num_nodes == len(atoms)
    assert (graph.receivers.diff() >= 0).all()
    assert ((graph.distances > 0) & (graph.distances <= cutoff)).all()


@each_case
def test_vectors_point_from_receiver_to_sender(atoms: Atoms) -> None:
    receivers, senders, vectors = neighbor_list("ijD", atoms, 5.0)
    graph = graph_of(atoms, rule=NeighborRule(5.0, EVERYTHING))
    ours = np.column_stack((graph.senders, graph.receivers, graph.vectors))
    theirs = np.column_stack((senders, receivers, vectors))
    order = [np.lexsort(edges.round(6).T) for edges in (ours, theirs)]
    np.testing.assert_allclose(ours[order[0]], theirs[order[1]], atol=1e-10)


def receivers_cut_through_a_tie(atoms: Atoms, limit: int) -> set[int]:
    """Receivers whose nearest `limit` neighbours are not defined: images at +n and -n are equally far."""
    receivers, distances = neighbor_list("id", atoms, 6.0)
    tied = set()
    for receiver in range(len(atoms)):
        mine = np.sort(distances[receivers == receiver])
        if len(mine) > limit and mine[limit] - mine[limit - 1] < 1e-4:
            tied.add(receiver)
    return tied


@pytest.mark.parametrize("strict", [True, False])
@several
@limits
def test_neighbour_limit_against_a_loop(name: str, limit: int, strict: bool) -> None:
    atoms, rule = CASES[name], NeighborRule(6.0, limit, strict)
    tied = receivers_cut_through_a_tie(atoms, limit) if strict else set()
    graph = graph_of(atoms, rule=rule)
    ours, expected = edges_of(graph, [atoms]), reference_edges(atoms, rule)
    assert {edge for edge in ours if edge[1] not in tied} == {edge for edge in expected if edge[1] not in tied}
    assert len(ours) == len(expected)
    distances = neighbor_list("id", atoms, 6.0)
    for receiver in tied:  # which of the tied ones is free, how far they are is not
        nearest = np.sort(distances[1][distances[0] == receiver])[:limit]
        np.testing.assert_allclose(graph.distances[graph.receivers == receiver].sort().values, nearest)


@pytest.mark.parametrize("strict", [True, False])
@several
@limits
def test_against_the_host(name: str, limit: int, strict: bool) -> None:
    atoms = CASES[name].copy()
    atoms.set_cell(complete_cell(atoms.cell))  # the host inverts it even when nothing is periodic
    atoms.wrap()  # the host misses images of atoms far outside their cell
    data = Data(
        pos=torch.tensor(atoms.positions, dtype=torch.float32),
        cell=torch.tensor(atoms.cell.array, dtype=torch.float32).view(1, 3, 3),
        natoms=torch.tensor([len(atoms)]),
        pbc=torch.tensor(atoms.pbc),
    )
    edge_index, images, _ = radius_graph_pbc(data, 6.0, limit, enforce_max_neighbors_strictly=strict)
    host = set(map(tuple, torch.cat((edge_index.T, images.long()), dim=1).tolist()))
    tied = receivers_cut_through_a_tie(atoms, limit) if strict else set()
    ours = edges_of(graph_of(atoms, rule=NeighborRule(6.0, limit, strict), dtype=torch.float32), [atoms])
    assert {edge for edge in ours if edge[1] not in tied} == {edge for edge in host if edge[1] not in tied}
    assert len(ours) == len(host)


def test_strict_limit_is_exact_and_loose_limit_keeps_ties() -> None:
    atoms = bulk("Cu", cubic=True)  # shells of 12, 6, 24 neighbours
    count = functools.partial(graph_of, atoms)
    for limit, loose in ((5, 12), (12, 18), (13, 18), (18, 42)):
        strict = count(rule=NeighborRule(6.0, limit, strict=True))
        assert strict.row_pointers.diff().tolist() == [limit] * 4
        ties = count(rule=NeighborRule(6.0, limit, strict=False))
        assert ties.row_pointers.diff().tolist() == [loose] * 4


def test_tolerance_of_ties_is_on_the_square() -> None:
    distances = [2.0, 3.0, (9 + 0.009) ** 0.5, (9 + 0.011) ** 0.5]
    # the first on +x, the others along other axes; the second is the first beyond the limit
    axes = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, -1]])
    atoms = Atoms("H5", positions=np.concatenate((np.zeros((1, 3)), axes * np.array(distances)[:, None])))
    graph = graph_of(atoms, rule=NeighborRule(5.0, 1, strict=False))
    assert graph.senders[graph.receivers == 0].tolist() == [1, 2, 3]


def test_ties_are_broken_the_same_way_every_time() -> None:
    atoms, rule = bulk("Cu", cubic=True), NeighborRule(6.0, 7)
    first, again = graph_of(atoms, rule=rule), graph_of(atoms, rule=rule)
    assert torch.equal(first.senders, again.senders)
    assert torch.equal(first.vectors, again.vectors)


@pytest.mark.parametrize("strict", [True, False])
def test_batch_is_its_systems(strict: bool) -> None:
    rule, start = NeighborRule(5.0, 7, strict), 0
    structures = assorted()
    batch = graph_of(*structures, rule=rule)
    parts = [graph_of(atoms, rule=rule) for atoms in structures]
    senders, receivers = [], []
    for atoms, part in zip(structures, parts, strict=True):
        senders.append(part.senders + start)
        receivers.append(part.receivers + start)
        start += len(atoms)
    assert torch.equal(batch.senders, torch.cat(senders))
    assert torch.equal(batch.receivers, torch.cat(receivers))
    assert torch.equal(batch.vectors, torch.cat([part.vectors for part in parts]))
    assert batch.num_nodes == start


def test_cell_of_directions_that_are_not_periodic_is_not_used() -> None:
    atoms, rule = slab(), NeighborRule(5.0, 30)
    other = atoms.copy()
    other.set_cell([*atoms.cell[:2], [0, 0, 0]])
    torch.testing.assert_close(graph_of(atoms, rule=rule).vectors, graph_of(other, rule=rule).vectors)


@pytest.mark.parametrize("atoms", [single_atom(), two_far_atoms()])
def test_no_edges(atoms: Atoms, dtype: torch.dtype) -> None:
    graph = graph_of(atoms, rule=NeighborRule(5.0, 10), dtype=dtype)
    assert graph.senders.shape == graph.receivers.shape == graph.distances.shape == (0,)
    assert graph.vectors.shape == (0, 3)
    assert graph.vectors.dtype == dtype
    assert graph.row_pointers.tolist() == [0] * (len(atoms) + 1)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_position_that_is_no_number(value: float) -> None:
    atoms = molecule()
    atoms.positions[3, 1] = value
    with pytest.raises(ValueError, match=f"structure 1 of the batch: position of atom 3 is .*{value}.*finite"):
        graph_of(molecule(), atoms, rule=NeighborRule(5.0, 10))


@pytest.mark.parametrize(
    ("cell", "pbc"),
    [
        (np.zeros((3, 3)), [True, True, True]),
        ([[1, 0, 0], [0, 1, 0], [1, 1, 0]], [True, True, True]),
        ([[3, 0, 0], [6, 0, 0], [0, 0, 1]], [True, True, False]),
        ([[0, 0, 0], [0, 1, 0], [0, 0, 1]], [True, False, False]),
    ],
)
def test_singular_cell(cell: list, pbc: list[bool]) -> None:
    positions = molecule().positions[:2]
    numbers = tensors([molecule()])[4]
    with pytest.raises(ValueError, match="structure 1 of the batch: its cell .* is singular"):
        radius_graph(
            torch.tensor(np.concatenate((molecule().positions, positions))),
            torch.stack((torch.eye(3), torch.tensor(np.array(cell, dtype=np.float32)))).double(),
            torch.tensor([[False] * 3, pbc]),
            torch.cat((numbers, torch.tensor([2]))),
            NeighborRule(3.0, 10),
        )


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_cell_that_is_no_number_is_not_called_singular(value: float) -> None:
    whole, broken = crystal(), crystal()
    inputs = tensors([whole, broken])
    inputs[2][1, 1, 2] = value
    with pytest.raises(StructureError, match=rf"structure 1 of the batch: its cell .*{value}.* must be finite numbers"):
        radius_graph(*inputs[1:], NeighborRule(5.0, 10))
    inputs[3][1] = torch.tensor([True, False, True])
    radius_graph(*inputs[1:], NeighborRule(5.0, 10))  # a vector that is not used may be anything


@pytest.mark.parametrize("method", ["all_pairs", "kd_tree", "cell_list"])
@pytest.mark.parametrize("swapped", [[1, 0, 2], [0, 2, 1], [2, 1, 0]])
def test_a_left_handed_cell_has_the_neighbours_that_ase_finds(swapped: list[int], method: SearchMethod) -> None:
    atoms = crystal()
    atoms.set_cell(atoms.cell.array[swapped])
    assert np.linalg.det(atoms.cell.array) < 0
    rule = NeighborRule(5.0, EVERYTHING)
    graph = radius_graph(*tensors([atoms])[1:], rule, method)
    assert edges_of(graph, [atoms]) == reference_edges(atoms, rule)


def test_coincident_atoms() -> None:
    atoms = molecule()
    atoms.positions[4] = atoms.positions[2] + 0.005
    with pytest.raises(ValueError, match=r"structure 1 of the batch: atoms 2 and 4 are 0.0087 Å apart"):
        graph_of(molecule(), atoms, rule=NeighborRule(5.0, 10))


def test_atom_coincident_with_a_periodic_image_of_another() -> None:
    atoms = wire()
    atoms.positions[1] = atoms.positions[0] + 3 * atoms.cell[1]
    with pytest.raises(ValueError, match="structure 0 of the batch: atoms 0 and 1 are 0.0000 Å apart"):
        graph_of(atoms, rule=NeighborRule(5.0, 10))


def test_numbers_of_atoms_that_do_not_add_up() -> None:
    _, positions, cells, pbc, natoms = tensors([molecule()])
    with pytest.raises(ValueError, match="natoms adds up to 5 atoms, but there are 6 positions"):
        radius_graph(positions, cells, pbc, natoms - 1, NeighborRule(5.0, 10))
    with pytest.raises(ValueError, match="natoms adds up to 8 atoms, but there are 6 positions"):
        radius_graph(positions, cells, pbc, natoms + 2, NeighborRule(5.0, 10))


@pytest.mark.parametrize(
    ("cutoff", "max_neighbors", "message"),
    [
        (0.0, 10, "positive distance in Å, got 0.0"),
        (-1.0, 10, "positive distance in Å, got -1.0"),
        (float("nan"), 10, "positive distance in Å, got nan"),
        (5.0, 0, "max_neighbors must be at least 1, got 0"),
    ],
)
def test_wrong_rule(cutoff: float, max_neighbors: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        NeighborRule(cutoff, max_neighbors)


def test_inputs_are_left_alone() -> None:
    inputs = tensors(assorted())
    before = [tensor.clone() for tensor in inputs]
    radius_graph(*inputs[1:], NeighborRule(5.0, 10))
    assert all(torch.equal(a, b) for a, b in zip(inputs, before, strict=True))
