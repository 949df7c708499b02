"""Coefficients <-> samples on a sphere grid.

Latitudes are at (i + 1/2) pi / R, so no point lies on a pole; longitudes at 2 pi j / R. The way back is the
quadrature of Kostelec and Rockmore, exact for products of degrees below R / 2. The normalisation is e3nn's
"component": unit-variance coefficients give unit-variance samples.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ev2_plugin.so3.layout import CoefficientLayout
from ev2_plugin.so3.spherical_harmonics import Array, spherical_harmonics
from ev2_plugin.so3.tables import constant


@dataclass(frozen=True)
class SphereGrid:
    """A grid for the coefficients of `layout`.

    Args:
        layout: Which coefficients are transformed.
        resolution: Latitudes and longitudes, [R x R]; None takes the official code's smallest grid:
            2 (lmax + 1) latitudes and 2 mmax + 1 longitudes (2 mmax + 3 if mmax = lmax).
        order_major: Coefficients of edges (order-major, |m| <= mmax) instead of nodes (degree-major).

    Raises:
        ValueError: If the resolution is odd or too small for `lmax`.
    """

    layout: CoefficientLayout
    resolution: int | None = None
    order_major: bool = True

    def __post_init__(self) -> None:
        smallest = 2 * (self.layout.lmax + 1)
        if self.resolution is not None and (self.resolution % 2 or self.resolution < smallest):
            raise ValueError(
                f"grid_resolution must be even and at least 2 (lmax + 1) = {smallest} for "
                f"lmax={self.layout.lmax}, got {self.resolution}"
            )

    @property
    def shape(self) -> tuple[int, int]:
        """Numbers of latitudes and longitudes."""
        if self.resolution is not None:
            return self.resolution, self.resolution
        lmax, mmax = self.layout.lmax, self.layout.mmax
        return 2 * (lmax + 1), 2 * mmax + (3 if mmax == lmax else 1)

    def matrices(self, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
        """The transforms `to_grid` [points, coefficients] and `from_grid` [coefficients, points]."""
        settings = self.layout.lmax, self.layout.mmax, self.resolution, self.order_major, dtype, device
        return _to_grid(*settings), _from_grid(*settings)


def latitude_weights(num_latitudes: int) -> Array:
    """Quadrature weights of the latitudes (i + 1/2) pi / num_latitudes; they sum to 2.

    Source: Kostelec and Rockmore, FFTs on the rotation group (2008), bandwidth b = num_latitudes / 2.
    """
    b = num_latitudes // 2
    odd = 2 * np.arange(num_latitudes) + 1
    k = 2 * np.arange(b) + 1
    return 2 / b * np.sin(odd * math.pi / (4 * b)) * (np.sin(np.outer(odd, k) * math.pi / (4 * b)) / k).sum(axis=1)


def quadrature(num_latitudes: int, num_longitudes: int) -> tuple[Array, Array, Array]:
    """Points and weights of the grid, flattened with the longitude fastest.

    Returns:
        Azimuths, cosines of the polar angle and weights (they sum to 4 pi), each [points].
    """
    beta = (np.arange(num_latitudes) + 0.5) * math.pi / num_latitudes
    alpha = 2 * math.pi * np.arange(num_longitudes) / num_longitudes
    weights = np.repeat(latitude_weights(num_latitudes) * 2 * math.pi / num_longitudes, num_longitudes)
    return np.tile(alpha, num_latitudes), np.repeat(np.cos(beta), num_longitudes), weights


@constant
def _to_grid(*settings: Any) -> Tensor:
    return _matrices(*settings)[0]


@constant
def _from_grid(*settings: Any) -> Tensor:
    return _matrices(*settings)[1]


def _matrices(
    lmax: int, mmax: int, resolution: int | None, order_major: bool, dtype: torch.dtype, device: torch.device
) -> tuple[Tensor, Tensor]:
    layout = CoefficientLayout(lmax, mmax)
    alpha, cos_beta, weights = quadrature(*SphereGrid(layout, resolution, order_major).shape)
    harmonics = spherical_harmonics(layout.lmax, alpha, cos_beta)
    degrees = np.array(layout.degrees)
    component = np.sqrt(4 * math.pi / ((2 * degrees + 1) * (layout.lmax + 1)))
    scale = np.array(layout.truncation_scale)[degrees]
    to_grid = harmonics * component * scale
    from_grid = (harmonics / component * scale * weights[:, None]).T
    if order_major:
        kept = list(layout.kept)
        to_grid, from_grid = to_grid[:, kept], from_grid[kept]
    return (
        torch.tensor(to_grid, dtype=torch.float64).to(dtype=dtype, device=device).contiguous(),
        torch.tensor(from_grid, dtype=torch.float64).to(dtype=dtype, device=device).contiguous(),
    )
