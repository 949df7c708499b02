"""TF32 units on the CPU: what the operator would compute on a GPU."""

import pytest
import torch
from torch import Tensor

from ev2_plugin.ops.linear import precision, tensor_cores
from ev2_plugin.ops.linear.split import round_to_tf32


def cut_to_tf32(x: Tensor) -> Tensor:
    """As the units read their inputs: the low bits are not looked at."""
    return (x.contiguous().view(torch.int32) & -(2**13)).view(torch.float32)


def emulated_product(total: Tensor | None, a: Tensor, b: Tensor) -> Tensor:
    out = cut_to_tf32(a) @ cut_to_tf32(b)
    return out if total is None else total.add_(out)


def emulated_plain_product(a: Tensor, b: Tensor, bias: Tensor | None) -> Tensor:
    out = emulated_product(None, round_to_tf32(a), round_to_tf32(b))
    return out if bias is None else out + bias


def emulate_units(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the operator's products lose what TF32 has not."""
    monkeypatch.setattr(tensor_cores, "_add_product", emulated_product)
    monkeypatch.setattr(tensor_cores, "_plain_product", emulated_plain_product)


def serve_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the CPU's float32 products of `high` and `tf32` go to the operator."""
    monkeypatch.setattr(
        precision, "_on_tensor_cores", lambda x, mode: mode in ("high", "tf32") and x.dtype == torch.float32
    )
