"""Compile every kernel that the Triton forms launch for a Hopper GPU, on any machine; prints one JSON line for each.

Run as a program, without TRITON_INTERPRET. The forms are called with tensors of the CPU while launches are recorded
instead of made, so that kernels are compiled for the very arguments they get.
"""

from __future__ import annotations

import inspect
import json
from typing import Any

import torch
import triton
from torch import Tensor
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from triton.runtime.jit import JITFunction

from ev2_plugin.graph.edge_graph import EdgeGraph
from ev2_plugin.ops.attention_scatter import LogitParameters
from ev2_plugin.ops.attention_scatter import triton as attention
from ev2_plugin.ops.edge_rotation import triton as rotation
from ev2_plugin.ops.linear import triton as linear
from ev2_plugin.ops.sphere_activation import triton as sphere
from ev2_plugin.so3.edge_frame import edge_frames
from ev2_plugin.so3.layout import CoefficientLayout
from ev2_plugin.so3.sphere_grid import SphereGrid

HOPPER = GPUTarget("cuda", 90, 32)
POINTERS = {torch.float32: "*fp32", torch.bfloat16: "*bf16", torch.int64: "*i64"}
Launch = tuple[Any, tuple[Any, ...], dict[str, Any]]


def recorded_launches() -> list[Launch]:
    """From now on, what is launched is added to the list returned, and not run."""
    launches: list[Launch] = []

    def record(kernel: Any, grid: Any) -> Any:
        return lambda *args, **kwargs: launches.append((kernel, args, kwargs))

    JITFunction.__getitem__ = record
    return launches


def compiled(kernel: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The kernel for these arguments; the interface changed after Triton 3.0."""
    options = {name: kwargs[name] for name in ("num_warps",) if name in kwargs}
    values = inspect.signature(kernel.fn).bind(*args, **{k: v for k, v in kwargs.items() if k not in options}).arguments
    constants = {p.name: values[p.name] for p in kernel.params if p.is_constexpr}
    types = {name: "constexpr" if name in constants else type_of(value) for name, value in values.items()}
    if "constexprs" in inspect.signature(ASTSource).parameters:
        source = ASTSource(kernel, types, constexprs=constants)
    else:
        index = {name: i for i, name in enumerate(values)}
        source = ASTSource(
            kernel,
            {index[name]: kind for name, kind in types.items() if kind != "constexpr"},
            constants={index[name]: value for name, value in constants.items()},
        )
    return triton.compile(source, target=HOPPER, options=options)


def type_of(value: Any) -> str:
    return POINTERS[value.dtype] if isinstance(value, Tensor) else {int: "i32", float: "fp32"}[type(value)]


def call_every_form(dtype: torch.dtype) -> None:
    layout, channels, heads = CoefficientLayout(1, 1), 20, 5
    receivers = torch.tensor([0, 0, 1])
    graph = EdgeGraph(torch.tensor([1, 2, 0]), receivers, torch.randn(3, 3), 3)
    frames = edge_frames(graph.vectors, layout)
    x = torch.randn(3, layout.num_coefficients, channels, dtype=dtype)
    radial = torch.randn(3, layout.num_radial, 2 * channels, dtype=dtype)
    messages = rotation.rotated_messages(x, radial, graph, frames)
    rotation.rotated_messages_backward(messages, x, radial, graph, frames)
    weights = torch.rand(3, heads).requires_grad_()
    for back in (frames.back, frames.back[:, 1:4]):
        values = torch.randn(3, layout.num_kept, channels, dtype=dtype).requires_grad_()
        rotation.rotate_back_and_sum(values, weights, back, graph).sum().backward()
    to_grid, from_grid = SphereGrid(layout, 8).matrices(dtype, torch.device("cpu"))
    coefficients = torch.randn(3, layout.num_kept, channels, dtype=dtype).requires_grad_()
    for precision in sphere.ARITHMETIC:
        sphere.silu_on_sphere(coefficients, to_grid, from_grid[1:], precision).sum().backward()
    features = torch.randn(3, heads, 7, dtype=dtype).requires_grad_()
    parameters = LogitParameters(torch.ones(7), torch.zeros(7), torch.randn(heads, 7))
    attention.attention_weights(features, parameters, graph).sum().backward()
    if dtype == torch.float32:
        linear.split(x)


def main() -> None:
    launches = recorded_launches()
    for dtype in (torch.float32, torch.bfloat16):
        launches.clear()
        call_every_form(dtype)
        for kernel, args, kwargs in launches:
            code = compiled(kernel, args, kwargs).asm
            print(json.dumps({"kernel": kernel.fn.__name__, "dtype": str(dtype), "bytes": len(code["cubin"])}))


if __name__ == "__main__":
    main()
