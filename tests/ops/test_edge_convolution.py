import pytest
import torch
from torch import Tensor

from ev2_plugin.graph.edge_graph import EdgeGraph
from ev2_plugin.ops import chunks
from ev2_plugin.ops.edge_convolution import RadialWeights, reference, remade
from ev2_plugin.ops.so2_linear import SO2Weights
from ev2_plugin.so3.edge_frame import EdgeFrames, edge_frames
from ev2_plugin.so3.layout import CoefficientLayout

NODES, CHANNELS, OUT, WIDTH = 6, 3, 2, 4


def geometry(layout: CoefficientLayout, edges: int) -> tuple[EdgeGraph, EdgeFrames]:
    """Node 1 and the last one receive nothing."""
    receivers = torch.tensor([0, 2, 3, 4])[torch.randint(4, (edges,))].sort().values
    graph = EdgeGraph(torch.randint(NODES, (edges,)), receivers, torch.randn(edges, 3, dtype=torch.float64), NODES)
    return graph, edge_frames(graph.vectors, layout)


def inputs(layout: CoefficientLayout, edges: int, num_scalars: int) -> list[Tensor]:
    degrees = layout.order_sizes[0]
    shapes = [
        (NODES, layout.num_coefficients, CHANNELS),
        (edges, WIDTH),
        (layout.num_radial * 2 * CHANNELS, WIDTH),
        (layout.num_radial * 2 * CHANNELS,),
        (num_scalars + degrees * OUT, degrees * 2 * CHANNELS),
        (num_scalars + degrees * OUT,),
        *((2 * size * OUT, size * 2 * CHANNELS) for size in layout.order_sizes[1:]),
    ]
    return [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes]


def convolve(form, tensors: list[Tensor], num_scalars: int, graph: EdgeGraph, frames: EdgeFrames):
    x, hidden, weight, bias, zero, zero_bias, *pairs = tensors
    weights = SO2Weights(zero, zero_bias, tuple(pairs), num_scalars)
    return form.convolved_messages(x, RadialWeights(hidden, weight, bias), weights, graph, frames)


@pytest.fixture(params=[1, 10**4, 10**9], ids=lambda size: f"chunks of {size} bytes")
def _chunk(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """At least as many edges as nodes: 13 edges are three chunks, the last of one edge."""
    monkeypatch.setitem(chunks.CHUNK_BYTES, "cpu", request.param)


@pytest.mark.usefixtures("_chunk")
@pytest.mark.parametrize("num_scalars", [0, 5])
@pytest.mark.parametrize("edges", [0, 1, 13])
@pytest.mark.parametrize(("lmax", "mmax"), [(0, 0), (1, 0), (2, 2), (4, 2)])
def test_remade_messages_are_the_reference(lmax: int, mmax: int, edges: int, num_scalars: int) -> None:
    layout = CoefficientLayout(lmax, mmax)
    graph, frames = geometry(layout, edges)
    tensors, results = inputs(layout, edges, num_scalars), []
    for form in (reference, remade):
        out, scalars = convolve(form, tensors, num_scalars, graph, frames)
        assert out.shape == (edges, layout.num_kept, OUT)
        assert scalars.shape == (edges, num_scalars)
        loss = out.sin().sum() + scalars.cos().sum()
        results.append((out, scalars, *torch.autograd.grad(loss, tensors)))
    for ours, expected in zip(*results, strict=True):
        assert not ours.isnan().any()
        torch.testing.assert_close(ours, expected, atol=1e-11, rtol=1e-11)


def test_gradients() -> None:
    layout = CoefficientLayout(1, 1)
    graph, frames = geometry(layout, 3)
    tensors = inputs(layout, 3, 1)
    assert torch.autograd.gradcheck(lambda *t: convolve(remade, list(t), 1, graph, frames), tensors)


def test_no_edge_tensor_but_the_radial_function_s_is_kept() -> None:
    layout = CoefficientLayout(2, 1)
    graph, frames = geometry(layout, 50)
    tensors = inputs(layout, 50, 5)
    kept: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        convolve(remade, tensors, 5, graph, frames)
    of_edges = {t.data_ptr() for t in kept if t.is_floating_point() and len(t) == 50}
    assert of_edges == {tensors[1].data_ptr(), frames.into.data_ptr()}


def test_the_same_twice() -> None:
    layout = CoefficientLayout(2, 1)
    graph, frames = geometry(layout, 13)
    tensors, results = inputs(layout, 13, 5), []
    for _ in range(2):
        out, scalars = convolve(remade, tensors, 5, graph, frames)
        results.append((out, scalars, *torch.autograd.grad(out.sin().sum() + scalars.sum(), tensors)))
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


def test_bfloat16_under_autocast() -> None:
    layout = CoefficientLayout(2, 1)
    graph, frames = geometry(layout, 13)
    tensors = [t.detach().float().requires_grad_() for t in inputs(layout, 13, 5)]
    frames = EdgeFrames(layout, frames.into.float(), frames.back.float())
    exact, _ = convolve(remade, tensors, 5, graph, frames)
    with torch.autocast("cpu", torch.bfloat16):
        rough, scalars = convolve(remade, tensors, 5, graph, frames)
    assert rough.dtype == scalars.dtype == torch.bfloat16
    torch.testing.assert_close(rough.float(), exact, atol=0.05 * exact.abs().max().item(), rtol=0.05)
    grads = torch.autograd.grad(rough.float().sum() + scalars.float().sum(), tensors)
    assert all(grad.dtype == torch.float32 and grad.isfinite().all() for grad in grads)


def test_the_operator_is_sound_for_compilers() -> None:
    layout = CoefficientLayout(2, 1)
    graph, frames = geometry(layout, 5)
    x, hidden, weight, bias, zero, zero_bias, *pairs = inputs(layout, 5, 1)
    torch.library.opcheck(
        remade._convolved_messages,
        (x, hidden, weight, bias, zero, zero_bias, pairs, frames.into, graph.senders, graph.receivers,
         2, 1, 1, "highest", "pytorch"),
    )  # fmt: skip
