import pytest
import torch

from ev2_plugin.graph.edge_graph import EdgeGraph
from ev2_plugin.ops.edge_rotation import gather_and_rotate, rotate_back_and_sum
from ev2_plugin.so3.edge_frame import EdgeFrames, edge_frames
from ev2_plugin.so3.layout import CoefficientLayout

LAYOUT = CoefficientLayout(2, 1)


def graph_and_frames(edges: int, nodes: int = 6) -> tuple[EdgeGraph, EdgeFrames]:
    """Node 1 and the last one receive nothing."""
    receivers = torch.tensor([n for n in range(nodes - 1) if n != 1])
    receivers = receivers[torch.randint(len(receivers), (edges,))].sort().values
    graph = EdgeGraph(torch.randint(nodes, (edges,)), receivers, torch.randn(edges, 3, dtype=torch.float64), nodes)
    return graph, edge_frames(graph.vectors, LAYOUT)


@pytest.mark.parametrize("edges", [0, 1, 13])
def test_gather_and_rotate_edge_by_edge(edges: int) -> None:
    graph, frames = graph_and_frames(edges)
    x = torch.randn(6, 9, 3, dtype=torch.float64)
    out = gather_and_rotate(x, graph, frames)
    assert out.shape == (edges, LAYOUT.num_kept, 6)
    for edge in range(edges):
        matrix, sender, receiver = frames.into[edge], graph.senders[edge], graph.receivers[edge]
        torch.testing.assert_close(out[edge], torch.cat((matrix @ x[sender], matrix @ x[receiver]), dim=1))


@pytest.mark.parametrize("edges", [0, 1, 13])
@pytest.mark.parametrize("part", [(slice(None), slice(None)), (slice(1, 4), slice(None)), (slice(None), slice(3))])
def test_rotate_back_and_sum_edge_by_edge(edges: int, part: tuple[slice, slice]) -> None:
    graph, frames = graph_and_frames(edges)
    back = frames.back[:, *part]
    values = torch.randn(edges, back.shape[2], 4, dtype=torch.float64)
    expected = torch.zeros(6, back.shape[1], 4, dtype=torch.float64)
    for edge in range(edges):
        expected[graph.receivers[edge]] += back[edge] @ values[edge]
    out = rotate_back_and_sum(values, back, graph)
    torch.testing.assert_close(out, expected)
    assert (out[[1, 5]] == 0).all()


@pytest.mark.parametrize("edges", [0, 5])
def test_gradients(edges: int) -> None:
    graph, frames = graph_and_frames(edges)
    x = torch.randn(6, 9, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: gather_and_rotate(x, graph, frames), [x])
    values = torch.randn(edges, LAYOUT.num_kept, 2, dtype=torch.float64, requires_grad=True)
    if edges:  # gradcheck wants inputs that influence something
        assert torch.autograd.gradcheck(lambda v: rotate_back_and_sum(v, frames.back, graph), [values])
