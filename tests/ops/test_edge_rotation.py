from types import ModuleType

import pytest
import torch
from torch import Tensor

from ev2_plugin.graph.edge_graph import EdgeGraph
from ev2_plugin.ops.edge_rotation import lean, reference
from ev2_plugin.so3.edge_frame import EdgeFrames, edge_frames
from ev2_plugin.so3.layout import CoefficientLayout

LAYOUT = CoefficientLayout(2, 1)


def graph_and_frames(edges: int, nodes: int = 6) -> tuple[EdgeGraph, EdgeFrames]:
    """Node 1 and the last one receive nothing."""
    receivers = torch.tensor([n for n in range(nodes - 1) if n != 1])
    receivers = receivers[torch.randint(len(receivers), (edges,))].sort().values
    graph = EdgeGraph(torch.randint(nodes, (edges,)), receivers, torch.randn(edges, 3, dtype=torch.float64), nodes)
    return graph, edge_frames(graph.vectors, LAYOUT)


each_form = pytest.mark.parametrize("form", [reference, lean], ids=["reference", "lean"])
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
@each_part
def test_rotate_back_and_sum_edge_by_edge(form: ModuleType, edges: int, part: tuple[slice, slice]) -> None:
    graph, frames = graph_and_frames(edges)
    back = frames.back[:, *part]
    values = torch.randn(edges, back.shape[2], 4, dtype=torch.float64)
    expected = torch.zeros(6, back.shape[1], 4, dtype=torch.float64)
    for edge in range(edges):
        expected[graph.receivers[edge]] += back[edge] @ values[edge]
    out = form.rotate_back_and_sum(values, back, graph)
    torch.testing.assert_close(out, expected)
    assert (out[[1, 5]] == 0).all()


@each_form
@pytest.mark.parametrize("edges", [0, 5])
def test_gradients(form: ModuleType, edges: int) -> None:
    graph, frames = graph_and_frames(edges)
    x = torch.randn(6, 9, 2, dtype=torch.float64, requires_grad=True)
    radial = radial_weights(edges, 4).requires_grad_()
    if edges:  # gradcheck wants inputs that influence something
        assert torch.autograd.gradcheck(lambda x, r: form.rotated_messages(x, r, graph, frames), [x, radial])
        values = torch.randn(edges, LAYOUT.num_kept, 2, dtype=torch.float64, requires_grad=True)
        assert torch.autograd.gradcheck(lambda v: form.rotate_back_and_sum(v, frames.back, graph), [values])
    else:
        form.rotated_messages(x, radial, graph, frames).sum().backward()
        assert (x.grad == 0).all()


def test_lean_forms_keep_less() -> None:
    graph, frames = graph_and_frames(13)
    x = torch.randn(6, 9, 3, dtype=torch.float64, requires_grad=True)
    radial = radial_weights(13, 6).requires_grad_()
    kept = {}
    for form in (reference, lean):
        storages: dict[int, int] = {}

        def note(t: Tensor, storages: dict[int, int] = storages) -> Tensor:
            storages[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes()
            return t

        with torch.autograd.graph.saved_tensors_hooks(note, lambda t: t):
            messages = form.rotated_messages(x, radial, graph, frames)
            form.rotate_back_and_sum(messages, frames.back, graph)
        kept[form] = sum(storages.values())
    assert kept[lean] < kept[reference] / 1.5
