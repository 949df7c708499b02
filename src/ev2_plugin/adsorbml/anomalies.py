"""Relaxed structures that are no adsorption minimum of their system: four checks on which atoms touch.

The rules are those of Open Catalyst's detector, applied to all configurations of a system at once.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ev2_plugin.adsorbml.connectivity import Pairs, all_pairs
from ev2_plugin.adsorbml.surface_system import ADSORBATE_TAG, CleanSlab, Placements

CUSHION = 1.5
"""Multiplier of covalent radii where small movements and weak bonds are to be tolerated."""
_BLOCK = 32
"""Structures at a time, which bounds the memory."""


@dataclass(frozen=True)
class Anomalies:
    """What the checks found, each [configs] of bool.

    Attributes:
        dissociated: Atoms of the adsorbate touch that did not at first, or no longer touch.
        desorbed: No atom of the adsorbate touches the slab, radii 1.5 times.
        surface_changed: Atoms of the slab touch that are apart in the relaxed clean slab by radii 1.5 times, or atoms
            that touch there are apart by radii 1.5 times.
        intercalated: An atom of the adsorbate touches one below the surface (tag 0).
    """

    dissociated: np.ndarray
    desorbed: np.ndarray
    surface_changed: np.ndarray
    intercalated: np.ndarray

    def valid(self, *, intercalation: bool) -> np.ndarray:
        """Configurations that may be ranked, [configs] of bool.

        Args:
            intercalation: Whether intercalation excludes one; in the AdsorbML paper it does not.
        """
        excluded = self.dissociated | self.desorbed | self.surface_changed
        return ~(excluded | self.intercalated) if intercalation else ~excluded


def find_anomalies(placements: Placements, final: np.ndarray, slab: CleanSlab) -> Anomalies:
    """Check the relaxed structures of a system.

    Args:
        placements: The initial structures.
        final: Positions of their final frames in Å, in the same order, [configs, atoms, 3].
        slab: The clean slab.

    Raises:
        ValueError: If the number of structures or atoms differs, or a position is not finite.

    Source: AdsorbML (arXiv:2211.16486); multipliers of its published evaluation.
    """
    if final.shape != placements.positions.shape:
        raise ValueError(
            f"system {placements.system}: final positions are {list(final.shape)}, "
            f"initial ones {list(placements.positions.shape)} (configurations, atoms, 3)"
        )
    if not np.isfinite(final).all():
        lost = placements.configs[int((~np.isfinite(final)).any(axis=(1, 2)).argmax())]
        raise ValueError(f"system {placements.system}, {lost}: a position of the final frame is not finite")
    checks = _Checks.of(placements, slab)
    blocks = [
        checks.apply(placements.positions[start : start + _BLOCK], final[start : start + _BLOCK])
        for start in range(0, len(final), _BLOCK)
    ]
    return Anomalies(*(np.concatenate(flags) for flags in zip(*blocks, strict=True)))


@dataclass(frozen=True)
class _Checks:
    """What the checks need of a system, found once for all its configurations.

    The pairs of an atom with its own images are left out: all structures of a system have the same cell.
    """

    slab: CleanSlab
    pairs: Pairs
    in_adsorbate: np.ndarray
    across: np.ndarray
    to_subsurface: np.ndarray
    in_slab: np.ndarray
    clean_touching: np.ndarray
    clean_near: np.ndarray

    @classmethod
    def of(cls, placements: Placements, slab: CleanSlab) -> _Checks:
        adsorbate = placements.tags == ADSORBATE_TAG
        pairs = all_pairs(placements.numbers)
        of_slab = all_pairs(slab.numbers)
        clean = slab.lattice.shortest_distances(slab.relaxed[None], of_slab)[0]
        return cls(
            slab=slab,
            pairs=pairs,
            in_adsorbate=np.flatnonzero(pairs.among(adsorbate, adsorbate)),
            across=np.flatnonzero(pairs.among(adsorbate, ~adsorbate)),
            to_subsurface=np.flatnonzero(pairs.among(adsorbate, placements.tags == 0)),
            in_slab=np.flatnonzero(pairs.among(~adsorbate, ~adsorbate)),
            clean_touching=of_slab.touching(clean, 1.0),
            clean_near=of_slab.touching(clean, CUSHION),
        )

    def apply(self, initial: np.ndarray, final: np.ndarray) -> tuple[np.ndarray, ...]:
        """The four flags, in the order of `Anomalies`."""
        of_adsorbate = self.pairs.chosen(self.in_adsorbate)
        before = of_adsorbate.touching(self.slab.lattice.shortest_distances(initial, of_adsorbate), 1.0)
        distances = self.slab.lattice.shortest_distances(final, self.pairs)
        touching, near = (self.pairs.touching(distances, multiplier) for multiplier in (1.0, CUSHION))
        formed = touching[:, self.in_slab] & ~self.clean_near
        broken = self.clean_touching & ~near[:, self.in_slab]
        return (
            (touching[:, self.in_adsorbate] != before).any(axis=1),
            ~near[:, self.across].any(axis=1),
            (formed | broken).any(axis=1),
            touching[:, self.to_subsurface].any(axis=1),
        )
