import math

import numpy as np
import pytest
import torch
from e3nn import o3
from torch import Tensor

from ev2_plugin.so3.layout import CoefficientLayout
from ev2_plugin.so3.sphere_grid import SphereGrid, latitude_weights, quadrature
from helpers.equivariance import float64_by_default

CPU = torch.device("cpu")
PAIRS = [(0, 0), (1, 0), (2, 2), (4, 2), (6, 2), (6, 6), (10, 3)]


def e3nn_matrices(lmax: int, shape: tuple[int, int]) -> tuple[Tensor, Tensor]:
    with float64_by_default():
        to_grid = o3.ToS2Grid(lmax, shape, normalization="component")(torch.eye((lmax + 1) ** 2))
        points = torch.eye(shape[0] * shape[1]).view(-1, *shape)
        from_grid = o3.FromS2Grid(shape, lmax, normalization="component")(points)
    return to_grid.flatten(1).T, from_grid.T


@pytest.mark.parametrize("resolution", [None, 22, 24])
@pytest.mark.parametrize(("lmax", "mmax"), PAIRS)
def test_against_e3nn(lmax: int, mmax: int, resolution: int | None) -> None:
    layout = CoefficientLayout(lmax, mmax)
    grid = SphereGrid(layout, resolution)
    to_grid, from_grid = grid.matrices(torch.float64, CPU)
    expected_to, expected_from = e3nn_matrices(lmax, grid.shape)
    factors = [math.sqrt((2 * l + 1) / (2 * mmax + 1)) if l > mmax else 1.0 for l in layout.degrees]
    scale = torch.tensor(factors, dtype=torch.float64)
    kept = list(layout.kept)
    torch.testing.assert_close(to_grid, (expected_to * scale)[:, kept], atol=1e-12, rtol=0)
    torch.testing.assert_close(from_grid, (expected_from * scale[:, None])[kept], atol=1e-12, rtol=0)


@pytest.mark.parametrize(("lmax", "mmax"), PAIRS)
def test_smallest_grid_of_the_official_code(lmax: int, mmax: int) -> None:
    longitudes = 2 * (mmax + 1) + 1 if lmax == mmax else 2 * mmax + 1
    assert SphereGrid(CoefficientLayout(lmax, mmax)).shape == (2 * (lmax + 1), longitudes)


@pytest.mark.parametrize("resolution", [None, 14, 18])
@pytest.mark.parametrize("order_major", [True, False])
def test_round_trip(resolution: int | None, order_major: bool, dtype: torch.dtype) -> None:
    layout = CoefficientLayout(6, 6)
    to_grid, from_grid = SphereGrid(layout, resolution, order_major).matrices(dtype, CPU)
    assert to_grid.dtype == from_grid.dtype == dtype
    tolerance = 1e-12 if dtype == torch.float64 else 2e-6
    torch.testing.assert_close(from_grid @ to_grid, torch.eye(49, dtype=dtype), atol=tolerance, rtol=0)


def test_degree_major_grid_is_the_order_major_grid_permuted() -> None:
    layout = CoefficientLayout(3, 3)
    nodes = SphereGrid(layout, 10, order_major=False).matrices(torch.float64, CPU)
    edges = SphereGrid(layout, 10, order_major=True).matrices(torch.float64, CPU)
    kept = list(layout.kept)
    assert torch.equal(nodes[0][:, kept], edges[0])
    assert torch.equal(nodes[1][kept], edges[1])


def test_component_normalisation() -> None:
    to_grid, _ = SphereGrid(CoefficientLayout(6, 6), 18).matrices(torch.float64, CPU)
    variance = to_grid.square().sum(dim=1)  # of the samples, if the coefficients have variance 1
    torch.testing.assert_close(variance, torch.ones_like(variance))


@pytest.mark.parametrize("number", [2, 6, 18, 100])
def test_latitude_weights(number: int) -> None:
    weights = latitude_weights(number)
    assert weights.sum() == pytest.approx(2)
    cosines = np.cos((np.arange(number) + 0.5) * math.pi / number)
    for power in range(number // 2):  # exact integrals of polynomials
        integral = 0 if power % 2 else 2 / (power + 1)
        assert (weights * cosines**power).sum() == pytest.approx(integral, abs=1e-12)


def test_quadrature_covers_the_sphere_without_poles() -> None:
    alpha, cos_beta, weights = quadrature(6, 5)
    assert len(alpha) == len(cos_beta) == len(weights) == 30
    assert weights.sum() == pytest.approx(4 * math.pi)
    assert np.abs(cos_beta).max() < 1
    assert len(set(alpha[:5])) == 5  # the longitude runs fastest
    assert len(set(cos_beta[:5])) == 1


@pytest.mark.parametrize("resolution", [15, 17, 12, 0, -14])
def test_odd_or_too_small_resolution(resolution: int) -> None:
    with pytest.raises(ValueError, match=f"even and at least .* = 14 for lmax=6, got {resolution}"):
        SphereGrid(CoefficientLayout(6, 2), resolution)


def test_matrices_first_asked_for_in_inference_mode_serve_training() -> None:
    grid = SphereGrid(CoefficientLayout(2, 1), 16)
    with torch.inference_mode():
        matrices = grid.matrices(torch.float64, CPU)
    assert not any(matrix.is_inference() for matrix in matrices)
