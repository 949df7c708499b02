"""Structures as the model takes them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ev2_plugin.graph.edge_graph import EdgeGraph
from ev2_plugin.graph.neighbors import SearchMethod, radius_graph
from ev2_plugin.graph.structure_error import StructureError, place_of_atom
from ev2_plugin.model.config import ModelConfig
from ev2_plugin.nn.atom_share import ALL_ATOMS, AtomShare


@dataclass(frozen=True)
class AtomBatch:
    """A batch of structures with their edges.

    Attributes:
        atomic_numbers: [atoms].
        natoms: Atoms of each structure, [structures].
        graph: Edges into own atoms: those that this process computes, which are all unless it shares the batch.
    """

    atomic_numbers: Tensor
    natoms: Tensor
    graph: EdgeGraph

    @property
    def share(self) -> AtomShare:
        """Own atoms."""
        return ALL_ATOMS

    @property
    def num_graphs(self) -> int:
        """Number of structures."""
        return len(self.natoms)

    @property
    def batch(self) -> Tensor:
        """Structure of each own atom, [own]."""
        structures = torch.arange(self.num_graphs, device=self.natoms.device)
        return self.share.own(torch.repeat_interleave(structures, self.natoms, output_size=len(self.atomic_numbers)))


def check_elements(
    atomic_numbers: Int[Tensor, " atoms"], natoms: Int[Tensor, " structures"], max_num_elements: int
) -> None:
    """Refuse what is no element, and elements without a row in the embedding tables.

    Args:
        atomic_numbers: Elements.
        natoms: Atoms of each structure.
        max_num_elements: Rows of the tables.

    Raises:
        StructureError: Naming the first such atom.
    """
    outside = (atomic_numbers < 1) | (atomic_numbers >= max_num_elements)
    if outside.any():
        first = int(outside.nonzero()[0])
        place, atom = place_of_atom(first, natoms)
        number = int(atomic_numbers[first])
        if number < 1:
            raise StructureError(place, f"atom {atom} has atomic number {number}: elements are counted from 1")
        raise StructureError(
            place,
            f"atom {atom} has atomic number {number}, but the model's tables end at {max_num_elements - 1} "
            f"(max_num_elements={max_num_elements}): it was not trained for this element",
        )


def build_batch(
    atomic_numbers: Int[Tensor, " atoms"],
    positions: Float[Tensor, "atoms 3"],
    cells: Float[Tensor, "structures 3 3"],
    pbc: Bool[Tensor, "structures 3"],
    natoms: Int[Tensor, " structures"],
    config: ModelConfig,
) -> AtomBatch:
    """Find the neighbours of every atom.

    Args:
        atomic_numbers: Elements.
        positions: Positions in Å.
        cells: Lattice vectors as rows, in Å.
        pbc: Periodic directions of each structure.
        natoms: Atoms of each structure.
        config: Cutoff, neighbour limit, table size and backend: `reference` compares all pairs, the edges are the same.

    Raises:
        StructureError: If an element is outside the tables or `radius_graph` refuses the geometry.
    """
    check_elements(atomic_numbers, natoms, config.max_num_elements)
    method: SearchMethod = "all_pairs" if config.backend == "reference" else "auto"
    graph = radius_graph(positions, cells, pbc, natoms, config.neighbor_rule, method)
    return AtomBatch(atomic_numbers, natoms, graph)
