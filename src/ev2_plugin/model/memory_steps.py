"""A training step and an inference, traced on tensors that have sizes but no data.

The code that runs is the code that is traced, so its memory follows every setting. Tensors without data take no memory
and next to no time, whatever their size.
"""

from __future__ import annotations

import functools
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from ev2_plugin.graph.edge_graph import EdgeGraph
from ev2_plugin.model.batch import AtomBatch
from ev2_plugin.model.memory_trace import MemoryProfile, StorageTrace
from ev2_plugin.ops.chunks import CHUNK_BYTES
from ev2_plugin.ops.sphere_activation.tiled import TILE_ELEMENTS

Predict = Callable[[AtomBatch], Iterable[Tensor]]
"""Structures -> everything that is predicted of them."""


@contextmanager
def without_data(device_type: str) -> Iterator[None]:
    """Tensors made inside have no data, and are cut in chunks as on a kind of device.

    They say that they are on the CPU: devices that are not there cannot be imagined.

    Args:
        device_type: `cpu` or `cuda`.
    """
    budgets = (CHUNK_BYTES, TILE_ELEMENTS)
    before = [budget["cpu"] for budget in budgets]
    _forget_tables()
    try:
        for budget in budgets:
            budget["cpu"] = budget[device_type]
        with FakeTensorMode():
            yield
    finally:
        for budget, value in zip(budgets, before, strict=True):
            budget["cpu"] = value
        _forget_tables()  # those made inside are empty


def _forget_tables() -> None:
    """Clear the caches of this package, which hold tensors."""
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] == __name__.partition(".")[0]:
            for value in vars(module).values():
                if hasattr(value, "cache_clear"):
                    value.cache_clear()


def empty_batch(atoms: int, edges: int) -> AtomBatch:
    """One structure of so many atoms and edges, as many at each atom; for tensors without data only."""
    index = functools.partial(torch.empty, dtype=torch.int64)
    graph = EdgeGraph(index(edges), index(edges), torch.empty(edges, 3), atoms)
    pointers: Any = index(atoms + 1)
    pointers.tolist = lambda: [edges * node // atoms for node in range(atoms + 1)]  # what the model asks it for
    graph.__dict__["row_pointers"] = pointers
    return AtomBatch(index(atoms), index(1), graph)


def trace_inference(
    module: nn.Module, predict: Predict, batch: Callable[[], AtomBatch], units: tuple[int, int]
) -> MemoryProfile:
    """Memory of a prediction besides the module's parameters and buffers.

    Args:
        module: The model; it is left in evaluation mode.
        predict: Its predictions.
        batch: Makes the structures.
        units: Their atoms and edges.
    """
    module.eval()
    with StorageTrace((*module.parameters(), *module.buffers()), units) as trace, torch.no_grad():
        list(predict(batch()))
    return trace.profile


def trace_training(
    module: nn.Module,
    predict: Predict,
    batch: Callable[[], AtomBatch],
    units: tuple[int, int],
    *,
    accumulate: bool = False,
) -> MemoryProfile:
    """Memory of a training step besides parameters and buffers, up to the optimiser's work.

    Gradients of the step before live until the backward pass begins.

    Args:
        module: The model; it is left in training mode, without gradients.
        predict: Its predictions.
        batch: Makes the structures.
        units: Their atoms and edges.
        accumulate: The gradients of the batch before are kept and added to.
    """
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    module.train()
    with StorageTrace((*module.parameters(), *module.buffers()), units) as trace:
        for parameter in trained:
            parameter.grad = torch.zeros_like(parameter)
        loss = torch.stack([output.float().abs().mean() for output in predict(batch())]).sum()
        if not accumulate:
            module.zero_grad()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # torch's checkpointing calls its own old autocast
            loss.backward()
    module.zero_grad()
    return trace.profile
