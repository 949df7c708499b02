import pytest
import torch
from torch_geometric.utils import softmax

from ev2_plugin.graph.edge_graph import EdgeGraph
from ev2_plugin.ops.attention_scatter import softmax_by_receiver


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
