import pytest
import torch
from torch import Tensor

from ev2_plugin.ops.sphere_activation import reference, tiled
from ev2_plugin.so3.layout import CoefficientLayout
from ev2_plugin.so3.sphere_grid import SphereGrid

CHANNELS, POINTS = 3, 64
ROWS = [0, 1, 5, 7]


@pytest.fixture(params=[1, 2, 3, 100], ids=lambda rows: f"tiles of {rows}")
def _tile(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """5 and 7 rows leave a remainder in tiles of 2 and 3."""
    monkeypatch.setitem(tiled.TILE_ELEMENTS, "cpu", request.param * POINTS * CHANNELS)


def grid_matrices(order_major: bool) -> tuple[Tensor, Tensor]:
    layout = CoefficientLayout(2, 1 if order_major else 2)
    return SphereGrid(layout, 8, order_major).matrices(torch.float64, torch.device("cpu"))


def compare(name: str, tensors: list[Tensor], matrices: tuple[Tensor, Tensor]) -> None:
    results = []
    for form in (reference, tiled):
        out = getattr(form, name)(*tensors, *matrices)
        results.append((out, *torch.autograd.grad(out.sin().sum(), tensors)))
    for ours, expected in zip(*results, strict=True):
        assert not ours.isnan().any()
        torch.testing.assert_close(ours, expected, atol=1e-12, rtol=1e-12)


@pytest.mark.usefixtures("_tile")
@pytest.mark.parametrize("without_scalars", [True, False])
@pytest.mark.parametrize("order_major", [True, False])
@pytest.mark.parametrize("rows", ROWS)
class TestTiledIsTheReference:
    def test_silu(self, rows: int, order_major: bool, without_scalars: bool) -> None:
        to_grid, from_grid = grid_matrices(order_major)
        x = (3 * torch.randn(rows, to_grid.shape[1], CHANNELS, dtype=torch.float64)).requires_grad_()
        compare("silu_on_sphere", [x], (to_grid, from_grid[int(without_scalars) :]))

    def test_mlp(self, rows: int, order_major: bool, without_scalars: bool) -> None:
        to_grid, from_grid = grid_matrices(order_major)
        x = (3 * torch.randn(rows, to_grid.shape[1], CHANNELS, dtype=torch.float64)).requires_grad_()
        weight = torch.randn(CHANNELS, CHANNELS, dtype=torch.float64, requires_grad=True)
        compare("mlp_on_sphere", [x, weight], (to_grid, from_grid[int(without_scalars) :]))


@pytest.mark.parametrize("form", [reference, tiled])
def test_gradients(form) -> None:
    matrices = grid_matrices(order_major=True)
    x = torch.randn(3, matrices[0].shape[1], 2, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(2, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: form.silu_on_sphere(x, *matrices), [x])
    assert torch.autograd.gradcheck(lambda x, w: form.mlp_on_sphere(x, w, *matrices), [x, weight])


def test_rows_that_are_not_contiguous() -> None:
    matrices = grid_matrices(order_major=False)
    x = torch.randn(4, CHANNELS, matrices[0].shape[1], dtype=torch.float64).mT
    torch.testing.assert_close(tiled.silu_on_sphere(x, *matrices), reference.silu_on_sphere(x, *matrices))
    weight = torch.randn(CHANNELS, CHANNELS, dtype=torch.float64).T
    torch.testing.assert_close(tiled.mlp_on_sphere(x, weight, *matrices), reference.mlp_on_sphere(x, weight, *matrices))


def test_many_tiles_add_up_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    matrices = grid_matrices(order_major=False)
    x = torch.randn(600, matrices[0].shape[1], CHANNELS, dtype=torch.float64)
    weight = torch.randn(CHANNELS, CHANNELS, dtype=torch.float64)
    gradients = []
    for dtype, rows in ((torch.float64, 600), (torch.bfloat16, 600), (torch.bfloat16, 2)):
        monkeypatch.setitem(tiled.TILE_ELEMENTS, "cpu", rows * POINTS * CHANNELS)
        leaf = weight.detach().to(dtype).requires_grad_()
        out = tiled.mlp_on_sphere(x.to(dtype), leaf, *(matrix.to(dtype) for matrix in matrices))
        out.sum().backward()
        assert leaf.grad is not None
        assert leaf.grad.dtype == dtype
        gradients.append(leaf.grad.double())
    exact, whole, tiles = gradients
    assert (tiles - exact).norm() < 2 * (whole - exact).norm()


def test_autograd_keeps_the_coefficients_only() -> None:
    to_grid, from_grid = grid_matrices(order_major=False)
    x = torch.randn(50, to_grid.shape[1], CHANNELS, dtype=torch.float64, requires_grad=True)
    kept = {}
    for name, form in (("reference", reference), ("tiled", tiled)):
        sizes: list[int] = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t, s=sizes: s.append(t.numel()) or t, lambda t: t):
            form.silu_on_sphere(x, to_grid, from_grid)
        kept[name] = sum(sizes)
    assert kept["tiled"] == x.numel() + to_grid.numel() + from_grid.numel()
    assert kept["tiled"] < kept["reference"] / 2


def test_inputs_are_left_alone() -> None:
    matrices = grid_matrices(order_major=False)
    x, weight = torch.randn(4, 9, CHANNELS).double(), torch.randn(CHANNELS, CHANNELS).double()
    before = x.clone(), weight.clone()
    tiled.silu_on_sphere(x, *matrices)
    tiled.mlp_on_sphere(x, weight, *matrices)
    assert torch.equal(x, before[0])
    assert torch.equal(weight, before[1])
