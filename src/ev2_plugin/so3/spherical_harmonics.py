r"""Real spherical harmonics in float64, for the tables of this package.

Convention of e3nn: polar axis +y, a direction is (sin b sin a, cos b, sin b cos a), and

.. math:: Y_{lm}(a, b) = N_{lm} P_{l|m|}(\cos b) \cdot
    \{\sqrt 2 \sin |m|a \ (m<0),\; 1\ (m=0),\; \sqrt 2 \cos ma\ (m>0)\}

without Condon-Shortley phase, orthonormal over the sphere. Degree 1 is proportional to (x, y, z).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def associated_legendre(lmax: int, cos_beta: Array) -> Array:
    """Normalised associated Legendre functions N_lm P_lm.

    Args:
        lmax: Largest degree.
        cos_beta: Cosine of the polar angle, [points].

    Returns:
        [points, lmax + 1, lmax + 1], indexed by (point, l, m); zero where m > l.
    """
    sin_beta = np.sqrt(np.maximum(0.0, 1.0 - cos_beta**2))
    p = np.zeros((len(cos_beta), lmax + 1, lmax + 1))
    p[:, 0, 0] = 1.0
    for m in range(1, lmax + 1):
        p[:, m, m] = (2 * m - 1) * sin_beta * p[:, m - 1, m - 1]
    for m in range(lmax):
        p[:, m + 1, m] = (2 * m + 1) * cos_beta * p[:, m, m]
        for l in range(m + 2, lmax + 1):
            p[:, l, m] = ((2 * l - 1) * cos_beta * p[:, l - 1, m] - (l + m - 1) * p[:, l - 2, m]) / (l - m)
    for l in range(lmax + 1):
        for m in range(l + 1):
            p[:, l, m] *= math.sqrt((2 * l + 1) / (4 * math.pi) * math.factorial(l - m) / math.factorial(l + m))
    return p


def spherical_harmonics(lmax: int, alpha: Array, cos_beta: Array) -> Array:
    """Orthonormal real spherical harmonics of degrees 0..lmax.

    Args:
        lmax: Largest degree.
        alpha: Azimuth about +y, measured from +z towards +x, [points].
        cos_beta: Cosine of the angle to +y, [points].

    Returns:
        Degree-major values, [points, (lmax + 1)**2].
    """
    legendre = associated_legendre(lmax, cos_beta)
    columns = []
    for l in range(lmax + 1):
        for m in range(-l, l + 1):
            azimuthal = 1.0 if m == 0 else math.sqrt(2) * (np.cos(m * alpha) if m > 0 else np.sin(-m * alpha))
            columns.append(legendre[:, l, abs(m)] * azimuthal)
    return np.stack(columns, axis=1)
