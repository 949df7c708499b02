"""What half precision must not touch: norms, softmax, sums over edges and atoms, the geometry."""

from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._library.custom_ops import OPDEFS
from torch.utils._python_dispatch import TorchDispatchMode

from ev2_plugin.graph.edge_graph import EdgeGraph
from ev2_plugin.ops.backend import Backend, operations
from helpers.models import filled_model, predict
from helpers.structures import GATE, TINY, assorted, atom_batch

IN_FLOAT32 = {
    "norms": {"native_layer_norm", "native_layer_norm_backward", "rsqrt", "mean"},
    # not "sum": it adds up in float32 and rounds once, whatever it is given
    "sums over edges and atoms": {
        "segment_reduce", "_segment_reduce_backward", "index_add", "index_add_", "index_put_", "cumsum",
    },
    "geometry": {"linalg_vector_norm", "sin", "cos", "atan2"},
}  # fmt: skip


class Recorder(TorchDispatchMode):
    """Notes every operation, inside the fused ones and in the backward pass too, that met half precision."""

    def __init__(self) -> None:
        super().__init__()
        self.halved: set[str] = set()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func.name() in OPDEFS:
            with self:
                return OPDEFS[func.name()]._init_fn(*args, **(kwargs or {}))
        out = func(*args, **(kwargs or {}))
        if any(value.dtype in (torch.bfloat16, torch.float16) for value in args if isinstance(value, Tensor)):
            self.halved.add(func.overloadpacket.__name__)
        return out


CONFIGS = {
    "paper": TINY,
    "gate": GATE,
    "no grid MLP": replace(TINY, use_grid_mlp=False),
    "layer norm per degree": replace(TINY, norm_type="layer_norm"),
    "RMS norm": replace(TINY, norm_type="rms_norm_sh"),
    "edges recomputed": replace(TINY, activation_checkpoint="edges"),
}
each_backend = pytest.mark.parametrize("backend", ["reference", "pytorch"])


def recorded(backend: Backend, name: str, *, by_key: bool) -> Recorder:
    """Calls of a training step in half precision, by autocast around the model or by its own key."""
    config = replace(CONFIGS[name], backend=backend, precision="bf16" if by_key else "highest")
    model = filled_model(config, torch.float32).train()
    atoms = atom_batch(assorted(), config, torch.float32)
    with Recorder() as recorder:
        with nullcontext() if by_key else torch.autocast("cpu", torch.bfloat16):
            energy, forces = predict(model, atoms)
        assert energy.dtype == torch.float32
        (energy.sum() + forces.float().square().sum()).backward()
    return recorder


@each_backend
@pytest.mark.filterwarnings("ignore:.torch.cpu.amp.autocast:FutureWarning")  # torch's own checkpoint calls it so
@pytest.mark.parametrize(("name", "by_key"), [*((name, False) for name in CONFIGS), ("paper", True)])
def test_stays_in_float32(name: str, by_key: bool, backend: Backend) -> None:
    recorder = recorded(backend, name, by_key=by_key)
    assert recorder.halved & {"addmm", "bmm", "mm"}  # or nothing would be tested
    for calls in IN_FLOAT32.values():
        assert not recorder.halved & calls


@pytest.mark.parametrize("name", CONFIGS)
def test_frames_and_distances_are_the_same_to_the_last_bit(name: str) -> None:
    config = CONFIGS[name]
    model, atoms = filled_model(config, torch.float32), atom_batch(assorted(), config, torch.float32)
    expected = model._edge_context(atoms, None)
    with torch.autocast("cpu", torch.bfloat16):
        edges = model._edge_context(atoms, None)
    for ours, right in (
        (edges.frames.into, expected.frames.into),
        (edges.frames.back, expected.frames.back),
        (edges.scalars, expected.scalars),
    ):
        assert torch.equal(ours, right)


@each_backend
def test_sums_over_many_edges_lose_nothing(backend: Backend) -> None:
    """256 + 1 is 256 in bfloat16."""
    edges, ops = 300, operations(backend)
    receivers = torch.zeros(edges, dtype=torch.int64)
    graph = EdgeGraph(receivers, receivers, torch.zeros(edges, 3), 1)
    ones = torch.ones(edges, 1, 2, dtype=torch.bfloat16)
    out = ops.rotate_back_and_sum(ones, None, ones[:, :, :1], graph)
    assert out.dtype == torch.float32
    assert (out == edges).all()
