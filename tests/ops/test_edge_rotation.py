from types import ModuleType

import pytest
import torch
from torch import Tensor

from ev2_plugin.graph.edge_graph import EdgeGraph
from ev2_plugin.ops import chunks
from ev2_plugin.ops.edge_rotation import pytorch, reference
from ev2_plugin.so3.edge_frame import EdgeFrames, edge_frames
from ev2_plugin.so3.layout import CoefficientLayout

LAYOUT = CoefficientLayout(2, 1)


def graph_and_frames(edges: int, nodes: int = 6) -> tuple[EdgeGraph, EdgeFrames]:
    """Node 1 and the last one receive nothing."""
    receivers = torch.tensor([n for n in range(nodes - 1) if n != 1])
    receivers = receivers[torch.randint(len(receivers), (edges,))].sort().values
    graph = EdgeGraph(torch.randint(nodes, (edges,)), receivers, torch.randn(edges, 3, dtype=torch.float64), nodes)
    return graph, edge_frames(graph.vectors, LAYOUT)


each_form = pytest.mark.parametrize("form", [reference, pytorch], ids=["reference", "pytorch"])
each_part = pytest.mark.parametrize(
    "part", [(slice(None), slice(None)), (slice(1, 4), slice(None)), (slice(None), slice(3))]
)


def radial_weights(edges: int, channels: int) -> Tensor:
    return torch.randn(edges, LAYOUT.num_radial, channels, dtype=torch.float64)


@each_form
@pytest.mark.parametrize("edges", [0, 1, 13])
def test_messages_edge_by_edge(form: ModuleType, edges: int) -> None:
    graph, frames = graph_and_frames(edges)
    x, radial = torch.randn(6, 9, 3, dtype=torch.float64), radial_weights(edges, 6)
    out = form.rotated_messages(x, radial, graph, frames)
    assert out.shape == (edges, LAYOUT.num_kept, 6)
    # rows: m = 0 of degrees 0, 1, 2; m = +1 of degrees 1, 2; m = -1 of degrees 1, 2
    weight_of_row = [0, 1, 2, 3, 4, 3, 4]
    for edge in range(edges):
        matrix, sender, receiver = frames.into[edge], graph.senders[edge], graph.receivers[edge]
        rotated = torch.cat((matrix @ x[sender], matrix @ x[receiver]), dim=1)
        torch.testing.assert_close(out[edge], rotated * radial[edge, weight_of_row])


@each_form
@pytest.mark.parametrize("edges", [0, 1, 13])
@pytest.mark.parametrize("heads", [None, 1, 2, 4])
@each_part
def test_rotate_back_and_sum_edge_by_edge(
    form: ModuleType, edges: int, part: tuple[slice, slice], heads: int | None
) -> None:
    graph, frames = graph_and_frames(edges)
    back = frames.back[:, *part]
    values = torch.randn(edges, back.shape[2], 4, dtype=torch.float64)
    attention = None if heads is None else torch.randn(edges, heads, dtype=torch.float64)
    expected = torch.zeros(6, back.shape[1], 4, dtype=torch.float64)
    for edge in range(edges):
        weights = 1 if attention is None else attention[edge].repeat_interleave(4 // heads)
        expected[graph.receivers[edge]] += back[edge] @ (values[edge] * weights)
    out = form.rotate_back_and_sum(values, attention, back, graph)
    torch.testing.assert_close(out, expected)
    assert (out[[1, 5]] == 0).all()


@pytest.mark.parametrize("edges", [0, 1, 5])
def test_backward_of_messages_is_the_gradient_of_the_reference(edges: int) -> None:
    graph, frames = graph_and_frames(edges)
    x = torch.randn(6, 9, 2, dtype=torch.float64, requires_grad=True)
    radial = radial_weights(edges, 4).requires_grad_()
    grad = torch.randn(edges, LAYOUT.num_kept, 4, dtype=torch.float64)
    expected = torch.autograd.grad(reference.rotated_messages(x, radial, graph, frames), [x, radial], grad)
    before = grad.clone()
    ours = pytorch.rotated_messages_backward(grad, x.detach(), radial.detach(), graph, frames)
    for a, b in zip(ours, expected, strict=True):
        torch.testing.assert_close(a, b, atol=1e-13, rtol=1e-12)
    assert torch.equal(grad, before)


@each_form
@pytest.mark.parametrize("heads", [None, 2])
def test_gradients_of_the_sum(form: ModuleType, heads: int | None) -> None:
    graph, frames = graph_and_frames(5)
    values = torch.randn(5, LAYOUT.num_kept, 2, dtype=torch.float64, requires_grad=True)
    if heads is None:
        assert torch.autograd.gradcheck(lambda v: form.rotate_back_and_sum(v, None, frames.back, graph), [values])
        return
    attention = torch.randn(5, heads, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda v, a: form.rotate_back_and_sum(v, a, frames.back, graph), [values, attention]
    )


@pytest.mark.parametrize("chunk", [1, 1000, 10**6])
def test_chunks_do_not_show(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    graph, frames = graph_and_frames(13)
    values = torch.randn(13, LAYOUT.num_kept, 4, dtype=torch.float64, requires_grad=True)
    attention = torch.randn(13, 2, dtype=torch.float64, requires_grad=True)
    results = []
    for form in (reference, pytorch):
        monkeypatch.setitem(chunks.CHUNK_BYTES, "cpu", chunk)
        out = form.rotate_back_and_sum(values, attention, frames.back, graph)
        results.append((out, *torch.autograd.grad(out.sin().sum(), [values, attention])))
    for ours, expected in zip(*results, strict=True):
        torch.testing.assert_close(ours, expected, atol=1e-13, rtol=1e-12)


def test_the_sum_keeps_its_inputs_only() -> None:
    graph, frames = graph_and_frames(13)
    values = torch.randn(13, LAYOUT.num_kept, 4, dtype=torch.float64, requires_grad=True)
    attention = torch.randn(13, 2, dtype=torch.float64, requires_grad=True)
    inputs = {t.data_ptr() for t in (values, attention, frames.back, graph.receivers)}
    kept: set[int] = set()
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.add(t.data_ptr()) or t, lambda t: t):
        pytorch.rotate_back_and_sum(values, attention, frames.back, graph)
    assert kept <= inputs


def test_the_operator_is_sound_for_compilers() -> None:
    graph, frames = graph_and_frames(5)
    values = torch.randn(5, LAYOUT.num_kept, 4, dtype=torch.float64, requires_grad=True)
    for attention in (None, torch.randn(5, 2, dtype=torch.float64, requires_grad=True)):
        torch.library.opcheck(
            pytorch._rotate_back_and_sum, (values, attention, frames.back, graph.receivers, graph.row_pointers)
        )
