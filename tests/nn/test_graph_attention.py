from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from ev2_plugin.model.config import ModelConfig
from ev2_plugin.nn.edge_context import EdgeContext
from ev2_plugin.nn.graph_attention import GraphAttention
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


def test_attention_weights_by_the_equation() -> None:
    layer, edges, _ = layer_and_edges(TINY)
    alpha = torch.randn(len(edges.graph.senders), TINY.num_heads, TINY.attn_alpha_channels, dtype=torch.float64)
    z = layer.alpha_norm(alpha)
    z = 0.6 * z + 0.4 * z * (2 * z.sigmoid() - 1)  # smooth leaky ReLU of slope 0.2
    logits = (z * layer.alpha_dot).sum(dim=-1)
    expected = torch.cat([logits[edges.graph.receivers == n].softmax(dim=0) for n in range(edges.graph.num_nodes)])
    torch.testing.assert_close(layer.ops.attention_weights(alpha, layer._logits, edges.graph), expected)


def test_shared_radial_weights_are_one_per_degree() -> None:
    layer, edges, _ = layer_and_edges(replace(TINY, use_m_share_rad=True, mmax=2))
    per_degree = layer.rad_func(edges, layer.source_embedding, layer.target_embedding).unflatten(1, (3, -1))
    radial = layer._radial(edges)
    spread = F.linear(radial.hidden, radial.weight, radial.bias).unflatten(1, (6, -1))
    # m = 0 has degrees 0, 1, 2; m = 1 has 1, 2; m = 2 has 2
    torch.testing.assert_close(spread, per_degree[:, [0, 1, 2, 1, 2, 2]])


@pytest.mark.parametrize("max_edges", [1, 7, 40])
def test_a_part_of_the_edges_at_a_time_gives_the_same(max_edges: int) -> None:
    layer, edges, x = layer_and_edges(TINY, [single_atom(), *assorted(), single_atom()])
    cut = replace(edges, max_edges=max_edges)
    assert len(cut.parts) > 1
    with torch.no_grad():
        torch.testing.assert_close(layer(x, cut), layer(x, edges), atol=1e-13, rtol=1e-12)
        torch.testing.assert_close(layer.vectors(x, cut), layer.vectors(x, edges), atol=1e-13, rtol=1e-12)


def test_parts_hold_all_edges_of_their_receivers_and_no_more_edges_than_allowed() -> None:
    _, edges, _ = layer_and_edges(TINY, [single_atom(), *assorted()])
    largest = int(edges.graph.row_pointers.diff().max())
    parts = replace(edges, max_edges=largest + 3).parts
    assert sum(part.sums.num_nodes for part in parts) == edges.graph.num_nodes
    assert torch.equal(torch.cat([part.edges.graph.receivers for part in parts]), edges.graph.receivers)
    assert all(len(part.edges.scalars) <= largest + 3 for part in parts)
    for part in parts:
        assert part.sums.row_pointers[-1] == len(part.edges.scalars)


@pytest.mark.filterwarnings("ignore:.torch.cpu.amp.autocast:FutureWarning")  # torch 2.4's own checkpoint
@pytest.mark.parametrize("max_edges", [9, 10**6])
def test_recomputed_edges_give_the_same_gradients_and_keep_less(max_edges: int) -> None:
    config = replace(TINY, activation_checkpoint="edges")
    results, kept = [], []
    for kind in (TINY, config):
        torch.manual_seed(3)
        layer, edges, x = layer_and_edges(kind, dropout=0.3)
        edges = replace(edges, max_edges=max_edges)
        sizes: list[int] = []
        torch.manual_seed(4)
        with torch.autograd.graph.saved_tensors_hooks(lambda t, s=sizes: s.append(t.numel()) or t, lambda t: t):
            out = layer.train()(x, edges)
        results.append((out, *torch.autograd.grad(out.sin().sum(), [x, *layer.parameters()])))
        kept.append(sum(sizes))
    if max_edges > len(edges.scalars):  # in parts the dropout masks are drawn in another order
        for ours, expected in zip(*results, strict=True):
            torch.testing.assert_close(ours, expected, atol=1e-12, rtol=1e-10)
    assert kept[1] < kept[0] / 2


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


def test_dropout_drops_the_weight_of_one_head_on_one_edge() -> None:
    layer, edges, x = layer_and_edges(TINY, dropout=0.5)
    seen: list[Tensor] = []

    def note(values: Tensor, attention: Tensor, *arguments: object) -> Tensor:
        seen.append(attention)
        return layer_ops.rotate_back_and_sum(values, attention, *arguments)

    layer_ops, layer.ops = layer.ops, replace(layer.ops, rotate_back_and_sum=note)
    layer.eval()(x, edges)
    layer.train()(x, edges)
    factor = seen[1] / seen[0]
    assert set(factor.flatten().round(decimals=6).tolist()) == {0.0, 2.0}
    assert (factor[:, 0] != factor[:, 1]).any()
