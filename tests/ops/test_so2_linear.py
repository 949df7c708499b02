import pytest
import torch
from torch import Tensor

from ev2_plugin.ops.so2_linear import SO2Weights, one_gemm, reference
from ev2_plugin.so3.layout import CoefficientLayout

PAIRS = [(0, 0), (1, 0), (2, 2), (3, 1), (4, 2), (6, 3)]
EDGES = [0, 1, 7]


def problem(layout: CoefficientLayout, edges: int, num_scalars: int) -> list[Tensor]:
    c_in, c_out = 3, 2
    shapes = [
        (edges, layout.num_kept, c_in),
        (num_scalars + layout.order_sizes[0] * c_out, layout.order_sizes[0] * c_in),
        (num_scalars + layout.order_sizes[0] * c_out,),
        *((2 * size * c_out, size * c_in) for size in layout.order_sizes[1:]),
    ]
    return [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes]


def apply(form, layout: CoefficientLayout, num_scalars: int, tensors: list[Tensor]) -> tuple[Tensor, Tensor]:
    x, zero, bias, *pairs = tensors
    return form(x, SO2Weights(zero, bias, tuple(pairs), num_scalars), layout)


@pytest.mark.parametrize("num_scalars", [0, 5])
@pytest.mark.parametrize("edges", EDGES)
@pytest.mark.parametrize(("lmax", "mmax"), PAIRS)
def test_one_gemm_is_the_reference(lmax: int, mmax: int, edges: int, num_scalars: int) -> None:
    layout = CoefficientLayout(lmax, mmax)
    tensors = problem(layout, edges, num_scalars)
    results = []
    for form in (reference.so2_linear, one_gemm.so2_linear):
        out, scalars = apply(form, layout, num_scalars, tensors)
        assert out.shape == (edges, layout.num_kept, 2)
        assert scalars.shape == (edges, num_scalars)
        loss = (out * torch.arange(1.0, 3.0)).sin().sum() + scalars.cos().sum()
        results.append((out, scalars, *torch.autograd.grad(loss, tensors)))
    for ours, expected in zip(*results, strict=True):
        torch.testing.assert_close(ours, expected, atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize("form", [reference.so2_linear, one_gemm.so2_linear])
def test_gradients(form) -> None:
    layout = CoefficientLayout(2, 1)
    tensors = problem(layout, 2, 1)
    assert torch.autograd.gradcheck(lambda *inputs: apply(form, layout, 1, list(inputs)), tensors)


@pytest.mark.parametrize("form", [reference.so2_linear, one_gemm.so2_linear])
def test_every_order_by_the_equation(form) -> None:
    layout = CoefficientLayout(2, 2)
    x, zero, bias, *pairs = problem(layout, 4, 0)
    out, _ = apply(form, layout, 0, [x, zero, bias, *pairs])
    rows = {(layout.degrees[i], layout.orders[i]): row for row, i in enumerate(layout.kept)}

    def order(y: Tensor, m: int) -> Tensor:
        return torch.cat([y[:, rows[l, m]] for l in range(abs(m), 3)], dim=1)

    torch.testing.assert_close(order(out, 0), order(x, 0) @ zero.T + bias)
    for m, weight in enumerate(pairs, start=1):
        real, imaginary = weight.chunk(2)
        product = torch.complex(order(x, m), order(x, -m)) @ torch.complex(real, imaginary).T
        torch.testing.assert_close(order(out, m), product.real)
        torch.testing.assert_close(order(out, -m), product.imag)


@pytest.mark.parametrize("form", [reference.so2_linear, one_gemm.so2_linear])
def test_commutes_with_turns_about_the_edge(form) -> None:
    layout = CoefficientLayout(3, 2)
    orders = torch.tensor([layout.orders[i] for i in layout.kept], dtype=torch.float64)
    mirrored = [layout.kept.index(i - 2 * layout.orders[i]) for i in layout.kept]

    def turn(x: Tensor, angle: float) -> Tensor:
        cos, sin = (orders * angle).cos(), (orders * angle).sin()
        return x * cos[:, None] - x[:, mirrored] * sin[:, None]

    tensors = problem(layout, 5, 3)
    out, scalars = apply(form, layout, 3, tensors)
    turned_out, turned_scalars = apply(form, layout, 3, [turn(tensors[0], 0.8), *tensors[1:]])
    torch.testing.assert_close(turned_out, turn(out, 0.8), atol=1e-12, rtol=0)
    torch.testing.assert_close(turned_scalars, scalars, atol=1e-12, rtol=0)


@pytest.mark.parametrize("num_scalars", [0, 5])
@pytest.mark.parametrize("edges", EDGES)
@pytest.mark.parametrize(("lmax", "mmax"), PAIRS)
def test_backward_is_the_gradient_of_the_reference(lmax: int, mmax: int, edges: int, num_scalars: int) -> None:
    layout = CoefficientLayout(lmax, mmax)
    x, zero, bias, *pairs = tensors = problem(layout, edges, num_scalars)
    grads = torch.randn(edges, layout.num_kept, 2).double(), torch.randn(edges, num_scalars).double()
    out = apply(reference.so2_linear, layout, num_scalars, tensors)
    expected_x, expected_zero, _, *expected_pairs = torch.autograd.grad(out, tensors, grads)
    with torch.no_grad():
        matrices = one_gemm.block_matrices(SO2Weights(zero, bias, tuple(pairs), num_scalars))
        grad_x, (grad_zero, *grad_matrices) = one_gemm.so2_linear_backward(x, *grads, matrices, layout)
    grad_pairs = [one_gemm.real_as_complex(grad) for grad in grad_matrices]
    ours, expected = [grad_x, grad_zero, *grad_pairs], [expected_x, expected_zero, *expected_pairs]
    for a, b in zip(ours, expected, strict=True):
        torch.testing.assert_close(a, b, atol=1e-12, rtol=1e-12)
