"""Atoms brought into their cells, and the periodic copies of them that may lie within the cutoff of another.

A copy's coordinates are rounded once, here, and sums are written out term by term. So the distance of a pair has the
same bits whichever search finds it, alone or in a batch.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ev2_plugin.graph.structure_error import StructureError

ATOMS_TIMES_IMAGES = 1 << 19
"""Copies looked at together before those out of reach are dropped: bounds the memory."""


@dataclass(frozen=True)
class PeriodicSystems:
    """A batch of systems, every atom inside its cell.

    Attributes:
        wrapped: Positions within the cells in Å, [atoms, 3].
        home: The cell each atom was taken from, whole numbers, [atoms, 3].
        system: System of each atom, ascending, [atoms].
        lattices: Lattice vectors as rows in Å, completed to a basis, [systems, 3, 3].
        inverses: Their inverses in float64, [systems, 3, 3].
        images: Cells within the cutoff of a system's own one: whole numbers, ordered by system and then
            lexicographically, [images, 3].
        first_image: Images of system `s` are [s] : [s + 1], [systems + 1].
    """

    wrapped: Tensor
    home: Tensor
    system: Tensor
    lattices: Tensor
    inverses: Tensor
    images: Tensor
    first_image: Tensor


@dataclass(frozen=True)
class Copies:
    """Periodic copies of atoms, ordered by atom, then image.

    Attributes:
        points: Positions in Å, [copies, 3].
        atom: The atom that each is a copy of, [copies].
        image: The copy's cell, an index into `PeriodicSystems.images`, [copies].
        own: The copy in the own cell, of each atom, [atoms].
    """

    points: Tensor
    atom: Tensor
    image: Tensor
    own: Tensor


def periodic_systems(
    positions: Float[Tensor, "atoms 3"],
    cells: Float[Tensor, "systems 3 3"],
    pbc: Bool[Tensor, "systems 3"],
    natoms: Int[Tensor, " systems"],
    cutoff: float,
) -> PeriodicSystems:
    """Wrap positions and list the images within the cutoff.

    Args:
        positions: Positions in Å.
        cells: Lattice vectors as rows in Å; those of directions that are not periodic are not used.
        pbc: Periodic directions of each system.
        natoms: Atoms of each system.
        cutoff: Largest distance in Å.

    Raises:
        StructureError: If a periodic cell is singular or no numbers.
    """
    device = positions.device
    bases = _bases(cells.detach().cpu(), pbc.cpu())
    lattices = torch.where(pbc.unsqueeze(-1), cells, bases.to(cells))
    inverses = torch.linalg.inv(bases)
    reach = image_reach(inverses, pbc.cpu(), cutoff)
    per_system = [torch.cartesian_prod(*(torch.arange(-n, n + 1) for n in row)) for row in reach.tolist()]
    first_image = torch.tensor([0, *(len(images) for images in per_system)]).cumsum(0)

    system = torch.repeat_interleave(torch.arange(len(natoms), device=device), natoms, output_size=len(positions))
    with torch.no_grad():  # gradients of edge vectors go through positions and lattices, not through the search
        wrapped, home = wrap(positions, lattices[system], inverses.to(positions)[system], pbc[system])
    images, first_image = torch.cat(per_system).to(device), first_image.to(device)
    return PeriodicSystems(wrapped, home, system, lattices, inverses.to(device), images, first_image)


def image_reach(
    inverses: Float[Tensor, "systems 3 3"], pbc: Bool[Tensor, "systems 3"], cutoff: float
) -> Int[Tensor, "systems 3"]:
    """Cells within the cutoff along each axis.

    Args:
        inverses: Of the lattices.
        pbc: Periodic directions.
        cutoff: Largest distance in Å.
    """
    # |n + difference of fractional coordinates| <= cutoff * |reciprocal vector| bounds the images along each axis
    return torch.ceil(cutoff * torch.linalg.vector_norm(inverses, dim=1)).long() * pbc


def wrap(
    positions: Float[Tensor, "atoms 3"],
    lattices: Float[Tensor, "atoms 3 3"],
    inverses: Float[Tensor, "atoms 3 3"],
    pbc: Bool[Tensor, "atoms 3"],
) -> tuple[Float[Tensor, "atoms 3"], Float[Tensor, "atoms 3"]]:
    """Positions within the cells in Å, and the cells they were taken from.

    Args:
        positions: Positions in Å.
        lattices: Each atom's lattice vectors.
        inverses: Their inverses.
        pbc: Each atom's periodic directions.
    """
    home = torch.where(pbc, torch.floor(combination(positions, inverses)), 0)
    return positions - combination(home, lattices), home


def combination(coefficients: Float[Tensor, "*#n 3"], rows: Float[Tensor, "*#n 3 3"]) -> Float[Tensor, "*#n 3"]:
    """`coefficients @ rows` term by term, so that no value depends on how many are computed at once."""
    first, second, third = rows.unbind(dim=-2)
    return coefficients[..., :1] * first + coefficients[..., 1:2] * second + coefficients[..., 2:] * third


def squared_norm(vectors: Float[Tensor, "*shape 3"]) -> Float[Tensor, "*shape"]:
    """Squared lengths, added in the order of the axes."""
    x, y, z = vectors.unbind(dim=-1)
    return x * x + y * y + z * z


def image_offsets(systems: PeriodicSystems) -> Float[Tensor, "images 3"]:
    """Translation to each image in Å."""
    owners = torch.arange(len(systems.lattices), device=systems.images.device)
    owners = torch.repeat_interleave(owners, systems.first_image.diff(), output_size=len(systems.images))
    return combination(systems.images.to(systems.wrapped.dtype), systems.lattices[owners])


def copies_within(systems: PeriodicSystems, cutoff: float) -> Copies:
    """The copies that may lie within the cutoff of an atom: those in its system's bounding box widened by the cutoff.

    Args:
        systems: Wrapped atoms.
        cutoff: Largest distance in Å.
    """
    wrapped, system = systems.wrapped, systems.system
    offsets, counts = image_offsets(systems), systems.first_image.diff()
    index = system.unsqueeze(-1).expand(-1, 3)
    box = wrapped.new_empty(len(counts), 3)
    margin = cutoff * (1 + 1e-5) + 1e-5 * wrapped.abs().amax()  # wider than all roundings
    low = box.scatter_reduce(0, index, wrapped, "amin", include_self=False) - margin
    high = box.scatter_reduce(0, index, wrapped, "amax", include_self=False) + margin

    points, atoms, images = [], [], []
    per_atom = counts[system]
    step = max(1, ATOMS_TIMES_IMAGES // int(counts.max()))
    for start in range(0, len(wrapped), step):
        here = torch.arange(start, min(start + step, len(wrapped)), device=wrapped.device)
        count = per_atom[here]
        atom = torch.repeat_interleave(here, count)
        image = torch.arange(len(atom), device=atom.device) - (count.cumsum(0) - count)[atom - start]
        image += systems.first_image[system[atom]]
        point, owner = wrapped[atom] + offsets[image], system[atom]
        near = ((point >= low[owner]) & (point <= high[owner])).all(dim=-1).nonzero().squeeze(-1)
        points.append(point[near])
        atoms.append(atom[near])
        images.append(image[near])
    atom, image = torch.cat(atoms), torch.cat(images)
    own = ((systems.images == 0).all(dim=-1)[image]).nonzero().squeeze(-1)
    return Copies(torch.cat(points), atom, image, own)


def _bases(cells: Tensor, pbc: Tensor) -> Tensor:
    """The cells in float64, rows that are not periodic replaced by unit vectors that complete a basis; on the CPU."""
    bases = torch.where(pbc.unsqueeze(-1), cells.double(), torch.eye(3, dtype=torch.float64))
    directions = pbc.sum(dim=1)
    for system in ((directions == 1) | (directions == 2)).nonzero().flatten().tolist():
        # right singular vectors beyond the rank of the periodic rows are orthogonal to all of them
        _, _, right = torch.linalg.svd(bases[system, pbc[system]])
        bases[system, ~pbc[system]] = right[directions[system] :]
    volumes, scales = torch.linalg.det(bases).abs(), torch.linalg.vector_norm(bases, dim=-1).prod(dim=-1)
    singular = (~(volumes > 1e-6 * scales)).nonzero().flatten()  # also where they are NaN
    if len(singular):
        system = int(singular[0])
        cell = f"its cell {cells[system].tolist()}"
        if not torch.isfinite(cells[system, pbc[system]]).all():
            raise StructureError(system, f"{cell} must be finite numbers (Å)")
        raise StructureError(
            system,
            f"{cell} is singular for its periodic directions {pbc[system].tolist()}: give linearly independent "
            "lattice vectors (Å) or switch periodicity off",
        )
    return bases
