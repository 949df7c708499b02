import pytest
import torch
from torch import Tensor

from ev2_plugin.graph.edge_graph import EdgeGraph
from ev2_plugin.ops.attention_scatter import LogitParameters, reference
from helpers.triton_forms import DEVICE, attention

# Triton 3.0's interpreter counts loops with arrays of one element
pytestmark = pytest.mark.filterwarnings("ignore:Conversion of an array with ndim > 0:DeprecationWarning")


def graph_of(receivers: list[int], nodes: int) -> EdgeGraph:
    index = torch.tensor(receivers, dtype=torch.int64, device=DEVICE)
    return EdgeGraph(torch.zeros_like(index), index, torch.zeros(len(index), 3, device=DEVICE), nodes)


GRAPHS = {
    "first and last node receive": graph_of([0, 0, 0, 1, 3, 3, 4], 5),
    "first and last node do not": graph_of([1, 1, 4, 4, 4, 5], 8),
    "one edge": graph_of([0], 1),
    "no edges": graph_of([], 3),
    "more edges than a tile": graph_of([0] * 70 + [1] * 200, 2),
}
each_graph = pytest.mark.parametrize("graph", GRAPHS.values(), ids=GRAPHS)


def problem(edges: int, heads: int, channels: int, norm: bool = True) -> list[Tensor]:
    shapes = [(edges, heads, channels), (heads, channels), *([(channels,)] * 2 if norm else [])]
    return [torch.randn(shape, dtype=torch.float64, device=DEVICE).requires_grad_() for shape in shapes]


def apply(form, tensors: list[Tensor], graph: EdgeGraph) -> Tensor:
    features, dot, *norm = tensors
    return form.attention_weights(features, LogitParameters(*(norm or (None, None)), dot), graph)


def compare(tensors: list[Tensor], graph: EdgeGraph) -> None:
    grad = torch.randn(tensors[0].shape[:2], dtype=torch.float64, device=DEVICE)
    results = []
    for form in (attention, reference):
        out = apply(form, tensors, graph)
        results.append((out, *torch.autograd.grad(out, tensors, grad)))
    for ours, expected in zip(*results, strict=True):
        torch.testing.assert_close(ours, expected, atol=1e-12, rtol=1e-11)


@pytest.mark.parametrize("norm", [True, False])
@pytest.mark.parametrize(("heads", "channels"), [(3, 5), (1, 64), (8, 20)])
@each_graph
def test_is_the_reference(graph: EdgeGraph, heads: int, channels: int, norm: bool) -> None:
    compare(problem(len(graph.receivers), heads, channels, norm), graph)


def test_features_that_are_part_of_wider_rows() -> None:
    graph, (_, *parameters) = GRAPHS["first and last node receive"], problem(7, 3, 5)
    wide = torch.randn(7, 22, dtype=torch.float64, device=DEVICE)
    for part in (wide[:, 2:17].unflatten(1, (3, 5)), wide[:, :15].unflatten(1, (5, 3)).mT):
        compare([part.detach().requires_grad_(), *parameters], graph)


@pytest.mark.parametrize("norm", [True, False])
def test_gradients_numerically(norm: bool) -> None:
    graph = graph_of([0, 0, 2], 3)
    tensors = problem(3, 2, 3, norm)
    assert torch.autograd.gradcheck(lambda *t: apply(attention, list(t), graph), tensors, fast_mode=True)


@pytest.mark.filterwarnings("ignore:overflow encountered in exp:RuntimeWarning")  # 1 / (1 + inf) is the right limit
def test_large_logits() -> None:
    graph = GRAPHS["first and last node receive"]
    features, dot = problem(7, 1, 1, norm=False)
    with torch.no_grad():
        features.copy_(torch.tensor([5e3, -1e4, 4999.0, 30, 0, 7, -3e3], device=DEVICE).view(7, 1, 1))
        dot.fill_(2.0)
    compare([features, dot], graph)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 2e-2)])
def test_lower_precision(dtype: torch.dtype, tolerance: float) -> None:
    graph = GRAPHS["first and last node do not"]
    exact = [t.detach().to(dtype).double().requires_grad_() for t in problem(6, 3, 5)]
    tensors = [t.detach().to(dtype).requires_grad_() for t in exact]
    out, expected = apply(attention, tensors, graph), apply(reference, exact, graph)
    assert out.dtype == torch.float32
    torch.testing.assert_close(out.double(), expected, atol=1e-6, rtol=1e-5)
    grad = torch.randn_like(out)
    ours, theirs = torch.autograd.grad(out, tensors, grad), torch.autograd.grad(expected, exact, grad.double())
    for one, other in zip(ours, theirs, strict=True):
        assert one.dtype == dtype
        torch.testing.assert_close(one.double(), other, atol=tolerance, rtol=tolerance)


def test_twice_the_same_bits() -> None:
    graph = GRAPHS["more edges than a tile"]
    tensors = problem(len(graph.receivers), 2, 3)
    runs = []
    for _ in range(2):
        out = apply(attention, tensors, graph)
        runs.append((out, *torch.autograd.grad(out.sin().sum(), tensors)))
    for one, other in zip(*runs, strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("norm", [True, False])
def test_operator_is_sound(norm: bool) -> None:
    graph = graph_of([0, 0, 2], 3)
    features, dot, *rest = problem(3, 2, 3, norm)
    weight, bias = rest or (None, None)
    torch.library.opcheck(
        torch.ops.ev2_triton.attention_weights.default, (features, weight, bias, dot, graph.row_pointers)
    )
