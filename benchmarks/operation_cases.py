"""Each operation of the seam on inputs of a model's shape, with the work it cannot avoid."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ev2_plugin.graph.edge_graph import EdgeGraph
from ev2_plugin.model.config import ModelConfig
from ev2_plugin.ops.attention_scatter.reference import LogitParameters
from ev2_plugin.ops.backend import Operations
from ev2_plugin.ops.edge_convolution import RadialWeights
from ev2_plugin.ops.so2_linear import SO2Weights
from ev2_plugin.so3.edge_frame import EdgeFrames, edge_frames
from ev2_plugin.so3.layout import CoefficientLayout

Made = tuple[Tensor, ...]


@dataclass(frozen=True)
class OperationCase:
    """One operation, ready to run.

    Attributes:
        name: Field of `Operations`, or what of it.
        call: Runs it in the form given; returns all results.
        inputs: Tensors it reads and is differentiated by.
        constants: Tensors it reads besides.
        products: Multiply-adds of the forward pass that no form can do without. Grid transforms count as dense
            products, rotations by their non-zero entries, exponentials not at all.
    """

    name: str
    call: Callable[[Operations], Made]
    inputs: Made
    constants: Made
    products: float

    def work(self, results: Made, *, backward: bool) -> tuple[float, float]:
        """Floating-point operations and bytes: each tensor read or written once, twice as many products backward."""
        read, parameters, written = (
            sum(t.numel() * t.element_size() for t in tensors) for tensors in (self.constants, self.inputs, results)
        )
        if not backward:
            return 2 * self.products, read + parameters + written
        return 6 * self.products, 2 * read + 3 * parameters + 2 * written


@dataclass(frozen=True)
class Edges:
    """Edges of the inputs.

    Attributes:
        graph: Edges.
        frames: Their frames.
    """

    graph: EdgeGraph
    frames: EdgeFrames


def random_edges(config: ModelConfig, nodes: int, device: str) -> Edges:
    """A graph of the model's number of neighbours, with random ends and vectors."""
    generator = torch.Generator().manual_seed(0)
    count = nodes * config.max_neighbors
    receivers = torch.arange(nodes).repeat_interleave(config.max_neighbors)
    senders = torch.randint(nodes, (count,), generator=generator)
    vectors = torch.randn(count, 3, generator=generator)
    graph = EdgeGraph(senders.to(device), receivers.to(device), vectors.to(device), nodes)
    return Edges(graph, edge_frames(graph.vectors, config.layout))


def cases(config: ModelConfig, nodes: int, device: str) -> Iterator[OperationCase]:
    """Every operation, as graph attention and feed-forward network of `config` call it."""
    edges, layout = random_edges(config, nodes, device), config.layout
    yield _linear(config, edges, device)
    yield _convolved_messages(config, edges, device)
    yield _attention_weights(config, edges, device)
    yield _silu_on_sphere(config, edges, device)
    yield _so2_linear(config, edges, device)
    yield _rotate_back_and_sum(config, edges, layout, device)
    yield _mlp_on_sphere(config, nodes, device)


def _random(*shape: int, device: str, scale: float = 1.0) -> Tensor:
    generator = torch.Generator().manual_seed(len(shape) + sum(shape))
    return (scale * torch.randn(shape, generator=generator)).to(device).requires_grad_()


def _linear(config: ModelConfig, edges: Edges, device: str) -> OperationCase:
    width, count = config.edge_channels, len(edges.graph.senders)
    x, weight = _random(count, width, device=device), _random(width, width, device=device, scale=width**-0.5)
    bias = _random(width, device=device)
    return OperationCase("linear", lambda ops: (ops.linear(x, weight, bias),), (x, weight, bias), (), count * width**2)


def _so2_weights(
    layout: CoefficientLayout, channels: int, out: int, scalars: int, device: str
) -> tuple[SO2Weights, float]:
    """Parameters of a map and its multiply-adds per edge."""
    degrees = layout.order_sizes[0]
    rows = scalars + degrees * out
    zero = _random(rows, degrees * channels, device=device, scale=(degrees * channels) ** -0.5)
    pairs = tuple(
        _random(2 * size * out, size * channels, device=device, scale=(2 * size * channels) ** -0.5)
        for size in layout.order_sizes[1:]
    )
    products = zero.numel() + 2 * sum(pair.numel() for pair in pairs)
    return SO2Weights(zero, _random(rows, device=device), pairs, scalars), products


def _rotation_entries(layout: CoefficientLayout) -> int:
    """Non-zero entries of one edge's rotation: a row of degree l has 2 l + 1."""
    return sum(2 * l + 1 for l in layout.kept_degrees)


def _convolved_messages(config: ModelConfig, edges: Edges, device: str) -> OperationCase:
    layout, spec = config.layout, config.attention(0.0)
    pair, width, count = 2 * spec.channels, config.edge_channels, len(edges.graph.senders)
    scalars = spec.num_heads * spec.alpha_channels + spec.hidden_channels
    weights, products = _so2_weights(layout, pair, spec.hidden_channels, scalars, device)
    x = _random(edges.graph.num_nodes, layout.num_coefficients, spec.channels, device=device)
    hidden = _random(count, width, device=device)
    radial_weight = _random(layout.num_radial * pair, width, device=device, scale=width**-0.5)
    radial_bias = _random(layout.num_radial * pair, device=device)
    radial = RadialWeights(hidden, radial_weight, radial_bias)
    per_edge = radial_weight.numel() + _rotation_entries(layout) * pair + layout.num_kept * pair + products
    return OperationCase(
        "convolved_messages",
        lambda ops: ops.convolved_messages(x, radial, weights, edges.graph, edges.frames),
        (x, hidden, radial_weight, radial_bias, weights.zero, weights.bias, *weights.pairs),
        (edges.frames.into,),
        count * per_edge,
    )


def _so2_linear(config: ModelConfig, edges: Edges, device: str) -> OperationCase:
    layout, spec, count = config.layout, config.attention(0.0), len(edges.graph.senders)
    out = spec.num_heads * spec.value_channels
    weights, products = _so2_weights(layout, spec.hidden_channels, out, 0, device)
    x = _random(count, layout.num_kept, spec.hidden_channels, device=device)
    return OperationCase(
        "so2_linear",
        lambda ops: ops.so2_linear(x, weights, layout)[:1],
        (x, weights.zero, weights.bias, *weights.pairs),
        (),
        count * products,
    )


def _attention_weights(config: ModelConfig, edges: Edges, device: str) -> OperationCase:
    spec, count = config.attention(0.0), len(edges.graph.senders)
    features = _random(count, spec.num_heads, spec.alpha_channels, device=device)
    weight, bias = (_random(spec.alpha_channels, device=device) for _ in range(2))
    dot = _random(spec.num_heads, spec.alpha_channels, device=device, scale=spec.alpha_channels**-0.5)
    parameters = LogitParameters(weight, bias, dot)
    return OperationCase(
        "attention_weights",
        lambda ops: (ops.attention_weights(features, parameters, edges.graph),),
        (features, weight, bias, dot),
        (edges.graph.receivers,),
        features.numel() * 10,
    )


def _silu_on_sphere(config: ModelConfig, edges: Edges, device: str) -> OperationCase:
    spec, layout, count = config.attention(0.0), config.layout, len(edges.graph.senders)
    to_grid, from_grid = config.sphere.edge_grid.matrices(torch.float32, torch.device(device))
    from_grid = from_grid[1:]  # the separable activation takes degree 0 from elsewhere
    x = _random(count, layout.num_kept, spec.hidden_channels, device=device)
    return OperationCase(
        "silu_on_sphere",
        lambda ops: (ops.silu_on_sphere(x, to_grid, from_grid),),
        (x,),
        (to_grid, from_grid),
        count * spec.hidden_channels * (to_grid.numel() + from_grid.numel()),
    )


def _mlp_on_sphere(config: ModelConfig, nodes: int, device: str) -> OperationCase:
    width = config.ffn_hidden_channels
    to_grid, from_grid = config.sphere.node_grid.matrices(torch.float32, torch.device(device))
    from_grid = from_grid[1:]
    x = _random(nodes, config.layout.num_coefficients, width, device=device)
    weight = _random(width, width, device=device, scale=width**-0.5)
    per_node = width * (to_grid.numel() + from_grid.numel()) + len(to_grid) * width**2
    return OperationCase(
        "mlp_on_sphere",
        lambda ops: (ops.mlp_on_sphere(x, weight, to_grid, from_grid),),
        (x, weight),
        (to_grid, from_grid),
        nodes * per_node,
    )


def _rotate_back_and_sum(config: ModelConfig, edges: Edges, layout: CoefficientLayout, device: str) -> OperationCase:
    spec, count = config.attention(0.0), len(edges.graph.senders)
    channels = spec.num_heads * spec.value_channels
    values = _random(count, layout.num_kept, channels, device=device)
    attention = _random(count, spec.num_heads, device=device)
    return OperationCase(
        "rotate_back_and_sum",
        lambda ops: (ops.rotate_back_and_sum(values, attention, edges.frames.back, edges.graph),),
        (values, attention),
        (edges.frames.back, edges.graph.receivers),
        count * channels * (_rotation_entries(layout) + layout.num_kept),
    )


def gradients(results: Made, case: OperationCase) -> Any:
    """Gradients of the results' sum, weighted by fixed numbers, to all inputs."""
    weights = [_random(*r.shape, device=r.device.type).detach() for r in results]
    return torch.autograd.grad(results, case.inputs, weights)
