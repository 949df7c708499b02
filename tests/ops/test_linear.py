import logging

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from ev2_plugin.ops.linear import Precision, linear, precision, product, tensor_cores
from ev2_plugin.ops.linear.split import LARGEST, round_to_tf32, split, split_product
from ev2_plugin.ops.linear.tensor_cores import tensor_core_product
from helpers.tf32_units import emulate_units, emulated_plain_product, emulated_product, serve_cpu

MODES: tuple[Precision, ...] = precision.PRECISIONS


def with_ten_bits(x: Tensor) -> Tensor:
    """TF32's nearest number by floating-point arithmetic in float64, where rounding ties go away from zero."""
    mantissa, exponent = torch.frexp(x.double())  # 0.5 <= |mantissa| < 1: 11 bits with the implicit one
    rounded = (mantissa.abs() * 2**11 + 0.5).floor() * mantissa.sign()
    return torch.ldexp(rounded, exponent - 11)


def relative_error(out: Tensor, exact: Tensor) -> float:
    assert out.dtype == torch.float32
    return float(torch.linalg.vector_norm(out.double() - exact) / torch.linalg.vector_norm(exact))


@pytest.fixture
def units(monkeypatch: pytest.MonkeyPatch) -> None:
    emulate_units(monkeypatch)


class TestRounding:
    def test_bit_by_bit(self) -> None:
        x = torch.randn(10_000) * 10.0 ** torch.randint(-30, 30, (10_000,))
        assert torch.equal(round_to_tf32(x).double(), with_ten_bits(x))

    def test_ties_and_carries(self) -> None:
        unit = 2.0**-10
        x = torch.tensor([1 + unit / 2, 1 + 3 * unit / 2, 1 + 0.499 * unit, 2 - unit / 2, 2 - unit / 4, 0.0])
        expected = torch.tensor([1 + unit, 1 + 2 * unit, 1.0, 2.0, 2.0, 0.0])
        assert torch.equal(round_to_tf32(x), expected)
        assert torch.equal(round_to_tf32(-x), -expected)

    def test_largest_number_stays_finite(self) -> None:
        largest = torch.finfo(torch.float32).max
        x = torch.tensor([largest, -largest, LARGEST, torch.inf, -torch.inf])
        assert torch.equal(round_to_tf32(x), torch.tensor([LARGEST, -LARGEST, LARGEST, LARGEST, -LARGEST]))
        assert round_to_tf32(torch.tensor([torch.nan])).isnan().all()
        assert with_ten_bits(torch.tensor(LARGEST)) == LARGEST

    def test_parts_add_up_exactly(self) -> None:
        tiny = torch.finfo(torch.float32).tiny
        x = torch.cat((torch.randn(1000), torch.tensor([3.4028e38, -3.4028e38, tiny, 3 * tiny, tiny / 4, torch.inf])))
        high, low = split(x)
        assert torch.equal(high.double() + low.double(), x.double())
        ordinary = x.abs() < 3e38
        assert (low.abs() <= x.abs().clamp_min(tiny) * 2**-11)[ordinary].all()

    def test_input_is_left_alone_and_may_have_any_strides(self) -> None:
        x = torch.randn(6, 5).T
        before = x.clone()
        assert torch.equal(round_to_tf32(x), round_to_tf32(x.contiguous()))
        assert torch.equal(round_to_tf32(x[:, :1].expand(-1, 3)), round_to_tf32(x[:, :1].repeat(1, 3)))
        assert torch.equal(x, before)


@pytest.mark.parametrize(("m", "k", "n"), [(7, 300, 5), (33, 1, 9), (1, 2000, 1)])
def test_split_product_is_as_good_as_fp32(m: int, k: int, n: int) -> None:
    a, b = torch.randn(m, k), torch.randn(k, n)
    exact = a.double() @ b.double()
    split_error = relative_error(split_product(a, b, None, emulated_product), exact)
    tf32_error = relative_error(emulated_plain_product(a, b, None), exact)
    assert split_error < 1e-6
    assert 1e-5 < tf32_error < 1e-3


def test_split_product_needs_both_cross_terms() -> None:
    a, b = torch.randn(20, 30), torch.randn(30, 20)
    coarse_a, coarse_b = round_to_tf32(a), round_to_tf32(b)
    for left, right in ((coarse_a, b), (a, coarse_b)):
        assert relative_error(split_product(left, right, None, emulated_product), left.double() @ right.double()) < 1e-6


@pytest.mark.parametrize("factor", [torch.finfo(torch.float32).max, torch.inf, -torch.inf, torch.nan, 1e-38])
def test_split_product_at_the_edge_of_the_range(factor: float) -> None:
    a, b = torch.tensor([[factor, 1.5], [0.3, 0.0]]), torch.tensor([[0.9, -0.1], [2.0, 1.0]])
    for left, right in ((a, b), (b, a)):
        expected = left @ right
        out = split_product(left, right, None, emulated_product)
        torch.testing.assert_close(out, expected, equal_nan=True, rtol=1e-6, atol=1e-44)


@pytest.mark.usefixtures("units")
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("m", "k", "n"), [(5, 70, 3), (0, 4, 2), (3, 1, 1), (2, 0, 3)])
def test_operator_values_and_gradients(m: int, k: int, n: int, bias: bool) -> None:
    a, b = torch.randn(k, m).T.requires_grad_(), torch.randn(n, k).T.requires_grad_()
    inputs = [a, b, torch.randn(n, requires_grad=True)][: 3 if bias else 2]
    grad = torch.randn(m, n)
    exact_inputs = [x.detach().double().requires_grad_() for x in inputs]
    exact = exact_inputs[0] @ exact_inputs[1] + (exact_inputs[2] if bias else 0)
    expected = (exact, *torch.autograd.grad(exact, exact_inputs, grad.double()))
    for split_factors, tolerance in ((True, 2e-6), (False, 3e-3)):
        out = tensor_core_product(*(inputs if bias else [*inputs, None]), split_factors)
        for ours, right in zip((out, *torch.autograd.grad(out, inputs, grad)), expected, strict=True):
            torch.testing.assert_close(ours.double(), right, rtol=tolerance, atol=tolerance * max(k, m, n) ** 0.5)
        if m and k > 1:
            assert (relative_error(out, exact) < 1e-6) == split_factors


@pytest.mark.usefixtures("units")
@pytest.mark.parametrize("size", [0, 1, 3])
def test_operator_on_a_batch_of_matrices(size: int) -> None:
    a = torch.randn(size, 6, 5).mT.requires_grad_()
    b = torch.randn(size, 6, 4, requires_grad=True)
    out = tensor_core_product(a, b, None, True)
    torch.testing.assert_close(out, a @ b, rtol=1e-5, atol=1e-6)
    grad = torch.randn_like(out)
    expected = torch.autograd.grad(a @ b, [a, b], grad)
    torch.testing.assert_close(torch.autograd.grad(out, [a, b], grad), expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(product(a, b, "high"), a @ b)


@pytest.mark.parametrize("split_factors", [True, False])
def test_operator_is_well_formed(split_factors: bool) -> None:
    inputs = [torch.randn(shape, requires_grad=True) for shape in [(5, 7), (7, 3), (3,)]]
    torch.library.opcheck(tensor_core_product, (*inputs, split_factors))
    torch.library.opcheck(tensor_core_product, (*inputs[:2], None, split_factors))


def test_operator_gives_only_the_gradients_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    products = []

    def counted(a: Tensor, b: Tensor, bias: Tensor | None) -> Tensor:
        products.append((a.shape, b.shape))
        return a @ b

    monkeypatch.setattr(tensor_cores, "_plain_product", counted)
    tensor_core_product(torch.randn(4, 3), torch.randn(3, 2).requires_grad_(), None, False).sum().backward()
    assert products == [((4, 3), (3, 2)), ((3, 4), (4, 2))]


@pytest.mark.parametrize("outside", ["highest", "high"])
def test_switch_is_on_for_the_product_alone(outside: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    monkeypatch.setattr(
        tensor_cores, "_plain_product", lambda a, b, bias: seen.append(torch.get_float32_matmul_precision()) or a @ b
    )
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(outside)
    try:
        a = torch.randn(2, 2, requires_grad=True)
        out = tensor_core_product(a, a, None, False)
        assert torch.get_float32_matmul_precision() == outside
        out.sum().backward()
        with pytest.raises(RuntimeError):
            tensor_core_product(a, torch.randn(3, 1), None, False)
        assert torch.get_float32_matmul_precision() == outside
    finally:
        torch.set_float32_matmul_precision(before)
    assert seen == ["high"] * len(seen)
    assert len(seen) == 4


@pytest.mark.usefixtures("units")
def test_operator_is_not_cast_by_autocast() -> None:
    a, b = torch.randn(9, 40), torch.randn(40, 9)
    with torch.autocast("cpu", torch.bfloat16):
        out = tensor_core_product(a, b, None, True)
    assert relative_error(out, a.double() @ b.double()) < 1e-6


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("shape", [(7,), (4, 7), (3, 2, 7), (0, 2, 7)])
def test_linear_on_the_cpu_is_plain(mode: Precision, shape: tuple[int, ...], dtype: torch.dtype) -> None:
    inputs = [torch.randn(size, dtype=dtype, requires_grad=True) for size in (shape, (5, 7), (5,))]
    out, expected = linear(*inputs, mode), F.linear(*inputs)
    assert torch.equal(out, expected)
    assert torch.equal(linear(*inputs[:2], None, mode), F.linear(*inputs[:2]))
    a, b = torch.randn(3, 4, dtype=dtype), torch.randn(6, 4, dtype=dtype).T
    assert torch.equal(product(a, b, mode), a @ b)


@pytest.mark.usefixtures("units")
@pytest.mark.parametrize(("mode", "least", "most"), [("high", 0, 1e-6), ("tf32", 1e-5, 1e-3)])
@pytest.mark.parametrize("shape", [(7,), (4, 7), (3, 2, 7), (0, 2, 7)])
def test_linear_on_tensor_cores(
    mode: Precision, least: float, most: float, shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    serve_cpu(monkeypatch)
    x = torch.randn(*shape[:-1], 2 * shape[-1])[..., ::2]  # strided
    weight, bias = torch.randn(5, 7), torch.randn(5)
    for one_bias in (bias, None):
        out = linear(x, weight, one_bias, mode)
        exact = F.linear(x.double(), weight.double(), None if one_bias is None else one_bias.double())
        assert out.shape == exact.shape
        if out.numel():
            assert least <= relative_error(out, exact) < most
    flat = x.reshape(-1, 7)
    torch.testing.assert_close(product(flat, weight.T, mode), linear(flat, weight, None, mode), rtol=0, atol=0)


class TestWhereTensorCoresServe:
    @staticmethod
    def served(x: Tensor, mode: Precision) -> bool:
        """As if the CPU were a GPU."""

        class Pretended:
            dtype, device = x.dtype, type("Device", (), {"type": "cuda"})()

        check = precision._on_tensor_cores
        return getattr(check, "__wrapped__", check)(Pretended(), mode)

    def test_float32_on_a_gpu(self) -> None:
        x = torch.zeros(1)
        assert [mode for mode in MODES if self.served(x, mode)] == ["high", "tf32"]

    @pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
    def test_other_dtypes_do_not(self, dtype: torch.dtype) -> None:
        assert not any(self.served(torch.zeros(1, dtype=dtype), mode) for mode in MODES)

    def test_autocast_decides_where_it_is_on(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(torch, "is_autocast_enabled", lambda device: device == "cuda")
        assert not any(self.served(torch.zeros(1), mode) for mode in MODES)


def test_plain_products_are_told_once(caplog: pytest.LogCaptureFixture) -> None:
    precision._say_plain.cache_clear()
    with caplog.at_level(logging.INFO):
        for mode in (*MODES, *MODES):
            product(torch.zeros(1, 1), torch.zeros(1, 1), mode)
    assert [record.getMessage() for record in caplog.records] == [
        f"precision {mode}: device cpu has no TF32 units, products are plain fp32" for mode in ("high", "tf32")
    ]


def test_autocast_halves_a_linear_map_of_any_mode() -> None:
    x, weight = torch.randn(4, 3), torch.randn(2, 3)
    with torch.autocast("cpu", torch.bfloat16):
        assert {linear(x, weight, None, mode).dtype for mode in MODES} == {torch.bfloat16}


@pytest.mark.gpu
@pytest.mark.parametrize(("m", "k", "n"), [(4000, 1024, 704), (257, 640, 64), (3, 7, 5)])
def test_accuracy_on_the_gpu(m: int, k: int, n: int) -> None:
    x, weight, bias = (torch.randn(shape, device="cuda") for shape in ((m, k), (n, k), (n,)))
    exact = F.linear(x.double(), weight.double(), bias.double())
    errors = {mode: relative_error(linear(x, weight, bias, mode), exact) for mode in ("highest", "high", "tf32")}
    assert errors["highest"] < 1e-6
    assert errors["high"] < 5e-6
    assert errors["tf32"] < 1e-3
