"""Structures as a page's viewer takes them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from ase import Atoms
from jaxtyping import Float


def packed(
    frames: Sequence[Atoms],
    texts: Sequence[str],
    *,
    forces: tuple[Float[np.ndarray, "atoms 3"], Float[np.ndarray, "atoms 3"]] | None = None,
) -> dict[str, Any]:
    """Pack a structure, or frames of one.

    Args:
        frames: With the same atoms; positions in Å.
        texts: What to say below the viewer at each frame.
        forces: Labels and predictions for the first frame, eV/Å; 0 where there are none.
    """
    first = frames[0]
    content: dict[str, Any] = {
        "symbols": first.get_chemical_symbols(),
        "cell": _rounded(first.cell.array) if first.cell.rank == 3 else None,
        "frames": [_rounded(frame.positions) for frame in frames],
        "texts": list(texts),
    }
    if forces is not None:
        content |= {"label": _rounded(forces[0]), "prediction": _rounded(forces[1])}
    return content


def _rounded(values: np.ndarray) -> list[float]:
    """A thousandth of an Å or eV/Å is finer than anything that can be seen."""
    return np.round(values, 3).ravel().tolist()
