"""The host's batches."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from fairchem.core.preprocessing import AtomsToGraphs
from torch import Tensor
from torch_geometric.data import Batch

from ev2_plugin.graph.structure_error import StructureError
from ev2_plugin.integration.config import HostOptions
from ev2_plugin.integration.reading import read_batch
from ev2_plugin.model.batch import AtomBatch
from helpers.structures import (
    TINY,
    assorted,
    atom_batch,
    crystal,
    host_batch,
    molecule,
    single_atom,
    slab,
    two_far_atoms,
    wire,
)

PERIODIC = [slab(), crystal()]


def read(data: Any, dtype: torch.dtype = torch.float32, config=TINY, **options: bool) -> AtomBatch:
    return read_batch(data, config, HostOptions(**options), dtype)


def assert_same(ours: AtomBatch, expected: AtomBatch) -> None:
    assert torch.equal(ours.atomic_numbers, expected.atomic_numbers)
    assert torch.equal(ours.natoms, expected.natoms)
    assert torch.equal(ours.graph.senders, expected.graph.senders)
    assert torch.equal(ours.graph.receivers, expected.graph.receivers)
    torch.testing.assert_close(ours.graph.vectors, expected.graph.vectors)


def test_structures_of_mixed_periodicity(dtype: torch.dtype) -> None:
    assert_same(read(host_batch(assorted(), dtype), dtype), atom_batch(assorted(), TINY, dtype))


@pytest.mark.parametrize(
    ("data_dtype", "model_dtype"), [(torch.float64, torch.float32), (torch.float32, torch.float64)]
)
def test_vectors_take_the_dtype_of_the_model(data_dtype: torch.dtype, model_dtype: torch.dtype) -> None:
    atoms = read(host_batch(assorted(), data_dtype), model_dtype)
    assert atoms.graph.vectors.dtype == model_dtype
    expected = atom_batch(assorted(), TINY, data_dtype)
    assert torch.equal(atoms.graph.vectors, expected.graph.vectors.to(model_dtype))


def test_cell_in_another_precision_than_the_positions() -> None:
    data = host_batch(PERIODIC)
    data.cell = data.cell.double()
    assert_same(read(data), atom_batch(PERIODIC, TINY, torch.float32))


@pytest.mark.parametrize("shape", [(6,), (2, 3), (2, 1, 3)])
@pytest.mark.parametrize("kind", [torch.bool, torch.int64, torch.float32])
def test_every_collated_form_of_pbc(shape: tuple[int, ...], kind: torch.dtype) -> None:
    flags = torch.tensor([[True, True, False], [True, True, True]])
    assert_same(read(host_batch(PERIODIC, pbc=flags.to(kind).view(shape))), atom_batch(PERIODIC, TINY, torch.float32))


def test_batch_of_the_hosts_own_converter() -> None:
    structures = [slab(), molecule(), single_atom(), wire(), two_far_atoms()]
    converter = AtomsToGraphs(r_pbc=True, r_edges=False)
    batch = Batch.from_data_list([converter.convert(atoms) for atoms in structures])
    assert_same(read(batch), atom_batch(structures, TINY, torch.float32))


def test_data_without_flags_is_periodic_in_all_directions() -> None:
    everywhere = [Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=True) for atoms in PERIODIC]
    data = host_batch(PERIODIC)
    del data.pbc
    assert_same(read(data), atom_batch(everywhere, TINY, torch.float32))


def test_periodicity_switched_off() -> None:
    nowhere = [Atoms(atoms.numbers, atoms.positions) for atoms in PERIODIC]
    assert_same(read(host_batch(PERIODIC), use_pbc=False), atom_batch(nowhere, TINY, torch.float32))


def test_no_cell_is_needed_without_periodicity() -> None:
    data = host_batch([molecule(), molecule()])
    del data.cell
    assert_same(read(data), atom_batch([molecule(), molecule()], TINY, torch.float32))


def given_edges(structures: list[Atoms]) -> tuple[Any, AtomBatch]:
    """A batch that brings its edges in the host's way, shuffled, and the graph they describe."""
    expected, data = atom_batch(structures, TINY, torch.float32), host_batch(structures)
    graph = expected.graph
    structure_of = expected.batch[graph.receivers]
    cells = np.stack([atoms.cell.array for atoms in structures])[structure_of]
    offsets = graph.vectors - data.pos[graph.senders] + data.pos[graph.receivers]
    images = torch.tensor(np.einsum("ei,eij->ej", offsets, np.linalg.inv(cells))).round()
    torch.manual_seed(0)
    # edges of one structure stay together, as collation leaves them
    order = torch.argsort(structure_of + torch.rand(len(structure_of)) / 2)
    data.edge_index = torch.stack((graph.senders, graph.receivers))[:, order]
    data.cell_offsets = images[order]
    data.neighbors = torch.bincount(structure_of, minlength=len(structures))
    return data, expected


def sorted_edges(atoms: AtomBatch) -> Tensor:
    graph = atoms.graph
    rows = torch.cat((graph.receivers[:, None], graph.senders[:, None], graph.vectors.round(decimals=3)), dim=1)
    return torch.tensor(sorted(rows.tolist()))


def test_given_edges() -> None:
    data, expected = given_edges(PERIODIC)
    atoms = read(data, otf_graph=False)
    assert (atoms.graph.receivers.diff() >= 0).all()
    torch.testing.assert_close(sorted_edges(atoms), sorted_edges(expected), atol=2e-3, rtol=0)


def test_given_edges_are_used_as_they_are() -> None:
    data, _ = given_edges(PERIODIC)
    data.edge_index, data.cell_offsets = data.edge_index[:, :5], data.cell_offsets[:5]
    data.neighbors = torch.tensor([5, 0])
    assert len(read(data, otf_graph=False).graph.senders) == 5
    assert len(read(data, otf_graph=True).graph.senders) > 5


def test_given_edge_of_length_zero() -> None:
    data, _ = given_edges(PERIODIC)
    data.edge_index[:, 3], data.cell_offsets[3] = data.edge_index[0, 3], 0
    atom = int(data.edge_index[0, 3])
    with pytest.raises(ValueError, match=f"edge 3 from atom {atom} to atom {atom} is not longer than 0.01 Å"):
        read(data, otf_graph=False)


@pytest.mark.parametrize("key", ["pos", "natoms", "atomic_numbers", "cell"])
def test_missing_key(key: str) -> None:
    data = host_batch(PERIODIC)
    delattr(data, key)
    with pytest.raises(ValueError, match=f"the batch has no '{key}'; it has: .*(pos|cell)"):
        read(data)


@pytest.mark.parametrize("key", ["edge_index", "neighbors"])
def test_missing_edges(key: str) -> None:
    data, _ = given_edges(PERIODIC)
    delattr(data, key)
    with pytest.raises(ValueError, match=f"the batch has no '{key}'"):
        read(data, otf_graph=False)


@pytest.mark.parametrize("otf_graph", [True, False])
def test_element_above_the_table(otf_graph: bool) -> None:
    data, _ = given_edges(PERIODIC)
    with pytest.raises(ValueError, match=r"atom 0 has atomic number 29, .* end at 19 \(max_num_elements=20\)"):
        read(data, config=replace(TINY, max_num_elements=20), otf_graph=otf_graph)


def test_wrong_number_of_flags() -> None:
    with pytest.raises(ValueError, match=r"three flags for each of 2 structures, got shape \[3\]"):
        read(host_batch(PERIODIC, pbc=torch.tensor([True, True, False])))


def test_empty_batch() -> None:
    data = host_batch([molecule()])
    data.pos, data.atomic_numbers, data.natoms = data.pos[:0], data.atomic_numbers[:0], data.natoms[:0]
    with pytest.raises(ValueError, match="the batch holds no atoms"):
        read(data)


def test_batch_is_left_alone() -> None:
    data, _ = given_edges(PERIODIC)
    before = data.clone().to_dict()
    for otf_graph in (True, False):
        read(data, otf_graph=otf_graph)
    after = data.to_dict()
    assert set(after) == set(before)
    assert all(torch.equal(after[key], value) for key, value in before.items() if isinstance(value, Tensor))


@pytest.mark.parametrize("otf_graph", [True, False])
def test_autocast_does_not_touch_the_geometry(otf_graph: bool) -> None:
    """Half precision would move edges by as much as the narrow Gaussians of the basis are wide."""
    data, _ = given_edges(PERIODIC)
    expected = read(data, otf_graph=otf_graph)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        atoms = read(data, otf_graph=otf_graph)
    assert torch.equal(atoms.graph.senders, expected.graph.senders)
    assert torch.equal(atoms.graph.vectors, expected.graph.vectors)


def test_given_edges_that_cannot_be_right() -> None:
    data, _ = given_edges(PERIODIC)
    data.pos[1, 2] = float("nan")
    with pytest.raises(ValueError, match="position of atom 1 is .*nan"):
        read(data, otf_graph=False)
    data, _ = given_edges(PERIODIC)
    data.edge_index[0, 4] = 1000
    with pytest.raises(ValueError, match=f"edge_index names atom 1000, but there are {len(data.pos)} atoms"):
        read(data, otf_graph=False)
    data, _ = given_edges(PERIODIC)
    data.neighbors[0] += 1
    edges = data.edge_index.shape[1]
    with pytest.raises(ValueError, match=f"neighbors adds up to {edges + 1} edges, but edge_index has {edges}"):
        read(data, otf_graph=False)


def test_what_is_wrong_is_said_with_the_names_of_the_structure() -> None:
    data, _ = given_edges(PERIODIC)
    first = int(data.natoms[0])
    data.sid, data.fid = torch.tensor([17, 4]), [3, 9]
    data.pos[first + 1] = data.pos[first]
    message = r"structure 1 of the batch \(sid 4, fid 9\): atoms 0 and 1 are 0.0000 Å apart"
    with pytest.raises(StructureError, match=message):
        read(data)
    data.pos[first + 1, 2] = float("inf")
    for otf_graph in (True, False):
        with pytest.raises(StructureError, match=r"\(sid 4, fid 9\): position of atom 1 is .*inf"):
            read(data, otf_graph=otf_graph)


def test_cells_that_are_no_numbers_beside_given_edges() -> None:
    data, _ = given_edges(PERIODIC)
    data.cell[1, 2, 2] = float("nan")
    with pytest.raises(StructureError, match="structure 1 of the batch: its cell .*nan.* must be finite numbers"):
        read(data, otf_graph=False)
