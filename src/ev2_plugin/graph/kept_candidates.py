"""Neighbours that were found, and those beyond them that may come nearer: enough for the edges of moved atoms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from ev2_plugin.graph.candidates import Candidates, search_until, squared_distances
from ev2_plugin.graph.neighbor_limit import NeighborRule, nearest
from ev2_plugin.graph.neighbors import FIRST_WIDTH, SPARE, search_form
from ev2_plugin.graph.periodic import Copies, PeriodicSystems, copies_within, image_reach, periodic_systems


@dataclass(frozen=True)
class OfStructures:
    """What the search was made in, rows are structures.

    Attributes:
        cells: As they were given, in Å, [structures, 3, 3].
        pbc: Periodic directions, [structures, 3].
        natoms: Atoms, [structures].
        lattices: Lattice vectors as rows in Å, completed to a basis, [structures, 3, 3].
        inverses: Their inverses, [structures, 3, 3].
        reach: Cells within the cutoff along each axis, [structures, 3].
    """

    cells: Tensor
    pbc: Tensor
    natoms: Tensor
    lattices: Tensor
    inverses: Tensor
    reach: Tensor


@dataclass(frozen=True)
class OfAtoms:
    """What the search found around each atom, in the order of sender and image.

    Attributes:
        positions: Where the atoms were, in Å, [atoms, 3].
        complete: Every copy nearer than this (Å) is among the candidates, [atoms].
        count: Candidates of each atom, the first of its row, [atoms].
        senders: Index within the structure, [atoms, width].
        translations: Whole lattice vectors that take the sender, not wrapped, to the copy, [atoms, width, 3].
    """

    positions: Tensor
    complete: Tensor
    count: Tensor
    senders: Tensor
    translations: Tensor


@dataclass(frozen=True)
class KeptCandidates:
    """Candidates around every atom of some structures.

    Attributes:
        ids: Name of each structure.
        natoms: Its atoms, as the host knows them.
        structures: Per structure.
        atoms: Per atom, of all structures one after the other.
    """

    ids: tuple[str, ...]
    natoms: tuple[int, ...]
    structures: OfStructures
    atoms: OfAtoms

    @property
    def names(self) -> list[tuple[str, int]]:
        """Name and number of atoms of each structure."""
        return list(zip(self.ids, self.natoms, strict=True))

    def select(self, which: Sequence[int]) -> KeptCandidates:
        """Some of the structures, in the order asked for."""
        chosen = torch.tensor(which, dtype=torch.long, device=self.structures.natoms.device)
        natoms = tuple(self.natoms[index] for index in which)
        rows = rows_of(self.structures.natoms, chosen, sum(natoms))
        positions, complete, count, senders, translations = (value[rows] for value in _values(self.atoms))
        width = max(1, int(count.max())) if len(count) else 1
        return KeptCandidates(
            tuple(self.ids[index] for index in which),
            natoms,
            OfStructures(*(value[chosen] for value in _values(self.structures))),
            OfAtoms(positions, complete, count, senders[:, :width], translations[:, :width]),
        )


def rows_of(natoms: Int[Tensor, " structures"], which: Int[Tensor, " chosen"], total: int) -> Int[Tensor, " atoms"]:
    """Indices of the atoms of some structures.

    Args:
        natoms: Atoms of each structure.
        which: Structures, in the order wanted.
        total: Their atoms.
    """
    starts, counts = (natoms.cumsum(0) - natoms)[which], natoms[which]
    shift = starts - (counts.cumsum(0) - counts)
    return torch.arange(total, device=natoms.device) + torch.repeat_interleave(shift, counts, output_size=total)


def join_kept(parts: Sequence[KeptCandidates]) -> KeptCandidates:
    """Several as one."""
    width = max(part.atoms.senders.shape[1] for part in parts)
    widened = [
        OfAtoms(
            part.atoms.positions,
            part.atoms.complete,
            part.atoms.count,
            F.pad(part.atoms.senders, (0, width - part.atoms.senders.shape[1])),
            F.pad(part.atoms.translations, (0, 0, 0, width - part.atoms.senders.shape[1])),
        )
        for part in parts
    ]
    return KeptCandidates(
        sum((part.ids for part in parts), ()),
        sum((part.natoms for part in parts), ()),
        OfStructures(*map(torch.cat, zip(*(_values(part.structures) for part in parts), strict=True))),
        OfAtoms(*map(torch.cat, zip(*(_values(part) for part in widened), strict=True))),
    )


def find_candidates(
    ids: tuple[str, ...],
    positions: Float[Tensor, "atoms 3"],
    cells: Float[Tensor, "structures 3 3"],
    pbc: Bool[Tensor, "structures 3"],
    natoms: Int[Tensor, " structures"],
    rule: NeighborRule,
    skin: float,
) -> KeptCandidates:
    """Search for what the edges of these positions need and what lies within the skin beyond.

    Args:
        ids: Name of each structure.
        positions: Positions in Å.
        cells: Lattice vectors as rows, in Å.
        pbc: Periodic directions.
        natoms: Atoms of each structure.
        rule: Cutoff and neighbour limit.
        skin: In Å.

    Raises:
        StructureError: If a periodic cell is singular or no numbers.
    """
    positions, cells, pbc = positions.clone(), cells.clone(), pbc.clone()  # the caller's may be written over
    wide = NeighborRule(rule.cutoff + skin, rule.max_neighbors, rule.strict)
    systems = periodic_systems(positions, cells, pbc, natoms, wide.cutoff)
    reach = image_reach(systems.inverses, pbc, rule.cutoff)
    structures = OfStructures(cells, pbc, natoms, systems.lattices, systems.inverses.to(positions), reach)
    if len(positions):
        atoms = _around_atoms(positions, systems, natoms, rule, wide)
    else:
        none = torch.zeros(0, 1, dtype=torch.long, device=positions.device)
        atoms = OfAtoms(positions, positions.new_zeros(0), none[:, 0], none, positions.new_zeros(0, 1, 3))
    return KeptCandidates(ids, tuple(natoms.tolist()), structures, atoms)


def _around_atoms(
    positions: Tensor, systems: PeriodicSystems, natoms: Tensor, rule: NeighborRule, wide: NeighborRule
) -> OfAtoms:
    copies = copies_within(systems, wide.cutoff)
    search = search_form("auto", positions.device)(systems, copies, wide.cutoff)
    complete = torch.empty(len(positions), dtype=positions.dtype, device=positions.device)
    parts: list[tuple[Tensor, Tensor]] = []

    def examine(found: Candidates) -> Tensor:
        squared = squared_distances(found, systems.wrapped, copies, wide.cutoff)
        _, last = nearest(squared, wide)
        needed = last.sqrt().clamp(max=rule.cutoff) + (wide.cutoff - rule.cutoff)
        done = (needed.square() < found.complete) | torch.isinf(found.complete)
        row, place = ((squared <= needed.square().unsqueeze(1)) & done.unsqueeze(1)).nonzero(as_tuple=True)
        parts.append((found.receivers[row], found.copies[row, place]))
        complete[found.receivers[done]] = needed[done]
        return done

    everyone = torch.arange(len(positions), device=positions.device)
    search_until(search, everyone, min(2 * (1 + rule.max_neighbors + SPARE), FIRST_WIDTH), examine)
    receivers, members = (torch.cat(tensors) for tensors in zip(*parts, strict=True))
    order = torch.argsort(receivers, stable=True)
    return _in_rows(positions, complete, receivers[order], members[order], systems, copies, natoms)


def _in_rows(
    positions: Tensor,
    complete: Tensor,
    receivers: Tensor,
    members: Tensor,
    systems: PeriodicSystems,
    copies: Copies,
    natoms: Tensor,
) -> OfAtoms:
    """Candidates, ascending in receiver and copy, in rows of equal length."""
    count = torch.bincount(receivers, minlength=len(positions))
    width = max(1, int(count.max()))
    slot = torch.arange(len(receivers), device=positions.device) - (count.cumsum(0) - count)[receivers]
    atom = copies.atom[members]
    first = (natoms.cumsum(0) - natoms)[systems.system[receivers]]
    senders = torch.zeros(len(positions), width, dtype=torch.long, device=positions.device)
    senders[receivers, slot] = atom - first
    translations = torch.zeros(len(positions), width, 3, dtype=positions.dtype, device=positions.device)
    translations[receivers, slot] = systems.images[copies.image[members]] - systems.home[atom] + systems.home[receivers]
    return OfAtoms(positions, complete, count, senders, translations)


def _values(table: OfStructures | OfAtoms) -> list[Tensor]:
    return [getattr(table, field.name) for field in fields(table)]
