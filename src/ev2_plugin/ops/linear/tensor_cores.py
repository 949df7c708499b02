"""Products on the TF32 units of NVIDIA GPUs, one operator that torch.compile does not look into.

The switch that lets the vendor's library use TF32 belongs to the process. It is on for exactly one product and put
back after it, in here, where neither a compiler's guards nor other code sees it change.
"""

# Without `from __future__ import annotations`: torch reads the operator's schema from the annotations' types.

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from ev2_plugin.ops.linear.split import Split, split_product
from ev2_plugin.ops.linear.split import split as plain_split
from ev2_plugin.ops.triton_support import supports


@torch.library.custom_op("ev2::tensor_core_product", mutates_args=())
def tensor_core_product(a: Tensor, b: Tensor, bias: Tensor | None, split: bool) -> Tensor:
    """A b + bias of fp32 matrices by TF32 products; differentiable, with the same products in the backward pass.

    Args:
        a: [m, k] or [batch, m, k], any strides.
        b: [k, n] or [batch, k, n], any strides.
        bias: [n] or None.
        split: Three products of split factors instead of one of rounded factors.

    Returns:
        [m, n] or [batch, m, n].
    """
    with torch.autocast(a.device.type, enabled=False), _tf32_units():
        return split_product(a, b, bias, _add_product, _split(a)) if split else _plain_product(a, b, bias)


@tensor_core_product.register_fake
def _(a: Tensor, b: Tensor, bias: Tensor | None, split: bool) -> Tensor:
    return a.new_empty(*a.shape[:-1], b.shape[-1])


def _save(ctx: Any, inputs: tuple, output: Tensor) -> None:
    a, b, _, ctx.split = inputs
    ctx.save_for_backward(a, b)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None, None]:
    a, b = ctx.saved_tensors
    wants_a, wants_b, wants_bias, _ = ctx.needs_input_grad
    return (
        tensor_core_product(grad, b.mT, None, ctx.split) if wants_a else None,
        tensor_core_product(a.mT, grad, None, ctx.split) if wants_b else None,
        grad.sum(dim=0) if wants_bias else None,
        None,
    )


tensor_core_product.register_autograd(_backward, setup_context=_save)


@contextmanager
def _tf32_units() -> Iterator[None]:
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def _split(x: Tensor) -> Split:
    """Triton's form of the split where it serves."""
    if supports(x) is not None:
        return plain_split
    from ev2_plugin.ops.linear import triton

    return triton.split


def _plain_product(a: Tensor, b: Tensor, bias: Tensor | None) -> Tensor:
    return torch.matmul(a, b) if bias is None else torch.addmm(bias, a, b)


def _add_product(total: Tensor | None, a: Tensor, b: Tensor) -> Tensor:
    if total is None:
        return torch.matmul(a, b)
    return total.addmm_(a, b) if a.ndim == 2 else total.baddbmm_(a, b)
