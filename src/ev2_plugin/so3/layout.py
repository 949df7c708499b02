"""Which coefficient stands where.

A feature of degrees 0..lmax has `(lmax + 1)**2` coefficients per channel. Two orders of the coefficient axis
occur:

* **degree-major**: sorted by degree `l`, then by order `m = -l..l`. Node features.
* **order-major**: grouped by `|m|`: first all `m = 0` (l = 0..lmax), then for each `|m| = 1..mmax` all `+m`
  (l = |m|..lmax) followed by all `-m`. Edge features between rotation in and out; only `|m| <= mmax` is kept, so
  what one SO(2) linear map reads is one contiguous block.
"""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class CoefficientLayout:
    """Index arithmetic for degrees up to `lmax`, of which edges keep the orders up to `mmax`.

    Args:
        lmax: Largest degree, at least 0.
        mmax: Largest absolute order kept inside edge convolutions, 0 <= mmax <= lmax.

    Raises:
        ValueError: If `lmax` or `mmax` is not an integer in its range.
    """

    lmax: int
    mmax: int

    def __post_init__(self) -> None:
        for name, value in (("lmax", self.lmax), ("mmax", self.mmax)):
            if isinstance(value, bool) or not isinstance(value, int) or value < 0:
                raise ValueError(f"{name} must be an integer >= 0, got {value!r}")
        if self.mmax > self.lmax:
            raise ValueError(f"mmax must not exceed lmax, got mmax={self.mmax} with lmax={self.lmax}")

    @property
    def num_coefficients(self) -> int:
        """Coefficients per channel of a node feature."""
        return (self.lmax + 1) ** 2

    @property
    def degrees(self) -> tuple[int, ...]:
        """Degree `l` of each degree-major coefficient."""
        return tuple(l for l in range(self.lmax + 1) for _ in range(2 * l + 1))

    @property
    def orders(self) -> tuple[int, ...]:
        """Order `m` of each degree-major coefficient."""
        return tuple(m for l in range(self.lmax + 1) for m in range(-l, l + 1))

    @property
    def order_sizes(self) -> tuple[int, ...]:
        """Number of degrees that have order `m`, for m = 0..mmax."""
        return tuple(self.lmax + 1 - m for m in range(self.mmax + 1))

    @property
    def block_sizes(self) -> tuple[int, ...]:
        """Order-major rows per `|m|`: one block for m = 0, a pair of blocks for every other order."""
        return tuple(size if m == 0 else 2 * size for m, size in enumerate(self.order_sizes))

    @property
    def num_kept(self) -> int:
        """Coefficients per channel of an edge feature in its edge frame."""
        return sum(self.block_sizes)

    @property
    def num_radial(self) -> int:
        """Radial weights per channel: one per degree and `|m|`, shared by +m and -m."""
        return sum(self.order_sizes)

    @property
    def kept(self) -> tuple[int, ...]:
        """Degree-major index of each order-major row."""
        signed = (0, *(sign * m for m in range(1, self.mmax + 1) for sign in (1, -1)))
        return tuple(l * l + l + m for m in signed for l in range(abs(m), self.lmax + 1))

    @property
    def kept_degrees(self) -> tuple[int, ...]:
        """Degree of each order-major row."""
        return tuple(self.degrees[i] for i in self.kept)

    @property
    def radial_degrees(self) -> tuple[int, ...]:
        """Degree of each radial weight."""
        return tuple(l for m in range(self.mmax + 1) for l in range(m, self.lmax + 1))

    @property
    def truncation_scale(self) -> tuple[float, ...]:
        """Factor per degree that makes up for the orders dropped beyond mmax: sqrt((2l+1)/(2mmax+1)).

        It multiplies what is rotated back to the lab frame and both sphere-grid transforms; it is 1 for
        `l <= mmax`. Source: official code (so3.py), not in the paper.
        """
        return tuple(
            math.sqrt((2 * l + 1) / (2 * self.mmax + 1)) if l > self.mmax else 1.0 for l in range(self.lmax + 1)
        )
