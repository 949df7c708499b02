from types import ModuleType

import pytest
import torch
from torch import Tensor
from torch_geometric.utils import softmax

from ev2_plugin.graph.edge_graph import EdgeGraph
from ev2_plugin.ops.attention_scatter import LogitParameters, fused, reference
from ev2_plugin.ops.attention_scatter.reference import attention_weights, softmax_by_receiver


def graph_of(receivers: list[int], nodes: int) -> EdgeGraph:
    index = torch.tensor(receivers, dtype=torch.int64)
    return EdgeGraph(torch.zeros_like(index), index, torch.zeros(len(index), 3), nodes)


GRAPHS = {
    "first and last node receive": graph_of([0, 0, 0, 1, 3, 3, 4], 5),
    "first and last node do not": graph_of([1, 1, 4, 4, 4, 5], 8),
    "one edge": graph_of([0], 1),
    "no edges": graph_of([], 3),
}
each_graph = pytest.mark.parametrize("graph", GRAPHS.values(), ids=GRAPHS)


@each_graph
def test_against_torch_geometric(graph: EdgeGraph) -> None:
    logits = 3 * torch.randn(len(graph.receivers), 4, dtype=torch.float64)
    expected = softmax(logits, graph.receivers, num_nodes=graph.num_nodes)
    torch.testing.assert_close(softmax_by_receiver(logits, graph), expected, atol=1e-14, rtol=1e-12)


@each_graph
def test_gradient(graph: EdgeGraph) -> None:
    logits = torch.randn(len(graph.receivers), 2, dtype=torch.float64, requires_grad=True)
    if len(logits):
        assert torch.autograd.gradcheck(lambda x: softmax_by_receiver(x, graph), [logits])


def test_large_logits(dtype: torch.dtype) -> None:
    graph = GRAPHS["first and last node receive"]
    logits = torch.tensor([1e4, -1e4, 9999.0, -1e30, 1e30, 0.0, -3e4], dtype=dtype).unsqueeze(1)
    weights = softmax_by_receiver(logits, graph)
    e = torch.tensor(-1.0, dtype=dtype).exp()
    expected = torch.stack([1 / (1 + e), e * 0, e / (1 + e), e * 0 + 1, e * 0 + 1, e * 0, e * 0 + 1]).unsqueeze(1)
    torch.testing.assert_close(weights, expected)


def test_adding_a_number_changes_nothing() -> None:
    graph, logits = GRAPHS["first and last node do not"], torch.randn(6, 3, dtype=torch.float64)
    torch.testing.assert_close(softmax_by_receiver(logits + 7, graph), softmax_by_receiver(logits, graph))


def parameters(norm: bool, dtype: torch.dtype = torch.float64) -> LogitParameters:
    weight, bias = (torch.randn(5, dtype=dtype, requires_grad=True) for _ in range(2))
    dot = torch.randn(3, 5, dtype=dtype, requires_grad=True)
    return LogitParameters(weight, bias, dot) if norm else LogitParameters(None, None, dot)


def tensors_of(p: LogitParameters) -> list[Tensor]:
    return [t for t in (p.norm_weight, p.norm_bias, p.dot) if t is not None]


@each_graph
@pytest.mark.parametrize("norm", [True, False])
def test_fused_weights_are_the_reference(graph: EdgeGraph, norm: bool) -> None:
    features = (2 * torch.randn(len(graph.receivers), 3, 5, dtype=torch.float64)).requires_grad_()
    p, results = parameters(norm), []
    for form in (reference, fused):
        weights = form.attention_weights(features, p, graph)
        loss = (weights * torch.arange(weights.numel()).view_as(weights).sin()).sum()
        results.append((weights, *torch.autograd.grad(loss, [features, *tensors_of(p)])))
    for ours, expected in zip(*results, strict=True):
        assert not ours.isnan().any()
        torch.testing.assert_close(ours, expected, atol=1e-12, rtol=1e-11)


def test_features_that_are_part_of_a_wider_row() -> None:
    graph, p = GRAPHS["first and last node receive"], parameters(norm=True)
    wide = torch.randn(7, 20, dtype=torch.float64)
    features = wide[:, :15].unflatten(1, (3, 5))
    torch.testing.assert_close(fused.attention_weights(features, p, graph), attention_weights(features, p, graph))


def test_smooth_leaky_relu() -> None:
    x = torch.linspace(-20, 20, 101, dtype=torch.float64)
    value, slope = fused._smooth_leaky_relu(x)
    torch.testing.assert_close(value, 0.6 * x + 0.4 * x * (2 * x.sigmoid() - 1))
    torch.testing.assert_close(value[:5], 0.2 * x[:5], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(slope[-5:], torch.ones(5, dtype=torch.float64), atol=1e-4, rtol=0)


@pytest.mark.parametrize("form", [reference, fused])
def test_half_precision_features_are_weighed_in_float32(form: ModuleType) -> None:
    graph, p = GRAPHS["first and last node receive"], parameters(norm=True, dtype=torch.float32)
    features = torch.randn(7, 3, 5).bfloat16().requires_grad_()
    weights = form.attention_weights(features, p, graph)
    assert weights.dtype == torch.float32
    torch.testing.assert_close(weights, form.attention_weights(features.float(), p, graph))
    weights.square().sum().backward()
    assert features.grad is not None
    assert features.grad.dtype == torch.bfloat16


@pytest.mark.parametrize("norm", [True, False])
def test_the_operator_is_sound_for_compilers(norm: bool) -> None:
    graph, p = GRAPHS["first and last node do not"], parameters(norm)
    features = torch.randn(6, 3, 5, dtype=torch.float64, requires_grad=True)
    inputs = features, p.norm_weight, p.norm_bias, p.dot, graph.receivers, graph.row_pointers
    torch.library.opcheck(fused._attention_weights, inputs)
