"""Batches brought to a fixed size, for what can only be done at fixed sizes.

Everything added is a ghost: atoms of one further structure, and edges among those atoms alone. No message passes
between a ghost and a real atom, so the results of the real ones are what they are without padding.
"""

from __future__ import annotations

from dataclasses import astuple, dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ev2_plugin.graph.edge_graph import EdgeGraph
from ev2_plugin.model.batch import AtomBatch

GHOST_VECTOR = (0.6, 0.48, 0.64)
"""A ghost edge, in Å: of length 1, so that it has a frame."""


@dataclass(frozen=True)
class Capacity:
    """How many atoms, edges and structures a batch has, or is padded to."""

    atoms: int
    edges: int
    structures: int

    @staticmethod
    def of(atoms: AtomBatch) -> Capacity:
        """What a batch holds."""
        return Capacity(len(atoms.atomic_numbers), len(atoms.graph.senders), atoms.num_graphs)

    def holds(self, size: Capacity) -> bool:
        """Whether a batch of that size can be padded to this one, with room for the ghosts' structure and an atom."""
        return size.atoms < self.atoms and size.edges <= self.edges and size.structures < self.structures


def pad(atoms: AtomBatch, capacity: Capacity) -> AtomBatch:
    """Add ghosts until the batch has the sizes of `capacity`.

    Args:
        atoms: Structures with their edges.
        capacity: Sizes wanted.

    Returns:
        The structures, empty ones, and one that holds the ghost atoms; the ghost edges follow the real ones and are
        shared evenly among the ghost atoms.

    Raises:
        ValueError: If the batch is too large: nothing is ever cut off.
    """
    size = Capacity.of(atoms)
    if not capacity.holds(size):
        raise ValueError(
            f"a batch of {size.atoms} atoms, {size.edges} edges and {size.structures} structures does not fit a "
            f"capacity of {capacity.atoms}, {capacity.edges} and {capacity.structures}: the ghosts need an atom and a "
            "structure of their own; give a larger capacity"
        )
    graph, device = atoms.graph, atoms.natoms.device
    ghosts, ghost_edges = capacity.atoms - size.atoms, capacity.edges - size.edges
    ends = torch.arange(ghost_edges, device=device) * ghosts // max(ghost_edges, 1) + size.atoms
    vector = graph.vectors.new_empty(ghost_edges, 3)
    for axis, component in enumerate(GHOST_VECTOR):  # by number, for a list would have to be copied to the device
        vector[:, axis] = component
    natoms = pad_rows(atoms.natoms, capacity.structures)
    natoms[-1] = ghosts
    return AtomBatch(
        pad_rows(atoms.atomic_numbers, capacity.atoms),
        natoms,
        EdgeGraph(
            torch.cat((graph.senders, ends)),
            torch.cat((graph.receivers, ends)),
            torch.cat((graph.vectors, vector)),
            capacity.atoms,
        ),
    )


def pad_rows(values: Float[Tensor, "rows ..."] | Tensor, rows: int) -> Tensor:
    """The same rows and zeros after them, `rows` in all."""
    return torch.cat((values, values.new_zeros(rows - len(values), *values.shape[1:])))


def step_up(size: int) -> int:
    """The next power of the square root of 2, as an integer: sizes from 1 to a million have forty of them."""
    step = 0
    while (rounded := round(2 ** (step / 2))) < size:
        step += 1
    return rounded


def rounded_capacity(atoms: AtomBatch) -> Capacity:
    """The smallest capacity of a few that takes the batch: at most 1.5 times its atoms, edges and structures."""
    size = Capacity.of(atoms)
    return Capacity(*map(step_up, astuple(Capacity(size.atoms + 1, size.edges, size.structures + 1))))
