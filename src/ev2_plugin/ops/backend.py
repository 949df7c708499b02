"""Which form of each operation a model uses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from torch import Tensor
from torch.nn import functional as F

from ev2_plugin.ops import edge_rotation, so2_linear, sphere_activation
from ev2_plugin.ops.attention_scatter import softmax_by_receiver
from ev2_plugin.ops.pointwise import silu

Backend = Literal["auto", "reference"]


@dataclass(frozen=True)
class Operations:
    """One implementation of every operation; all share the layers' parameters."""

    rotated_messages: Callable[..., Tensor]
    rotate_back_and_sum: Callable[..., Tensor]
    so2_linear: Callable[..., tuple[Tensor, Tensor]]
    silu_on_sphere: Callable[..., Tensor]
    mlp_on_sphere: Callable[..., Tensor]
    softmax_by_receiver: Callable[..., Tensor]
    silu: Callable[[Tensor], Tensor]


REFERENCE = Operations(
    rotated_messages=edge_rotation.reference.rotated_messages,
    rotate_back_and_sum=edge_rotation.reference.rotate_back_and_sum,
    so2_linear=so2_linear.reference.so2_linear,
    silu_on_sphere=sphere_activation.reference.silu_on_sphere,
    mlp_on_sphere=sphere_activation.reference.mlp_on_sphere,
    softmax_by_receiver=softmax_by_receiver,
    silu=F.silu,
)

RESTRUCTURED = Operations(
    rotated_messages=edge_rotation.lean.rotated_messages,
    rotate_back_and_sum=edge_rotation.lean.rotate_back_and_sum,
    so2_linear=so2_linear.one_gemm.so2_linear,
    silu_on_sphere=sphere_activation.tiled.silu_on_sphere,
    mlp_on_sphere=sphere_activation.tiled.mlp_on_sphere,
    softmax_by_receiver=softmax_by_receiver,
    silu=silu,
)


def operations(backend: Backend) -> Operations:
    """The operations a backend name stands for.

    Args:
        backend: `reference` for the plain forms, `auto` for the fastest that serve every case.

    Raises:
        ValueError: If there is no such backend.
    """
    table = {"auto": RESTRUCTURED, "reference": REFERENCE}
    if backend not in table:
        raise ValueError(f"backend must be one of {sorted(table)}, got {backend!r}")
    return table[backend]
