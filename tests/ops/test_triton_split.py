import pytest
import torch
from torch import Tensor

from ev2_plugin.ops.linear import split as plain
from ev2_plugin.ops.linear import tensor_cores
from ev2_plugin.ops.linear.split import LARGEST
from helpers.tf32_units import emulated_product
from helpers.triton_forms import DEVICE, linear


def assert_same_parts(x: Tensor) -> None:
    for ours, expected in zip(linear.split(x), plain.split(x), strict=True):
        assert torch.equal(ours, expected)


@pytest.mark.parametrize("shape", [(0, 3), (1, 1), (7, 5), (3, 40, 9), (1025,)])
def test_bit_by_bit(shape: tuple[int, ...]) -> None:
    assert_same_parts(torch.randn(shape, device=DEVICE) * 10.0 ** torch.randint(-30, 30, shape, device=DEVICE))


def test_edge_of_the_range() -> None:
    largest = torch.finfo(torch.float32).max
    x = torch.tensor([0.0, -0.0, largest, LARGEST, torch.inf, 1e-40, 1 + 2.0**-11, 2 - 2.0**-12], device=DEVICE)
    assert_same_parts(torch.cat((x, -x)))
    assert linear.split(torch.tensor([torch.nan], device=DEVICE))[1].isnan().all()


def test_any_strides() -> None:
    x = torch.randn(6, 10, device=DEVICE)
    for view in (x.T, x[:, 2:5], x[::2], x[:, :1].expand(-1, 4), x[1:, 1:].T):
        assert_same_parts(view)


def test_the_operator_takes_it_where_it_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    monkeypatch.setattr(linear, "split", lambda x: calls.append(x.shape) or plain.split(x))
    monkeypatch.setattr(tensor_cores, "_add_product", emulated_product)
    monkeypatch.setattr(tensor_cores, "supports", lambda x: None)
    a, b = torch.randn(4, 3, device=DEVICE), torch.randn(3, 2, device=DEVICE)
    torch.testing.assert_close(tensor_cores.tensor_core_product(a, b, None, True), a @ b)
    assert calls == [(4, 3), (3, 2)]
    monkeypatch.setattr(tensor_cores, "supports", lambda x: "no")
    torch.testing.assert_close(tensor_cores.tensor_core_product(a, b, None, True), a @ b)
    assert len(calls) == 2
