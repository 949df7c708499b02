"""Errors below which a prediction counts as right, and averages over a range of them.

=======  ============================================  ===========================================
score    a structure's value                           counts below
=======  ============================================  ===========================================
EwT      energy error                                  0.02 eV
EFwT     energy error and largest force-component one  0.02 eV and 0.03 eV/Å
ADwT     mean distance of the free atoms               0.010, 0.011, ..., 0.499 Å, averaged
FbT      largest force on a free atom                  0.05 eV/Å
AFbT     largest force on a free atom                  0.010, 0.011, ..., 0.400 eV/Å, averaged
=======  ============================================  ===========================================

All comparisons are strict. The first three are those of fairchem's evaluator. The servers that rank submissions compute
FbT and AFbT and have not published how: the thresholds here are those of the OC20 paper (arXiv:2010.09990) as it is
commonly cited, and have not been verified against a server.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float

ENERGY_THRESHOLD = 0.02  # eV
FORCE_ERROR_THRESHOLD = 0.03  # eV/Å
RELAXED_FORCE_THRESHOLD = 0.05  # eV/Å
DISTANCE_THRESHOLDS = np.arange(10, 500) / 1000  # Å
RELAXED_FORCE_THRESHOLDS = np.arange(10, 401) / 1000  # eV/Å


def average_below(
    values: Float[np.ndarray, " structures"], thresholds: Float[np.ndarray, " thresholds"]
) -> Float[np.ndarray, " structures"]:
    """Give each structure the share of the thresholds that it stays below; their mean is ADwT or AFbT.

    Args:
        values: One per structure, in the unit of the thresholds.
        thresholds: In ascending order.
    """
    return 1.0 - np.searchsorted(thresholds, values, side="right") / len(thresholds)


def share_below(
    values: Float[np.ndarray, " structures"], thresholds: Float[np.ndarray, " thresholds"]
) -> Float[np.ndarray, " thresholds"]:
    """Give each threshold the share of the structures that stay below it."""
    return np.searchsorted(np.sort(values), thresholds, side="left") / len(values)


def energies_and_forces_below(
    energy_errors: Float[np.ndarray, " structures"], largest_force_errors: Float[np.ndarray, " structures"]
) -> Bool[np.ndarray, " structures"]:
    """Tell which structures count for EFwT.

    Args:
        energy_errors: Absolute errors, eV.
        largest_force_errors: Largest absolute error among the force components of each structure, eV/Å.
    """
    return (energy_errors < ENERGY_THRESHOLD) & (largest_force_errors < FORCE_ERROR_THRESHOLD)
