import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, fcc100, molecule

from ev2_plugin.data.metadata import (
    DatasetMetadata,
    compute_metadata,
    count_edges,
    read_metadata,
    write_metadata,
)
from ev2_plugin.data.structures import structure_to_data
from ev2_plugin.graph import NeighborRule, radius_graph


def wide_slab() -> Atoms:
    slab = fcc100("Ag", (2, 3, 3), vacuum=5.0)
    slab.pbc = True
    slab.positions += [40.0, -25.0, 3.0]  # outside the cell
    return slab


def boxed_molecule() -> Atoms:
    water = molecule("H2O", vacuum=4.0)
    water.pbc = (True, False, False)
    return water


@pytest.mark.parametrize("cutoff", [1.2, 3.0, 5.0, 9.0])
@pytest.mark.parametrize(
    "atoms", [bulk("Cu"), bulk("Fe", cubic=True), wide_slab(), boxed_molecule()], ids=lambda atoms: str(atoms.symbols)
)
def test_edges_are_those_of_the_model(atoms, cutoff):
    data = structure_to_data(atoms, sid=0)
    everything = NeighborRule(cutoff, max_neighbors=10**6)
    pos, cell = data.pos.double(), data.cell.double()
    graph = radius_graph(pos, cell, data.pbc, torch.tensor([data.natoms]), everything)
    assert count_edges(data, cutoff, 10**6) == len(graph.senders)


def test_no_atom_counts_more_edges_than_it_may_receive():
    data = structure_to_data(bulk("Cu", cubic=True), sid=0)
    assert count_edges(data, 2.7, 100) == 4 * 12
    assert count_edges(data, 2.7, 5) == 4 * 5


def test_means_are_per_structure_and_per_atom():
    metadata = DatasetMetadata(natoms=np.array([2, 8]), neighbors=np.array([10, 50]))
    assert metadata.mean_degree == 6.0


def test_the_file_keeps_order_and_integers(tmp_path, make_data):
    lone = structure_to_data(Atoms("H", cell=[9, 9, 9]), sid=1)
    written = compute_metadata([make_data(), lone], cutoff=3.0, max_neighbors=20)
    path = write_metadata(tmp_path, written)
    assert [file.name for file in tmp_path.iterdir()] == ["metadata.npz"] == [path.name]
    read = read_metadata(tmp_path)
    assert read.natoms.tolist() == [9, 1]
    assert read.neighbors.tolist() == [count_edges(make_data(), 3.0, 20), 0]
    assert np.issubdtype(read.natoms.dtype, np.integer)


def test_nothing_to_measure_is_an_error():
    with pytest.raises(ValueError, match="no structures to measure"):
        compute_metadata([], cutoff=3.0, max_neighbors=20)


def test_a_file_without_edges_is_refused(tmp_path):
    np.savez(tmp_path / "metadata.npz", natoms=[1])
    with pytest.raises(ValueError, match="lacks neighbors"):
        read_metadata(tmp_path)
