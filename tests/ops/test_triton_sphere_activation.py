import pytest
import torch
from torch import Tensor

from ev2_plugin.ops.linear import Precision
from ev2_plugin.ops.sphere_activation import reference
from ev2_plugin.so3.layout import CoefficientLayout
from ev2_plugin.so3.sphere_grid import SphereGrid
from helpers.triton_forms import DEVICE, sphere

# points: 16 (half a tile), 64 (two tiles), 324 (with a remainder); coefficients: 4 to 37
CASES = [(1, 0, 4, True), (2, 2, 8, False), (3, 1, 8, True), (4, 2, 18, True), (6, 3, 18, True)]
each_case = pytest.mark.parametrize(("lmax", "mmax", "resolution", "order_major"), CASES)


def grid_matrices(lmax: int, mmax: int, resolution: int, order_major: bool) -> tuple[Tensor, Tensor]:
    return SphereGrid(CoefficientLayout(lmax, mmax), resolution, order_major).matrices(torch.float64, DEVICE)


def coefficients(rows: int, matrices: tuple[Tensor, Tensor], channels: int) -> Tensor:
    return 3 * torch.randn(rows, matrices[0].shape[1], channels, dtype=torch.float64, device=DEVICE)


def compare(x: Tensor, to_grid: Tensor, from_grid: Tensor) -> None:
    results = []
    grad = torch.randn(len(x), len(from_grid), x.shape[2], dtype=x.dtype, device=DEVICE)
    for form in (sphere, reference):
        leaf = x.clone().requires_grad_()
        out = form.silu_on_sphere(leaf, to_grid, from_grid)
        results.append((out, *torch.autograd.grad(out, leaf, grad)))
    for ours, expected in zip(*results, strict=True):
        torch.testing.assert_close(ours, expected, atol=1e-11, rtol=1e-11)


@pytest.mark.parametrize("without_scalars", [True, False])
@each_case
def test_is_the_reference(lmax: int, mmax: int, resolution: int, order_major: bool, without_scalars: bool) -> None:
    to_grid, from_grid = grid_matrices(lmax, mmax, resolution, order_major)
    compare(coefficients(3, (to_grid, from_grid), 3), to_grid, from_grid[int(without_scalars) :])


@pytest.mark.parametrize(("rows", "channels"), [(0, 3), (1, 1), (13, 5), (4, 20)])
def test_rows_and_channels(rows: int, channels: int) -> None:
    """13 x 5 and 4 x 20 are more than one tile of columns and no multiple of it."""
    matrices = grid_matrices(2, 1, 8, True)
    compare(coefficients(rows, matrices, channels), *matrices)


def test_more_coefficients_than_a_tile_of_channels() -> None:
    compare(coefficients(1, matrices := grid_matrices(11, 11, 24, False), 1), *matrices)


def test_rows_that_are_not_contiguous() -> None:
    matrices = grid_matrices(2, 1, 8, True)
    compare(coefficients(4, matrices, 3).mT.contiguous().mT, *matrices)


def test_gradients_numerically() -> None:
    matrices = grid_matrices(1, 1, 4, True)
    x = coefficients(2, matrices, 2).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: sphere.silu_on_sphere(x, *matrices), [x], fast_mode=True)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 2e-5), (torch.bfloat16, 2e-2)])
def test_lower_precision(dtype: torch.dtype, tolerance: float) -> None:
    to_grid, from_grid = (matrix.to(dtype) for matrix in grid_matrices(2, 1, 8, True))
    x = coefficients(5, (to_grid, from_grid), 3).to(dtype).requires_grad_()
    out = sphere.silu_on_sphere(x, to_grid, from_grid)
    (grad,) = torch.autograd.grad(out.double().sin().sum(), x)
    assert (out.dtype, grad.dtype) == (dtype, dtype)
    exact = x.detach().double().requires_grad_()
    expected = reference.silu_on_sphere(exact, to_grid.double(), from_grid.double())
    torch.testing.assert_close(out.double(), expected, atol=tolerance, rtol=tolerance)
    (expected_grad,) = torch.autograd.grad(expected, exact, out.detach().double().cos())
    torch.testing.assert_close(grad.double(), expected_grad, atol=4 * tolerance, rtol=tolerance)


@pytest.mark.parametrize(("precision", "tolerance"), [("highest", 2e-6), ("high", 5e-6), ("tf32", 5e-3)])
def test_arithmetic_follows_the_precision(precision: Precision, tolerance: float) -> None:
    """The interpreter multiplies in float32 at every precision; a GPU shows the differences."""
    to_grid, from_grid = grid_matrices(4, 2, 18, True)
    x = coefficients(6, (to_grid, from_grid), 8)
    expected = reference.silu_on_sphere(x, to_grid, from_grid)
    out = sphere.silu_on_sphere(x.float(), to_grid.float(), from_grid.float(), precision)
    assert ((out - expected).norm() / expected.norm()).item() < tolerance


def test_twice_the_same_bits() -> None:
    matrices = grid_matrices(2, 1, 8, True)
    x = coefficients(30, matrices, 3)
    assert torch.equal(sphere.silu_on_sphere(x, *matrices), sphere.silu_on_sphere(x, *matrices))


def test_operator_is_sound() -> None:
    matrices = grid_matrices(1, 0, 4, True)
    x = coefficients(2, matrices, 2).requires_grad_()
    torch.library.opcheck(torch.ops.ev2_triton.silu_on_sphere.default, (x, *matrices, "sum"))


def test_autograd_keeps_the_coefficients_only() -> None:
    to_grid, from_grid = grid_matrices(2, 1, 8, True)
    x = coefficients(3, (to_grid, from_grid), 2).requires_grad_()
    sizes: list[int] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: sizes.append(t.numel()) or t, lambda t: t):
        sphere.silu_on_sphere(x, to_grid, from_grid)
    assert sum(sizes) == x.numel() + to_grid.numel() + from_grid.numel()
