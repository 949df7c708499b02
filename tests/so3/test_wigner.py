import math

import numpy as np
import pytest
import torch
from e3nn import o3
from torch import Tensor

from ev2_plugin.so3.edge_frame import edge_frames
from ev2_plugin.so3.layout import CoefficientLayout
from ev2_plugin.so3.wigner import half_turn, multiples, tilt, turn_columns
from helpers.equivariance import float64_by_default, random_rotation, wigner

ANGLES = torch.tensor([0.0, 1e-8, -0.3, 1.2, math.pi / 2, 2.5, math.pi], dtype=torch.float64)


def by_angles(lmax: int, *angles: float | Tensor) -> Tensor:
    """e3nn's Wigner matrices, of turns about y, x and y."""
    with float64_by_default():
        return torch.block_diag(*(o3.wigner_D(l, *map(torch.as_tensor, angles)) for l in range(lmax + 1)))


def degree_major(rows: Tensor, layout: CoefficientLayout) -> Tensor:
    return rows[:, torch.tensor(layout.kept).argsort()]


def from_rotation(rotation: Tensor, lmax: int) -> Tensor:
    """Our Wigner matrix of any rotation: the frame of the direction it takes to +y, with the right gauge."""
    layout = CoefficientLayout(lmax, lmax)
    direction = rotation[1:2]
    frame = degree_major(edge_frames(direction, layout).into, layout)[0, 1:4, 1:4]
    turn = rotation @ frame.T  # about +y
    gauge = torch.atan2(turn[0, 2], turn[0, 0]).view(1)
    return degree_major(edge_frames(direction, layout, gauge).into, layout)[0]


@pytest.mark.parametrize("lmax", [0, 1, 4, 10])
def test_half_turn_swaps_x_and_y(lmax: int) -> None:
    j = half_turn(lmax)
    swap = torch.tensor([[0.0, 1, 0], [1, 0, 0], [0, 0, -1]], dtype=torch.float64)
    np.testing.assert_allclose(j, wigner(swap, lmax).numpy(), atol=1e-10)
    np.testing.assert_allclose(j @ j, np.eye(len(j)), atol=1e-10)


def test_multiples() -> None:
    cosines, sines = multiples(ANGLES.cos(), ANGLES.sin(), 10)
    expected = ANGLES.unsqueeze(-1) * torch.arange(11)
    torch.testing.assert_close(cosines, expected.cos(), atol=1e-13, rtol=0)
    torch.testing.assert_close(sines, expected.sin(), atol=1e-13, rtol=0)


@pytest.mark.parametrize("lmax", range(11))
def test_tilt_against_e3nn(lmax: int) -> None:
    layout = CoefficientLayout(lmax, lmax)
    matrices = degree_major(tilt(ANGLES.cos(), ANGLES.sin(), layout), layout)
    for angle, matrix in zip(ANGLES, matrices, strict=True):
        torch.testing.assert_close(matrix, by_angles(lmax, 0.0, -angle, 0.0), atol=1e-10, rtol=0)


@pytest.mark.parametrize("lmax", range(11))
def test_turn_about_the_polar_axis_against_e3nn(lmax: int) -> None:
    orders = CoefficientLayout(lmax, lmax).orders
    eye = torch.eye(len(orders), dtype=torch.float64).expand(len(ANGLES), -1, -1)
    matrices = turn_columns(eye, *multiples(ANGLES.cos(), ANGLES.sin(), lmax), orders)
    for angle, matrix in zip(ANGLES, matrices, strict=True):
        torch.testing.assert_close(matrix, by_angles(lmax, -angle, 0.0, 0.0), atol=1e-10, rtol=0)


@pytest.mark.parametrize(("lmax", "mmax"), [(3, 0), (4, 2), (6, 3)])
def test_truncated_rows_are_rows_of_the_whole(lmax: int, mmax: int) -> None:
    truncated, whole = CoefficientLayout(lmax, mmax), CoefficientLayout(lmax, lmax)
    rows = tilt(ANGLES.cos(), ANGLES.sin(), truncated)
    full = degree_major(tilt(ANGLES.cos(), ANGLES.sin(), whole), whole)
    torch.testing.assert_close(rows, full[:, list(truncated.kept)], atol=1e-14, rtol=0)


@pytest.mark.parametrize("seed", range(5))
def test_wigner_of_any_rotation_against_e3nn(seed: int) -> None:
    torch.manual_seed(seed)
    angles = o3.rand_angles(requires_grad=False, dtype=torch.float64)
    rotation = o3.angles_to_matrix(*angles)
    matrix = from_rotation(rotation, 10)
    torch.testing.assert_close(matrix[1:4, 1:4], rotation, atol=1e-12, rtol=0)
    torch.testing.assert_close(matrix, by_angles(10, *angles), atol=1e-10, rtol=0)
    torch.testing.assert_close(matrix, wigner(rotation, 10), atol=1e-10, rtol=0)


@pytest.mark.parametrize("seed", range(5))
def test_product_of_rotations_is_product_of_matrices(seed: int) -> None:
    a, b = random_rotation(seed), random_rotation(seed + 100)
    torch.testing.assert_close(
        from_rotation(a @ b, 10), from_rotation(a, 10) @ from_rotation(b, 10), atol=1e-10, rtol=0
    )


def test_inverse_is_transpose() -> None:
    rotation = random_rotation()
    matrix = from_rotation(rotation, 10)
    torch.testing.assert_close(matrix @ matrix.T, torch.eye(121, dtype=torch.float64), atol=1e-10, rtol=0)
    torch.testing.assert_close(from_rotation(rotation.T, 10), matrix.T, atol=1e-10, rtol=0)


def test_degrees_do_not_mix() -> None:
    layout = CoefficientLayout(6, 6)
    degrees = torch.tensor(layout.degrees)
    matrix = from_rotation(random_rotation(), 6)
    assert (matrix[degrees[:, None] != degrees].abs() < 1e-12).all()
