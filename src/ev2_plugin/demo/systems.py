"""Adsorbates on metal and alloy surfaces: what the demo's dataset is made of.

Every random choice comes from one generator, so a seed names a list of systems.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from ase import Atoms
from ase.build import fcc100, fcc111
from ase.constraints import FixAtoms
from ase.data import atomic_numbers, covalent_radii, reference_states

METALS = ("Al", "Ni", "Cu", "Pd", "Ag", "Pt", "Au")
FACETS = {"111": fcc111, "100": fcc100}
SITES = {
    "111": {"fcc": (1 / 3, 1 / 3), "hcp": (2 / 3, 2 / 3), "bridge": (1 / 2, 0.0)},
    "100": {"hollow": (1 / 2, 1 / 2), "bridge": (1 / 2, 0.0)},
}
"""Places in units of the nearest-neighbour vectors of a facet, counted from an atom of the top layer."""
CELLS = ((2, 2, 3), (3, 2, 3), (2, 2, 4))  # atoms along both surface vectors, layers
MINORITY_FRACTIONS = (0.0, 0.25, 0.5)  # pure, A3B, AB
FREE_LAYERS = 2
VACUUM = 7.0  # Å on either side, more than twice the reach of any edge

ADSORBATES = {
    "H": Atoms("H"),
    "C": Atoms("C"),
    "N": Atoms("N"),
    "O": Atoms("O"),
    "CO": Atoms("CO", [(0, 0, 0), (0, 0, 1.16)]),
    "OH": Atoms("OH", [(0, 0, 0), (0, 0, 1.20)]),
}
"""Adsorbates by name, the atom that binds to the surface first, bond lengths near EMT's own [Å]."""

CONTACT_RADII = {"H": 0.95, "C": 0.76, "N": 0.75, "O": 0.88}
"""What an atom adds to the covalent radius of a metal to give EMT's distance between them [Å], about."""


@dataclass(frozen=True)
class Substrate:
    """A slab before relaxation.

    Attributes:
        host: Symbol of the majority element, whose lattice constant is mixed with the other's.
        guest: Symbol of the minority element; equal to `host` for a pure metal.
        fraction: Share of `guest` in every layer.
        facet: "111" or "100".
        cell: Atoms along the two surface vectors, and layers.
        sites: Places of the guest atoms, one tuple of positions within the layer for each layer.
    """

    host: str
    guest: str
    fraction: float
    facet: str
    cell: tuple[int, int, int]
    sites: tuple[tuple[int, ...], ...]

    @property
    def name(self) -> str:
        """Composition and facet, for instance `Pt3Ni(111)`."""
        if self.fraction == 0.0:
            return f"{self.host}({self.facet})"
        majority = {0.25: "3", 0.5: ""}[self.fraction]
        return f"{self.host}{majority}{self.guest}({self.facet})"


@dataclass(frozen=True)
class AdsorbateSystem:
    """One adsorbate placed on one substrate.

    Attributes:
        sid: Number of the system.
        substrate: The slab.
        adsorbate: Key of `ADSORBATES`.
        site: Key of `SITES` for the substrate's facet, near which the binding atom starts.
        offset: Displacement from the site within the surface [Å].
        lift: Distance [Å] added to that of contact (`CONTACT_RADII`).
        tilt: Angle [degrees] between the adsorbate's axis and the surface normal.
        turn: Angle [degrees] of the tilted axis about the normal.
    """

    sid: int
    substrate: Substrate
    adsorbate: str
    site: str
    offset: tuple[float, float]
    lift: float
    tilt: float
    turn: float

    @property
    def name(self) -> str:
        """Adsorbate and substrate, for instance `CO on Pt3Ni(111)`."""
        return f"{self.adsorbate} on {self.substrate.name}"


def draw_systems(count: int, rng: np.random.Generator) -> list[AdsorbateSystem]:
    """Draw systems, no two with the same adsorbate on the same substrate.

    Args:
        count: How many.
        rng: Source of every choice.

    Returns:
        Systems numbered from 0; adsorbates take turns, so that every stretch of the list holds them evenly.

    Raises:
        ValueError: If `count` is not positive.
    """
    if count < 1:
        raise ValueError(f"the number of systems must be positive, not {count}")
    names = sorted(ADSORBATES)
    systems: list[AdsorbateSystem] = []
    seen: set[tuple[str, Substrate]] = set()
    while len(systems) < count:
        adsorbate = names[len(systems) % len(names)]
        substrate = _draw_substrate(rng)
        site = str(rng.choice(sorted(SITES[substrate.facet])))
        offset = (float(rng.uniform(-0.2, 0.2)), float(rng.uniform(-0.2, 0.2)))
        lift, tilt, turn = (float(rng.uniform(*span)) for span in ((0.0, 0.4), (40.0, 80.0), (0.0, 360.0)))
        if (adsorbate, substrate) in seen:
            continue
        seen.add((adsorbate, substrate))
        systems.append(AdsorbateSystem(len(systems), substrate, adsorbate, site, offset, lift, tilt, turn))
    return systems


def build_slab(substrate: Substrate) -> Atoms:
    """Build a slab with its bottom layers fixed.

    Args:
        substrate: What to build.

    Returns:
        The slab, periodic in all directions; tags are 1 in the `FREE_LAYERS` upper layers and 0 in the fixed
        ones below.
    """
    constants = [reference_states[atomic_numbers[symbol]]["a"] for symbol in (substrate.host, substrate.guest)]
    lattice = constants[0] + substrate.fraction * (constants[1] - constants[0])
    slab = FACETS[substrate.facet](substrate.host, substrate.cell, a=lattice, vacuum=VACUUM)
    slab.pbc = True
    layer_of_atom = slab.get_tags()  # ASE counts layers from 1 at the top
    for layer, places in enumerate(substrate.sites, start=1):
        members = np.flatnonzero(layer_of_atom == layer)
        slab.numbers[members[list(places)]] = atomic_numbers[substrate.guest]
    slab.set_tags(np.where(layer_of_atom <= FREE_LAYERS, 1, 0))
    slab.set_constraint(FixAtoms(mask=slab.get_tags() == 0))
    return slab


def place_adsorbate(system: AdsorbateSystem, slab: Atoms) -> Atoms:
    """Put the system's adsorbate on its slab.

    Args:
        system: Where and how.
        slab: The system's slab, usually relaxed; left as it is.

    Returns:
        Slab and adsorbate, the latter last with tag 2; its lowest point lies the system's lift above contact
        with the slab.
    """
    adsorbate = ADSORBATES[system.adsorbate].copy()
    adsorbate.rotate(system.tilt, "y")
    adsorbate.rotate(system.turn, "z")
    steps = slab.cell.array[:2] / np.array(system.substrate.cell[:2])[:, None]
    top_atom = slab.positions[slab.positions[:, 2].argmax()]
    spot = top_atom + SITES[system.substrate.facet][system.site] @ steps
    spot[:2] += system.offset
    adsorbate.positions[:, :2] += spot[:2]
    contacts = [_contact_height(atom.symbol, atom.position, slab) - atom.z for atom in adsorbate]
    adsorbate.positions[:, 2] += max(contacts) + system.lift
    adsorbate.set_tags(2)
    placed = slab.copy()
    placed.calc = None
    placed.extend(adsorbate)
    return placed


def _contact_height(symbol: str, spot: np.ndarray, slab: Atoms) -> float:
    """Find the height [Å] at which an atom above `spot` touches the first atom of the slab."""
    contact = CONTACT_RADII[symbol] + covalent_radii[slab.numbers]
    heights = [slab.positions[:, 2].max()]
    for image in np.ndindex(3, 3):
        shift = (np.array(image) - 1) @ slab.cell.array[:2]
        beside = ((slab.positions + shift - spot)[:, :2] ** 2).sum(axis=1)
        near = beside < contact**2
        heights.extend(slab.positions[near, 2] + np.sqrt(contact[near] ** 2 - beside[near]))
    return float(max(heights))


def _draw_substrate(rng: np.random.Generator) -> Substrate:
    host, guest = (str(symbol) for symbol in rng.choice(METALS, size=2, replace=False))
    fraction = float(rng.choice(MINORITY_FRACTIONS))
    facet = str(rng.choice(sorted(FACETS)))
    cell = CELLS[int(rng.integers(len(CELLS)))]
    per_layer = cell[0] * cell[1]
    guests = int(round(fraction * per_layer))
    sites = tuple(
        tuple(sorted(int(place) for place in rng.choice(per_layer, size=guests, replace=False))) for _ in range(cell[2])
    )
    if fraction == 0.0:
        guest = host
    return Substrate(host, guest, fraction, facet, cell, sites)
