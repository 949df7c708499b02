"""Turning the structure turns the result: exactly, or to the sphere grid's error."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from ev2_plugin.nn.activation import SphereActivation
from ev2_plugin.nn.block import TransformerBlock
from ev2_plugin.nn.edge_context import EdgeContext
from ev2_plugin.nn.edge_embedding import EdgeDegreeEmbedding
from ev2_plugin.nn.feed_forward import FeedForward
from ev2_plugin.nn.graph_attention import GraphAttention
from ev2_plugin.nn.linear import EquivariantLinear
from ev2_plugin.nn.norm import make_norm
from ev2_plugin.nn.stochastic_depth import EquivariantDropout, GraphStochasticDepth
from ev2_plugin.ops.backend import operations
from helpers.equivariance import context_pair, edge_context, random_rotation, randomize, relative_error, wigner
from helpers.structures import GATE, TINY, atom_batch, slab

Layer = Callable[[Tensor, EdgeContext], Tensor]
LMAX, MMAX = 3, 2
BASE = replace(GATE, lmax=LMAX, mmax=MMAX, max_neighbors=6)
CHANNELS, OPS = BASE.sphere_channels, operations("auto")


def attention(**changes: object) -> Layer:
    config = replace(BASE, **changes)
    return randomize(GraphAttention(config.attention(0.0), config.sphere, config.edge_scalars, 4).double())


def feed_forward(**changes: object) -> Layer:
    config = replace(BASE, **changes)
    layer = randomize(FeedForward(config.feed_forward, config.sphere, 4).double())
    return lambda x, edges: layer(x)


def feed_forward_scalars(**changes: object) -> Layer:
    config = replace(BASE, **changes)
    layer = randomize(FeedForward(config.feed_forward, config.sphere, 4).double())
    return lambda x, edges: layer.scalars(x).unsqueeze(1)


def block(**changes: object) -> Layer:
    layer = randomize(TransformerBlock(replace(BASE, **changes).block).double()).eval()
    return lambda x, edges: layer(x, edges, torch.zeros(len(x), dtype=torch.int64), 1)


def alone(layer: nn.Module) -> Layer:
    randomize(layer.double())
    return lambda x, edges: layer(x)


def activation(resolution: int | None = None, **changes: object) -> Layer:
    config = replace(BASE, grid_resolution=resolution, **changes)
    layer = SphereActivation(config.feed_forward.activation, config.sphere.node_grid, OPS)

    def activate(x: Tensor, edges: EdgeContext) -> Tensor:
        gates = torch.cat([x[:, 0]] * LMAX, dim=1)
        return layer(x, gates if config.use_gate_act else x[:, 0])

    return activate


def seeded(layer: nn.Module) -> Layer:
    layer.train()

    def drop(x: Tensor, edges: EdgeContext) -> Tensor:
        torch.manual_seed(1)
        return layer(x, torch.arange(len(x)), len(x)) if isinstance(layer, GraphStochasticDepth) else layer(x)

    return drop


def edge_degree_embedding(**changes: object) -> Layer:
    config = replace(BASE, **changes)
    layer = EdgeDegreeEmbedding(CHANNELS, LMAX, 7.0, config.edge_scalars, OPS)
    randomize(layer.double())
    return lambda x, edges: layer(edges)


S2 = {"use_gate_act": False, "use_sep_s2_act": False}
SEPARABLE = {"use_gate_act": False, "use_sep_s2_act": True}
EXACT: dict[str, Callable[[], Layer]] = {
    "linear": lambda: alone(EquivariantLinear(CHANNELS, 4, LMAX, OPS)),
    "per-degree layer norm": lambda: alone(make_norm("layer_norm", LMAX, CHANNELS)),
    "separable layer norm": lambda: alone(make_norm("layer_norm_sh", LMAX, CHANNELS)),
    "RMS norm": lambda: alone(make_norm("rms_norm_sh", LMAX, CHANNELS)),
    "gate activation": activation,
    "edge-degree embedding": edge_degree_embedding,
    "edge-degree embedding without elements": lambda: edge_degree_embedding(use_atom_edge_embedding=False),
    "attention": attention,
    "attention, no re-normalisation": lambda: attention(use_attn_renorm=False),
    "attention, shared radial weights": lambda: attention(use_m_share_rad=True),
    "attention, mmax 0": lambda: attention(mmax=0),
    "attention, mmax 3": lambda: attention(mmax=3),
    "feed-forward": feed_forward,
    "feed-forward, scalars alone": lambda: feed_forward_scalars(**SEPARABLE),
    "feed-forward with grid MLP, scalars alone": lambda: feed_forward_scalars(**SEPARABLE, use_grid_mlp=True),
    "stochastic depth": lambda: seeded(GraphStochasticDepth(0.5)),
    "dropout of channels": lambda: seeded(EquivariantDropout(0.5)),
    **{f"block, {name}": lambda name=name: block(norm_type=name) for name in ("layer_norm", "layer_norm_sh")},
}
TO_GRID_ERROR: dict[str, Callable[[int], Layer]] = {
    "S2 activation": lambda resolution: activation(resolution, **S2),
    "separable S2 activation": lambda resolution: activation(resolution, **SEPARABLE),
    "grid MLP": lambda resolution: feed_forward(grid_resolution=resolution, use_grid_mlp=True, **S2),
    "separable grid MLP": lambda resolution: feed_forward(grid_resolution=resolution, use_grid_mlp=True, **SEPARABLE),
    "attention, S2": lambda resolution: attention(grid_resolution=resolution, **S2),
    "attention, separable S2": lambda resolution: attention(grid_resolution=resolution, **SEPARABLE),
    "block": lambda resolution: block(grid_resolution=resolution, use_grid_mlp=True, **SEPARABLE),
}


def equivariance_error(layer: Layer) -> float:
    """|layer(turned) - turned layer| over |layer|."""
    rotation = random_rotation(3)
    here, there = context_pair(slab(), rotation, getattr(layer, "layout", BASE.layout), BASE.num_radial_basis)
    matrix = wigner(rotation, LMAX)
    x = torch.randn(here.graph.num_nodes, len(matrix), CHANNELS, dtype=torch.float64)
    out = layer(x, here)
    turned = layer(matrix @ x, there)
    expected = matrix @ out if out.shape[1] > 1 else out
    assert not torch.allclose(turned, out) or out.shape[1] == 1
    return relative_error(turned, expected)


@pytest.mark.parametrize("name", EXACT)
def test_exact_layers(name: str) -> None:
    assert equivariance_error(EXACT[name]()) < 1e-10


@pytest.mark.parametrize("name", TO_GRID_ERROR)
def test_error_falls_as_the_grid_is_refined(name: str) -> None:
    errors = []
    for resolution in (8, 14, 20, 32, 64):
        torch.manual_seed(0)
        errors.append(equivariance_error(TO_GRID_ERROR[name](resolution)))
    assert all(finer < coarser for coarser, finer in zip(errors, errors[1:], strict=False)), errors
    assert errors[-1] < 1e-3 * errors[0], errors


def test_gauge_does_not_matter_to_exact_layers() -> None:
    layer, atoms = attention(), atom_batch(slab(), BASE)
    gauge = 6 * torch.rand(len(atoms.graph.senders), dtype=torch.float64)
    x = torch.randn(10, 16, CHANNELS, dtype=torch.float64)
    plain, turned = (layer(x, edge_context(atoms, BASE.layout, BASE.num_radial_basis, g)) for g in (None, gauge))
    assert relative_error(turned, plain) < 1e-10


def test_gauge_matters_to_the_grid_only_by_its_error() -> None:
    atoms = atom_batch(slab(), BASE)
    gauge = 6 * torch.rand(len(atoms.graph.senders), dtype=torch.float64)
    x = torch.randn(10, 16, CHANNELS, dtype=torch.float64)
    errors = []
    for resolution in (8, 16, 32):
        torch.manual_seed(0)
        layer = attention(grid_resolution=resolution, **SEPARABLE)
        plain, turned = (layer(x, edge_context(atoms, BASE.layout, BASE.num_radial_basis, g)) for g in (None, gauge))
        errors.append(relative_error(turned, plain))
    assert errors[0] > 10 * errors[1] > 100 * errors[2] > 0


def test_the_measure_sees_what_is_not_equivariant() -> None:
    assert equivariance_error(lambda x, edges: x.abs()) > 0.1
    assert TINY.grid_resolution == 8
