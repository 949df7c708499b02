"""Labels of a structure under the trainers' names or those of the published files."""

from __future__ import annotations

import numpy as np
from torch_geometric.data import Data

_ENERGIES = ("energy", "y", "energy_relaxed", "y_relaxed")
_RELAXED_ENERGIES = ("energy_relaxed", "y_relaxed")
_FORCES = ("forces", "force")


def energy_label(data: Data, place: str) -> float:
    """Energy of a structure [eV]; of its relaxed structure, where it has no energy of its own.

    Args:
        data: The structure.
        place: Where it lies, for messages.

    Raises:
        ValueError: If it has none or it is not finite.
    """
    return float(_label(data, _ENERGIES, place).item())


def relaxed_energy_label(data: Data, place: str) -> float:
    """Energy of a structure's relaxed structure [eV]; errors as in `energy_label`."""
    return float(_label(data, _RELAXED_ENERGIES, place).item())


def force_label(data: Data, place: str) -> np.ndarray:
    """Forces on all atoms [eV/Å], [atoms, 3]; errors as in `energy_label`."""
    return _label(data, _FORCES, place)


def relaxed_position_label(data: Data, place: str) -> np.ndarray:
    """Positions of the relaxed structure [Å], [atoms, 3]; errors as in `energy_label`."""
    return _label(data, ("pos_relaxed",), place)


def _label(data: Data, names: tuple[str, ...], place: str) -> np.ndarray:
    for name in names:
        if name in data:
            value = np.asarray(data[name], dtype=float)
            if not np.isfinite(value).all():
                raise ValueError(f"{place}: the label {name} is not finite")
            return value
    raise ValueError(f"{place} has no label {' or '.join(names)}")
