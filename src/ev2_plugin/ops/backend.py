"""Which form of each operation a model uses."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import cache, partial
from typing import Any, Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional as F

from ev2_plugin.ops import attention_scatter, edge_convolution, edge_rotation, so2_linear, sphere_activation
from ev2_plugin.ops.linear import PRECISIONS, Precision, linear, product
from ev2_plugin.ops.pointwise import silu

Backend = Literal["auto", "reference", "pytorch", "triton"]


@dataclass(frozen=True)
class Operations:
    """One implementation of every operation; all share the layers' parameters."""

    linear: Callable[..., Tensor]
    product: Callable[[Tensor, Tensor], Tensor]
    convolved_messages: Callable[..., tuple[Tensor, Tensor]]
    so2_linear: Callable[..., tuple[Tensor, Tensor]]
    silu_on_sphere: Callable[..., Tensor]
    mlp_on_sphere: Callable[..., Tensor]
    attention_weights: Callable[..., Tensor]
    rotate_back_and_sum: Callable[..., Tensor]
    silu: Callable[[Tensor], Tensor]


@cache
def operations(backend: Backend, precision: Precision = "highest") -> Operations:
    """The operations a backend name stands for.

    Args:
        backend: `reference` for the plain forms, `pytorch` for the restructured ones, `triton` for kernels on NVIDIA
            GPUs, `auto` for the fastest that serve the tensors at hand.
        precision: Of the matrix products.

    Raises:
        ValueError: If there is no such backend or precision, or the backend has not this precision.
    """
    if backend not in get_args(Backend):
        raise ValueError(f"backend must be one of {sorted(get_args(Backend))}, got {backend!r}")
    if precision not in PRECISIONS:
        raise ValueError(f"precision must be one of {sorted(PRECISIONS)}, got {precision!r}")
    if backend == "reference":
        if precision in ("high", "tf32"):
            raise ValueError(f"backend reference multiplies as torch does: it has no precision {precision!r}")
        return REFERENCE
    if backend == "pytorch":
        return _pytorch(precision)
    return _by_tensor(precision)


def declined(x: Tensor) -> str | None:
    """Why Triton's kernels cannot serve a tensor; None if they can."""
    from ev2_plugin.ops.triton_support import supports

    return supports(x)


def announce(backend: Backend, like: Tensor) -> None:
    """Log which backend `auto` takes for tensors like this one, once per kind of tensor.

    Raises:
        ValueError: If a backend was asked for by name and cannot serve them.
    """
    if backend not in ("auto", "triton"):
        return
    reason = declined(like)
    if backend == "triton" and reason is not None:
        raise ValueError(f"backend triton cannot run here: {reason}")
    if backend == "auto":
        _say(like.device.type, like.dtype, reason)


@cache
def _say(device: str, dtype: torch.dtype, reason: str | None) -> None:
    kind = f"{str(dtype).removeprefix('torch.')} on {device}"
    if reason is None:
        logging.info(f"EquiformerV2: backend triton for {kind}")
    else:
        logging.info(f"EquiformerV2: backend pytorch for {kind} (not triton: {reason})")


REFERENCE = Operations(
    linear=F.linear,
    product=torch.matmul,
    convolved_messages=edge_convolution.reference.convolved_messages,
    so2_linear=so2_linear.reference.so2_linear,
    silu_on_sphere=sphere_activation.reference.silu_on_sphere,
    mlp_on_sphere=sphere_activation.reference.mlp_on_sphere,
    attention_weights=attention_scatter.reference.attention_weights,
    rotate_back_and_sum=edge_rotation.reference.rotate_back_and_sum,
    silu=F.silu,
)


@cache
def _pytorch(precision: Precision) -> Operations:
    return Operations(
        linear=partial(linear, precision=precision),
        product=partial(product, precision=precision),
        convolved_messages=partial(edge_convolution.remade.convolved_messages, precision=precision),
        so2_linear=partial(so2_linear.one_gemm.so2_linear, precision=precision),
        silu_on_sphere=sphere_activation.tiled.silu_on_sphere,
        mlp_on_sphere=partial(sphere_activation.tiled.mlp_on_sphere, precision=precision),
        attention_weights=attention_scatter.fused.attention_weights,
        rotate_back_and_sum=edge_rotation.pytorch.rotate_back_and_sum,
        silu=silu,
    )


@cache
def _triton(precision: Precision) -> Operations:
    from ev2_plugin.ops.attention_scatter import triton as attention
    from ev2_plugin.ops.edge_rotation import triton as rotation
    from ev2_plugin.ops.sphere_activation import triton as sphere

    plain = _pytorch(precision)
    return Operations(
        linear=plain.linear,
        product=plain.product,
        convolved_messages=partial(plain.convolved_messages, rotation="triton"),
        so2_linear=plain.so2_linear,
        silu_on_sphere=partial(sphere.silu_on_sphere, precision=precision),
        mlp_on_sphere=plain.mlp_on_sphere,  # at the nodes, a tenth of the work, most of it in the matrix product
        attention_weights=attention.attention_weights,
        rotate_back_and_sum=rotation.rotate_back_and_sum,
        silu=plain.silu,
    )


def _by_tensor(precision: Precision) -> Operations:
    """Every operation looks at its first tensor; partials of plain functions, so that models can be pickled."""
    return Operations(**{field.name: partial(_suited, field.name, precision) for field in fields(Operations)})


def _suited(name: str, precision: Precision, first: Tensor, *arguments: Any) -> Any:
    """Run Triton's form of an operation if that serves its first tensor, else the restructured one."""
    form = _triton if declined(first) is None else _pytorch
    return getattr(form(precision), name)(first, *arguments)
