r"""Rotations -> block-diagonal Wigner matrices, without angles and without singularities.

With e3nn's convention a rotation is :math:`Y(a) X(b) Y(c)` (about y, x, y). Let :math:`g` be the half turn about
:math:`(1, 1, 0)/\sqrt 2` and :math:`J` its Wigner matrix; then :math:`X(b) = g\,Y(b)\,g`, hence

.. math:: D(X(b)) = J\,Z(b)\,J, \qquad (Z(b) v)_m = \cos(mb)\,v_m - \sin(mb)\,v_{-m},

which is linear in the cosines and sines of multiples of :math:`b`: one small constant table turns them into the
whole block-diagonal matrix. Only cosines and sines enter, and those are ratios of the vector's components.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from torch import Tensor

from ev2_plugin.so3.layout import CoefficientLayout
from ev2_plugin.so3.sphere_grid import quadrature
from ev2_plugin.so3.spherical_harmonics import Array, spherical_harmonics
from ev2_plugin.so3.tables import constant, index_table


def multiples(cos: Tensor, sin: Tensor, highest: int) -> tuple[Tensor, Tensor]:
    """Cosines and sines of 0..highest times an angle, from its cosine and sine.

    Args:
        cos: Cosine of the angles, [edges].
        sin: Sine of the angles, [edges].
        highest: Largest multiple.

    Returns:
        Two tensors [edges, highest + 1].
    """
    cosines, sines = [torch.ones_like(cos)], [torch.zeros_like(sin)]
    for _ in range(highest):
        c, s = cosines[-1], sines[-1]
        cosines.append(c * cos - s * sin)
        sines.append(s * cos + c * sin)
    return torch.stack(cosines, dim=-1), torch.stack(sines, dim=-1)


def turn_columns(matrix: Tensor, cosines: Tensor, sines: Tensor, orders: tuple[int, ...]) -> Tensor:
    """`matrix` times the Wigner matrix of the turn by *minus* the angle about the polar axis.

    Args:
        matrix: [edges, rows, columns], columns degree-major.
        cosines: Cosines of the multiples of the angle, [edges, multiples].
        sines: Sines of the multiples of the angle, [edges, multiples].
        orders: Order m of each column.

    Returns:
        [edges, rows, columns].
    """
    mirrored = index_table(tuple(i - 2 * m for i, m in enumerate(orders)), matrix.device)
    order = index_table(orders, matrix.device)
    cos_m = cosines[:, order.abs()].unsqueeze(1)
    sin_m = (sines[:, order.abs()] * order.sign()).unsqueeze(1)
    return matrix * cos_m - matrix[:, :, mirrored] * sin_m


def tilt(cos_beta: Tensor, sin_beta: Tensor, layout: CoefficientLayout) -> Tensor:
    """Wigner matrices of the rotation by *minus* beta about the x axis, order-major rows |m| <= mmax.

    Args:
        cos_beta: Cosine of the angle, [edges].
        sin_beta: Sine of the angle, [edges].
        layout: Rows to keep.

    Returns:
        [edges, layout.num_kept, layout.num_coefficients].
    """
    table = _tilt_table(layout.lmax, layout.mmax, cos_beta.dtype, cos_beta.device)
    cosines, sines = multiples(cos_beta, sin_beta, layout.lmax)
    waves = torch.cat((cosines, sines), dim=-1)
    return (waves @ table).view(-1, layout.num_kept, layout.num_coefficients)


@cache
def half_turn(lmax: int) -> Array:
    """Wigner matrix J of the half turn about (1, 1, 0)/sqrt(2), which swaps x and y: block-diagonal, float64.

    It is the exact quadrature of the product of Y(rotated point) and Y(point) over the sphere.
    """
    alpha, cos_beta, weights = quadrature(2 * (lmax + 1), 2 * (lmax + 1) + 1)
    sin_beta = np.sqrt(1 - cos_beta**2)
    x, y, z = sin_beta * np.sin(alpha), cos_beta, sin_beta * np.cos(alpha)
    here = spherical_harmonics(lmax, alpha, cos_beta)
    there = spherical_harmonics(lmax, np.arctan2(y, -z), x)
    j = (there * weights[:, None]).T @ here
    degrees = np.array(CoefficientLayout(lmax, lmax).degrees)
    return np.where(degrees[:, None] == degrees, j, 0.0)


@constant
def _tilt_table(lmax: int, mmax: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    layout = CoefficientLayout(lmax, mmax)
    j = half_turn(lmax)
    orders = np.array(layout.orders)
    mirror = np.arange(len(orders)) - 2 * orders
    waves = np.zeros((2 * (lmax + 1), layout.num_kept, layout.num_coefficients))
    for n in range(lmax + 1):
        plus, minus = orders == n, orders == -n
        either = plus | minus
        cosine = j[:, either] @ j[either]
        # Z(-b) has +sin(nb) at (n, -n) and -sin(nb) at (-n, n)
        sine = j[:, plus] @ j[mirror[plus]] - j[:, mirror[plus]] @ j[plus]
        waves[n], waves[lmax + 1 + n] = cosine[list(layout.kept)], sine[list(layout.kept)]
    return torch.tensor(waves.reshape(len(waves), -1), dtype=torch.float64).to(dtype=dtype, device=device)
