"""Rows of a campaign's tables. Energies are in eV; an empty field is `None`."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class RelaxedConfiguration:
    """What became of an initial structure.

    Attributes:
        system: Adsorbate and surface.
        config: Placement of the adsorbate.
        energy: The potential's energy of the final frame [eV].
        fmax: Largest force on an atom that may move, there [eV/Å].
        steps: Steps of the relaxation.
        converged: Whether `fmax` came below the threshold.
        dissociated: Bonds of the adsorbate changed.
        desorbed: The adsorbate left the surface.
        surface_changed: Bonds of the surface changed.
        intercalated: The adsorbate touches atoms below the surface.
        valid: Whether it may be ranked.
    """

    system: str
    config: str
    energy: float
    fmax: float
    steps: int
    converged: bool
    dissociated: bool
    desorbed: bool
    surface_changed: bool
    intercalated: bool
    valid: bool


@dataclass(frozen=True)
class RankedConfiguration:
    """A valid configuration and its place in its system.

    Attributes:
        system: Adsorbate and surface.
        rank: 1 has the lowest energy.
        config: Placement of the adsorbate.
        energy: The potential's energy of the final frame [eV].
    """

    system: str
    rank: int
    config: str
    energy: float


@dataclass(frozen=True)
class SinglePoint:
    """A calculation on a relaxed structure by the method that counts.

    Attributes:
        system: Adsorbate and surface.
        config: Placement of the adsorbate.
        energy: None if there is none [eV].
        scf_steps: Electronic steps.
        ionic_steps: 1 for a single point, more for a relaxation.
        converged: Whether the electronic steps converged; the energy counts only then.
    """

    system: str
    config: str
    energy: float | None
    scf_steps: int
    ionic_steps: int
    converged: bool


@dataclass(frozen=True)
class Target:
    """A configuration of the ground truth, relaxed from beginning to end by the method that counts.

    Attributes:
        system: Adsorbate and surface.
        config: Placement of the adsorbate.
        energy: None if the calculation is no valid result; its steps count all the same [eV].
        scf_steps: Electronic steps of all ionic steps together.
        ionic_steps: Steps of the relaxation.
    """

    system: str
    config: str
    energy: float | None
    scf_steps: int
    ionic_steps: int
