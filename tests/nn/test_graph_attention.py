from dataclasses import replace

import pytest
import torch
from torch import Tensor

from ev2_plugin.model.config import ModelConfig
from ev2_plugin.nn.graph_attention import GraphAttention
from ev2_plugin.nn.radial import EdgeContext
from helpers.equivariance import edge_context, randomize
from helpers.structures import TINY, assorted, atom_batch, single_atom, slab

KINDS = {
    "gate": {"use_gate_act": True},
    "S2": {"use_sep_s2_act": False},
    "separable S2": {},
    "no re-normalisation": {"use_attn_renorm": False},
    "shared radial weights": {"use_m_share_rad": True},
    "no element tables": {"use_atom_edge_embedding": False},
    "mmax 0": {"mmax": 0},
    "mmax = lmax": {"mmax": 2},
}


def layer_and_edges(
    config: ModelConfig, structures=None, dropout: float = 0.0
) -> tuple[GraphAttention, EdgeContext, Tensor]:
    layer = GraphAttention(config.attention(dropout), config.sphere, config.edge_scalars, out_channels=3).double()
    edges = edge_context(atom_batch(structures or assorted(), config), config.layout, config.edge_scalars.num_inputs)
    x = torch.randn(edges.graph.num_nodes, 9, config.sphere_channels, dtype=torch.float64, requires_grad=True)
    return randomize(layer), edges, x


@pytest.mark.parametrize("kind", KINDS)
def test_vectors_are_degree_one_of_the_whole(kind: str) -> None:
    layer, edges, x = layer_and_edges(replace(TINY, **KINDS[kind]))
    results = []
    for vectors in (layer.vectors(x, edges), layer(x, edges)[:, 1:4]):
        results.append((vectors, *torch.autograd.grad(vectors.sin().sum(), [x, *layer.parameters()])))
    for ours, expected in zip(*results, strict=True):
        torch.testing.assert_close(ours, expected, atol=1e-12, rtol=1e-10)


@pytest.mark.parametrize("kind", KINDS)
def test_backends_agree(kind: str) -> None:
    outs = []
    for backend in ("auto", "reference"):
        torch.manual_seed(0)
        layer, edges, x = layer_and_edges(replace(TINY, **KINDS[kind], backend=backend))
        outs.append(layer(x, edges))
    torch.testing.assert_close(*outs)


def test_attention_weights_sum_to_one() -> None:
    layer, edges, x = layer_and_edges(TINY)
    alpha = torch.randn(len(edges.graph.senders), layer.num_alpha, dtype=torch.float64)
    weights = layer._attention(alpha, edges)
    sums = torch.zeros(len(x), TINY.num_heads, dtype=torch.float64).index_add(0, edges.graph.receivers, weights)
    receives = edges.graph.row_pointers.diff() > 0
    torch.testing.assert_close(sums, receives.double()[:, None].expand_as(sums))


def test_attention_weights_by_the_equation() -> None:
    layer, edges, _ = layer_and_edges(TINY)
    alpha = torch.randn(len(edges.graph.senders), layer.num_alpha, dtype=torch.float64)
    z = layer.alpha_norm(alpha.view(-1, TINY.num_heads, TINY.attn_alpha_channels))
    z = 0.6 * z + 0.4 * z * (2 * z.sigmoid() - 1)  # smooth leaky ReLU of slope 0.2
    logits = (z * layer.alpha_dot).sum(dim=-1)
    expected = torch.cat([logits[edges.graph.receivers == n].softmax(dim=0) for n in range(edges.graph.num_nodes)])
    torch.testing.assert_close(layer._attention(alpha, edges), expected)


def test_shared_radial_weights_are_one_per_degree() -> None:
    layer, edges, _ = layer_and_edges(replace(TINY, use_m_share_rad=True, mmax=2))
    per_degree = layer.rad_func(edges, layer.source_embedding, layer.target_embedding).unflatten(1, (3, -1))
    # m = 0 has degrees 0, 1, 2; m = 1 has 1, 2; m = 2 has 2
    torch.testing.assert_close(layer._radial_weights(edges), per_degree[:, [0, 1, 2, 1, 2, 2]])


def test_node_without_neighbours_gets_the_bias() -> None:
    layer, edges, x = layer_and_edges(TINY, [single_atom(), slab()])
    out = layer(x, edges)
    torch.testing.assert_close(out[0, 0], layer.proj.bias)
    assert (out[0, 1:] == 0).all()


def test_no_edges_at_all() -> None:
    layer, edges, x = layer_and_edges(TINY, [single_atom()])
    assert layer(x, edges).shape == (1, 9, 3)
    assert (layer.vectors(x, edges) == 0).all()
    layer(x, edges).sum().backward()
    assert all(torch.isfinite(parameter.grad).all() for parameter in layer.parameters() if parameter.grad is not None)


def test_dropout_of_attention_weights_only_in_training() -> None:
    layer, edges, x = layer_and_edges(TINY, dropout=0.5)
    layer.eval()
    assert torch.equal(layer(x, edges), layer(x, edges))
    without = layer(x, edges)
    layer.train()
    assert not torch.equal(layer(x, edges), layer(x, edges))
    assert not torch.equal(layer(x, edges), without)


def test_dropout_drops_a_weight_of_one_head_with_all_its_values() -> None:
    layer, edges, x = layer_and_edges(TINY, dropout=0.5)
    whole = layer.eval()._weighted_values(x, edges)
    dropped = layer.train()._weighted_values(x, edges)
    factor = (dropped / whole).unflatten(2, (TINY.num_heads, -1))
    torch.testing.assert_close(factor, factor[:, :1, :, :1].expand_as(factor))
    assert set(factor.flatten().round(decimals=6).tolist()) == {0.0, 2.0}
