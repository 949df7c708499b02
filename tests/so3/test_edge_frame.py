import math

import pytest
import torch
from e3nn import o3
from torch import Tensor

from ev2_plugin.so3.edge_frame import edge_frames
from ev2_plugin.so3.layout import CoefficientLayout
from helpers.equivariance import wigner

TOLERANCE = {torch.float64: 1e-12, torch.float32: 2e-5}
"""Of a Wigner matrix of degrees up to 10 whose vector is exact in the dtype."""

TINY_ANGLES = [10.0**-n for n in (1, 2, 3, 4, 5, 7, 8, 10, 12, 16, 20, 30)]


def random_vectors(number: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return (5 * torch.randn(number, 3, dtype=torch.float64)).to(dtype)


def near_poles(dtype: torch.dtype) -> Tensor:
    """On +-y and next to it, down to denormal numbers, in all directions around."""
    smallest = torch.finfo(dtype).smallest_normal
    offsets = [0.0, *TINY_ANGLES, smallest, smallest / 2, smallest * torch.finfo(dtype).eps]
    vectors = [
        [x * offset, y, z * offset]
        for y in (1.0, -1.0, 2.7)
        for offset in offsets
        for x, z in ((1, 0), (0, 1), (-1, 0), (0, -1), (1, 1), (-0.3, 0.7))
    ]
    return torch.tensor(vectors, dtype=torch.float64).to(dtype)


def rotation_of(into: Tensor) -> Tensor:
    """Degree 1 of matrices of a layout with mmax = lmax = 1, order-major -> (x, y, z)."""
    rows = CoefficientLayout(1, 1).kept
    return into[:, torch.tensor(rows).argsort()][:, 1:, 1:]


def test_frame_takes_the_edge_to_plus_y(dtype: torch.dtype) -> None:
    vectors = torch.cat((random_vectors(50, dtype), near_poles(dtype)))
    rotation = rotation_of(edge_frames(vectors, CoefficientLayout(1, 1)).into)
    directions = vectors / torch.linalg.vector_norm(vectors, dim=1, keepdim=True)
    turned = torch.einsum("eij,ej->ei", rotation, directions)
    up = torch.tensor([0.0, 1.0, 0.0], dtype=dtype).expand_as(turned)
    torch.testing.assert_close(turned, up, atol=4 * torch.finfo(dtype).eps, rtol=0)


def test_frame_is_a_proper_rotation(dtype: torch.dtype) -> None:
    vectors = torch.cat((random_vectors(50, dtype), near_poles(dtype)))
    rotation = rotation_of(edge_frames(vectors, CoefficientLayout(1, 1)).into).double()
    tolerance = 8 * torch.finfo(dtype).eps
    eye = torch.eye(3, dtype=torch.float64).expand_as(rotation)
    torch.testing.assert_close(rotation @ rotation.mT, eye, atol=tolerance, rtol=0)
    torch.testing.assert_close(torch.linalg.det(rotation), torch.ones(len(rotation)).double(), atol=tolerance, rtol=0)


@pytest.mark.parametrize("gauge", [None, 0.7])
@pytest.mark.parametrize("lmax", [1, 6, 10])
def test_matrices_against_e3nn(lmax: int, gauge: float | None, dtype: torch.dtype) -> None:
    vectors = torch.cat((random_vectors(20, dtype), near_poles(dtype)[::5]))
    angle = None if gauge is None else torch.full((len(vectors),), gauge, dtype=dtype)
    layout = CoefficientLayout(lmax, lmax)
    into = edge_frames(vectors, layout, angle).into
    # the rotation actually taken: a denormal vector divided by its length may have another azimuth
    rotations = rotation_of(edge_frames(vectors, CoefficientLayout(1, 1), angle).into).double()
    kept = list(layout.kept)
    for matrix, rotation in zip(into, rotations, strict=True):
        expected = wigner(rotation, lmax)[kept]
        torch.testing.assert_close(matrix.double(), expected, atol=max(1e-10, TOLERANCE[dtype]), rtol=0)


def test_matrices_are_orthogonal(dtype: torch.dtype) -> None:
    for layout in (CoefficientLayout(10, 10), CoefficientLayout(6, 2), CoefficientLayout(3, 0)):
        into = edge_frames(torch.cat((random_vectors(20, dtype), near_poles(dtype))), layout).into
        eye = torch.eye(layout.num_kept, dtype=dtype).expand(len(into), -1, -1)
        torch.testing.assert_close(into @ into.mT, eye, atol=TOLERANCE[dtype], rtol=0)


@pytest.mark.parametrize(("lmax", "mmax"), [(2, 2), (4, 2), (6, 3), (5, 0)])
def test_way_back_is_the_transpose_with_the_truncation_factor(lmax: int, mmax: int) -> None:
    layout = CoefficientLayout(lmax, mmax)
    frames = edge_frames(random_vectors(7), layout)
    factor = [math.sqrt((2 * l + 1) / (2 * mmax + 1)) if l > mmax else 1.0 for l in layout.kept_degrees]
    torch.testing.assert_close(
        frames.back, frames.into.mT * torch.tensor(factor, dtype=torch.float64), atol=1e-14, rtol=0
    )


def test_directions_are_spherical_harmonics_of_the_edges(dtype: torch.dtype) -> None:
    vectors = torch.cat((random_vectors(20, dtype), near_poles(dtype)))
    directions = edge_frames(vectors, CoefficientLayout(10, 2)).directions
    # e3nn's "norm": sum over m of Y_lm^2 is 1
    expected = o3.spherical_harmonics(list(range(11)), vectors.double(), normalize=True, normalization="norm")
    torch.testing.assert_close(directions.double(), expected, atol=max(1e-10, TOLERANCE[dtype]), rtol=0)


def test_gauge_turns_about_the_edge() -> None:
    layout, vectors = CoefficientLayout(4, 2), random_vectors(9)
    gauge = torch.linspace(-4, 4, 9, dtype=torch.float64)
    plain, turned = edge_frames(vectors, layout), edge_frames(vectors, layout, gauge)
    kept = list(layout.kept)
    for edge, angle in enumerate(gauge):
        about_y = wigner(o3.matrix_y(angle), 4)[kept][:, kept]
        torch.testing.assert_close(turned.into[edge], about_y @ plain.into[edge], atol=1e-12, rtol=0)
    # what lies along the edge does not feel the turn, nor does going in and back
    torch.testing.assert_close(turned.directions, plain.directions, atol=1e-13, rtol=0)
    torch.testing.assert_close(turned.back @ turned.into, plain.back @ plain.into, atol=1e-12, rtol=0)


def test_gauge_zero_is_the_default() -> None:
    layout, vectors = CoefficientLayout(3, 2), random_vectors(5)
    assert torch.equal(edge_frames(vectors, layout, torch.zeros(5).double()).into, edge_frames(vectors, layout).into)


def test_length_does_not_matter() -> None:
    layout, vectors = CoefficientLayout(6, 2), random_vectors(5)
    torch.testing.assert_close(edge_frames(3 * vectors, layout).into, edge_frames(vectors, layout).into)


def test_repeatable_bit_for_bit() -> None:
    layout, vectors = CoefficientLayout(6, 2), random_vectors(20)
    assert torch.equal(edge_frames(vectors, layout).into, edge_frames(vectors, layout).into)


def test_dtype_follows_the_vectors_and_no_gradient_flows(dtype: torch.dtype) -> None:
    vectors = random_vectors(4, dtype).requires_grad_()
    frames = edge_frames(vectors, CoefficientLayout(2, 1))
    assert frames.into.dtype == frames.back.dtype == dtype
    assert not frames.into.requires_grad


def test_no_edges() -> None:
    frames = edge_frames(torch.zeros(0, 3), CoefficientLayout(3, 1))
    assert frames.into.shape == (0, 10, 16)
    assert frames.back.shape == (0, 16, 10)
    assert frames.directions.shape == (0, 16)


def test_autocast_does_not_touch_the_frames() -> None:
    vectors, layout = torch.randn(5, 3), CoefficientLayout(4, 2)
    expected = edge_frames(vectors, layout)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        frames = edge_frames(vectors, layout)
    assert frames.into.dtype == torch.float32
    assert torch.equal(frames.into, expected.into)
    assert torch.equal(frames.back, expected.back)
