import math

import numpy as np
import pytest
import torch
from e3nn import o3

from ev2_plugin.so3.sphere_grid import quadrature
from ev2_plugin.so3.spherical_harmonics import Array, associated_legendre, spherical_harmonics


def random_points(number: int = 50) -> tuple[Array, Array]:
    generator = np.random.default_rng(0)
    cos_beta = np.concatenate((generator.uniform(-1, 1, number), [1.0, -1.0, 0.0]))
    return generator.uniform(-math.pi, math.pi, len(cos_beta)), cos_beta


def test_against_e3nn() -> None:
    alpha, cos_beta = random_points()
    sin_beta = np.sqrt(1 - cos_beta**2)
    points = torch.tensor(np.stack((sin_beta * np.sin(alpha), cos_beta, sin_beta * np.cos(alpha)), axis=1))
    expected = o3.spherical_harmonics(list(range(11)), points, normalize=False, normalization="integral")
    np.testing.assert_allclose(spherical_harmonics(10, alpha, cos_beta), expected.numpy(), atol=1e-12)


@pytest.mark.parametrize("lmax", [0, 1, 5, 10])
def test_orthonormal_over_the_sphere(lmax: int) -> None:
    alpha, cos_beta, weights = quadrature(2 * (lmax + 1), 2 * lmax + 1)
    harmonics = spherical_harmonics(lmax, alpha, cos_beta)
    np.testing.assert_allclose((harmonics.T * weights) @ harmonics, np.eye((lmax + 1) ** 2), atol=1e-12)


def test_degree_one_is_the_direction() -> None:
    alpha, cos_beta = random_points()
    sin_beta = np.sqrt(1 - cos_beta**2)
    direction = np.stack((sin_beta * np.sin(alpha), cos_beta, sin_beta * np.cos(alpha)), axis=1)
    harmonics = spherical_harmonics(1, alpha, cos_beta)[:, 1:] / math.sqrt(3 / (4 * math.pi))
    np.testing.assert_allclose(harmonics, direction, atol=1e-14)


def test_legendre_functions_vanish_beyond_their_degree() -> None:
    legendre = associated_legendre(4, np.array([0.3, -0.9]))
    assert legendre.shape == (2, 5, 5)
    assert (legendre[:, np.triu_indices(5, 1)[0], np.triu_indices(5, 1)[1]] == 0).all()
