import pytest
import torch
from torch import Tensor

from ev2_plugin.graph.edge_graph import EdgeGraph
from ev2_plugin.ops.edge_rotation import reference
from ev2_plugin.so3.edge_frame import EdgeFrames, edge_frames
from ev2_plugin.so3.layout import CoefficientLayout
from helpers.triton_forms import DEVICE, rotation

# Triton 3.0's interpreter counts loops with arrays of one element
pytestmark = pytest.mark.filterwarnings("ignore:Conversion of an array with ndim > 0:DeprecationWarning")

NODES = 4
# channels: odd, two tiles' worth with a remainder, one
CASES = [(1, 0, 3, 5), (2, 2, 5, 3), (3, 1, 20, 3), (4, 2, 3, 2), (6, 3, 1, 2)]
each_case = pytest.mark.parametrize(("lmax", "mmax", "channels", "edges"), CASES)
SMALL = CoefficientLayout(1, 1)


def graph_and_frames(layout: CoefficientLayout, edges: int) -> tuple[EdgeGraph, EdgeFrames]:
    """Node 1 and the last one receive nothing; node 0 sends nothing."""
    receivers = torch.tensor([0, 2])[torch.randint(2, (edges,))].sort().values.to(DEVICE)
    senders = torch.randint(1, NODES, (edges,), device=DEVICE)
    graph = EdgeGraph(senders, receivers, torch.randn(edges, 3, dtype=torch.float64, device=DEVICE), NODES)
    return graph, edge_frames(graph.vectors, layout)


def randn(*shape: int) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, device=DEVICE)


def inputs(layout: CoefficientLayout, channels: int, edges: int) -> tuple[Tensor, Tensor]:
    return randn(NODES, layout.num_coefficients, channels), randn(edges, layout.num_radial, 2 * channels)


def close(ours: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(ours, expected, atol=1e-11, rtol=1e-11)


@each_case
def test_messages_are_the_reference(lmax: int, mmax: int, channels: int, edges: int) -> None:
    layout = CoefficientLayout(lmax, mmax)
    graph, frames = graph_and_frames(layout, edges)
    x, radial = inputs(layout, channels, edges)
    close(rotation.rotated_messages(x, radial, graph, frames), reference.rotated_messages(x, radial, graph, frames))


@each_case
def test_gradients_of_messages_are_the_reference(lmax: int, mmax: int, channels: int, edges: int) -> None:
    layout = CoefficientLayout(lmax, mmax)
    graph, frames = graph_and_frames(layout, edges)
    x, radial = (t.requires_grad_() for t in inputs(layout, channels, edges))
    grad = randn(edges, layout.num_kept, 2 * channels)
    expected = torch.autograd.grad(reference.rotated_messages(x, radial, graph, frames), (x, radial), grad)
    ours = rotation.rotated_messages_backward(grad, x.detach(), radial.detach(), graph, frames)
    for one, other in zip(ours, expected, strict=True):
        close(one, other)
    assert (ours[0][1] != 0).any(), "node 1 sends"
    assert (ours[0][0] != 0).any() == (graph.receivers == 0).any(), "node 0 only receives"


def back_parts(frames: EdgeFrames) -> dict[str, Tensor]:
    lmax = frames.layout.lmax
    return {
        "all": frames.back,
        "order 0": frames.back[:, :, : lmax + 1],
        "degree 1": frames.back[:, 1:4],
        "copy": frames.back.contiguous(),
        "every second edge's": frames.back.repeat_interleave(2, dim=0)[::2],
    }


@pytest.mark.parametrize("part", ["all", "order 0", "degree 1"])
@pytest.mark.parametrize("heads", [None, 1, 3])
@pytest.mark.parametrize(("lmax", "mmax", "edges"), [(1, 0, 5), (2, 2, 3), (3, 1, 3)])
def test_rotate_back_and_sum_is_the_reference(lmax: int, mmax: int, edges: int, heads: int | None, part: str) -> None:
    compare_sums(CoefficientLayout(lmax, mmax), 6, edges, heads, part)


@pytest.mark.parametrize(("lmax", "mmax", "channels", "heads"), [(4, 2, 20, 5), (6, 3, 3, 3), (16, 0, 1, 1)])
def test_rotate_back_and_sum_of_high_degrees(lmax: int, mmax: int, channels: int, heads: int) -> None:
    compare_sums(CoefficientLayout(lmax, mmax), channels, 2, heads, "all")


@pytest.mark.parametrize("part", ["copy", "every second edge's"])
def test_matrices_laid_out_otherwise(part: str) -> None:
    compare_sums(CoefficientLayout(2, 1), 6, 3, 2, part)


def compare_sums(layout: CoefficientLayout, channels: int, edges: int, heads: int | None, part: str) -> None:
    graph, frames = graph_and_frames(layout, edges)
    back = back_parts(frames)[part]
    tensors = [randn(edges, back.shape[2], channels).requires_grad_()]
    attention = None if heads is None else randn(edges, heads).requires_grad_()
    if attention is not None:
        tensors.append(attention)
    grad = randn(NODES, back.shape[1], channels)
    results = []
    for form in (rotation, reference):
        out = form.rotate_back_and_sum(tensors[0], attention, back, graph)
        results.append((out, *torch.autograd.grad(out, tensors, grad)))
    for ours, expected in zip(*results, strict=True):
        close(ours, expected)
    assert (results[0][0][[1, 3]] == 0).all()


def test_a_slice_is_not_taken_for_whole_matrices() -> None:
    """9 coefficients and 7 rows are those of lmax = 2, mmax = 1, and of degree 4 among 7 degrees of order 0."""
    graph, frames = graph_and_frames(CoefficientLayout(6, 0), 3)
    back, values = frames.back[:, 16:25], randn(3, 7, 2)
    close(
        rotation.rotate_back_and_sum(values, None, back, graph),
        reference.rotate_back_and_sum(values, None, back, graph),
    )


def test_no_edges() -> None:
    layout = CoefficientLayout(2, 1)
    graph, frames = graph_and_frames(layout, 0)
    x, radial = inputs(layout, 3, 0)
    messages = rotation.rotated_messages(x, radial, graph, frames)
    assert messages.shape == (0, layout.num_kept, 6)
    grad_x, grad_radial = rotation.rotated_messages_backward(messages, x, radial, graph, frames)
    assert (grad_x == 0).all()
    assert grad_radial.shape == radial.shape
    for part in back_parts(frames).values():
        values, weights = randn(0, part.shape[2], 4).requires_grad_(), randn(0, 2).requires_grad_()
        out = rotation.rotate_back_and_sum(values, weights, part, graph)
        assert (out == 0).all()
        out.sum().backward()
        assert values.grad is not None
        assert values.grad.shape == values.shape


def test_gradients_numerically() -> None:
    graph, frames = graph_and_frames(SMALL, 2)
    values, weights = randn(2, SMALL.num_kept, 2).requires_grad_(), randn(2, 2).requires_grad_()
    for back in (frames.back, frames.back[:, 1:3]):
        assert torch.autograd.gradcheck(
            lambda v, a, back=back: rotation.rotate_back_and_sum(v, a, back, graph), [values, weights], fast_mode=True
        )


def test_twice_the_same_bits() -> None:
    layout = CoefficientLayout(2, 1)
    graph, frames = graph_and_frames(layout, 6)
    x, radial = inputs(layout, 3, 6)
    grad = randn(6, layout.num_kept, 6)
    runs = [
        (
            rotation.rotated_messages(x, radial, graph, frames),
            *rotation.rotated_messages_backward(grad, x, radial, graph, frames),
            rotation.rotate_back_and_sum(grad, radial[:, 0, :3], frames.back, graph),
        )
        for _ in range(2)
    ]
    for one, other in zip(*runs, strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 3e-2)])
def test_lower_precision(dtype: torch.dtype, tolerance: float) -> None:
    """Sums are in float32; bfloat16 rounds what is written."""
    layout = CoefficientLayout(2, 1)
    graph, frames = graph_and_frames(layout, 4)
    x, radial = (t.to(dtype) for t in inputs(layout, 3, 4))
    out = rotation.rotated_messages(x, radial, graph, frames)
    assert out.dtype == dtype
    expected = reference.rotated_messages(x.double(), radial.double(), graph, frames)
    torch.testing.assert_close(out.double(), expected, atol=tolerance, rtol=tolerance)
    grads = rotation.rotated_messages_backward(out, x, radial, graph, frames)
    assert [g.dtype for g in grads] == [dtype, dtype]
    values, weights = out.clone().requires_grad_(), torch.rand(4, 2, device=DEVICE).requires_grad_()
    total = rotation.rotate_back_and_sum(values, weights, frames.back, graph)
    assert total.dtype == torch.float32
    expected = reference.rotate_back_and_sum(values.double(), weights.double(), frames.back, graph)
    torch.testing.assert_close(total.double(), expected, atol=4 * tolerance, rtol=tolerance)
    total.sum().backward()
    assert values.grad is not None
    assert weights.grad is not None
    assert (values.grad.dtype, weights.grad.dtype) == (dtype, torch.float32)


def test_operators_are_sound() -> None:
    graph, frames = graph_and_frames(SMALL, 2)
    x, radial = inputs(SMALL, 1, 2)
    ops = torch.ops.ev2_triton
    ends = frames.into, graph.senders, graph.receivers
    torch.library.opcheck(ops.rotated_messages.default, (x, radial, *ends, 1, 1))
    sorted_edges = graph.row_pointers, graph.sender_order, graph.sender_pointers
    grad = randn(2, SMALL.num_kept, 2)
    torch.library.opcheck(ops.rotated_messages_backward.default, (grad, x, radial, *ends, *sorted_edges, 1, 1))
    for weights in (None, randn(2, 2).requires_grad_()):
        torch.library.opcheck(
            ops.rotate_back_and_sum.default,
            (grad.clone().requires_grad_(), weights, frames.back, graph.receivers, graph.row_pointers),
        )


def test_inputs_are_left_alone() -> None:
    graph, frames = graph_and_frames(SMALL, 3)
    x, radial = inputs(SMALL, 2, 3)
    before = x.clone(), radial.clone()
    rotation.rotated_messages(x, radial, graph, frames)
    assert torch.equal(x, before[0])
    assert torch.equal(radial, before[1])
