import pytest
import torch
from torch.nn import functional as F

from ev2_plugin.ops.pointwise import silu, silu_and_slope, silu_in_place

ALL_DTYPES = [torch.float64, torch.float32, torch.float16, torch.bfloat16]


def arguments(dtype: torch.dtype) -> torch.Tensor:
    extreme = [torch.finfo(dtype).max, 1e4, 700.0, 89.0, 88.0, 11.2, 11.0, torch.finfo(dtype).tiny, 0.0]
    largest = torch.finfo(dtype).max
    x = torch.cat((torch.tensor(extreme, dtype=torch.float64).clamp(max=largest), torch.linspace(0, 20, 201).double()))
    return torch.cat((x, -x)).to(dtype)


def expected_slope(x: torch.Tensor) -> torch.Tensor:
    x = x.double()
    return x.sigmoid() * (1 + x * (1 - x.sigmoid()))


@pytest.mark.parametrize("dtype", ALL_DTYPES)
def test_value_everywhere(dtype: torch.dtype) -> None:
    x = arguments(dtype)
    expected = F.silu(x.double()).to(dtype)
    eps = torch.finfo(dtype).eps
    for ours in (silu(x), silu_in_place(x.clone()), silu_and_slope(x)[0]):
        assert ours.dtype == dtype
        torch.testing.assert_close(ours, expected, atol=8 * eps, rtol=8 * eps)


@pytest.mark.parametrize("dtype", ALL_DTYPES)
def test_slope_everywhere(dtype: torch.dtype) -> None:
    x = arguments(dtype).requires_grad_()
    eps = torch.finfo(dtype).eps
    (gradient,) = torch.autograd.grad(silu(x).double().sum(), x)
    for ours in (gradient, silu_and_slope(x.detach())[1]):
        torch.testing.assert_close(ours, expected_slope(x.detach()).to(dtype), atol=16 * eps, rtol=16 * eps)


def test_gradient() -> None:
    assert torch.autograd.gradcheck(silu, [(4 * torch.randn(3, 5, dtype=torch.float64)).requires_grad_()])


def test_nothing() -> None:
    assert silu(torch.zeros(0, 3)).shape == (0, 3)


def test_keeps_its_input_only() -> None:
    x, kept = torch.randn(10, requires_grad=True), []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        silu(x)
    assert len(kept) == 1
    assert kept[0].data_ptr() == x.data_ptr()
