"""The model through torch.compile: one graph from the tensors of a batch to the predictions, for batches of all sizes.

The neighbour search stays outside. Its tensors go in one by one, their numbers of atoms, edges and structures marked
as sizes that vary, and everything else is a constant of the compiled function. (Asking torch.compile for dynamic
shapes altogether would make symbols of the degrees and channels as well.) Sizes 0 and 1 are always constants to it:
a single structure and a batch without edges have compiled functions of their own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ev2_plugin.graph.edge_graph import EdgeGraph
from ev2_plugin.model.backbone import Backbone
from ev2_plugin.model.batch import AtomBatch
from ev2_plugin.model.replay import Outputs, Predict
from ev2_plugin.ops.backend import announce


class Compiled:
    """A function of the model, the batch and the gauge, compiled when it is first called.

    Args:
        predict: The function; what it returns are tensors by name.
        backend: Of torch.compile.
    """

    def __init__(self, predict: Predict, backend: str | Callable[..., Any] = "inductor") -> None:
        self.predict, self.backend = predict, backend

        def run(model: Backbone, *tensors: Tensor) -> Outputs:
            return predict(model, *_batch(*tensors))

        self.run = torch.compile(run, backend=backend, fullgraph=True, dynamic=False)

    def __call__(self, model: Backbone, atoms: AtomBatch, gauge: Tensor | None = None) -> Outputs:
        """The same as `predict`.

        Without gradients, a batch whose edges exceed `edge_memory_mb` is taken in parts and therefore not compiled.
        """
        graph = atoms.graph
        announce(model.config.backend, model.sphere_embedding.weight)
        if not torch.is_grad_enabled() and len(graph.senders) > model.edges_within_memory(graph.vectors.dtype):
            return self.predict(model, atoms, gauge)
        # what the graph derives from its edges is made outside, where the graph keeps it
        tensors = [
            atoms.atomic_numbers, atoms.natoms, graph.senders, graph.receivers, graph.vectors,
            graph.row_pointers, graph.distances,
        ]  # fmt: skip
        tensors += [] if gauge is None else [gauge]
        for tensor in tensors:
            torch._dynamo.maybe_mark_dynamic(tensor, 0)
        return self.run(model, *tensors)

    def __deepcopy__(self, memo: dict[int, Any]) -> Compiled:
        """A function of its own, for the model's copy."""
        return Compiled(self.predict, self.backend)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled uncompiled."""
        return Compiled, (self.predict, self.backend)


def _batch(
    atomic_numbers: Tensor, natoms: Tensor, senders: Tensor, receivers: Tensor, vectors: Tensor,
    row_pointers: Tensor, distances: Tensor, gauge: Tensor | None = None,
) -> tuple[AtomBatch, Tensor | None]:  # fmt: skip
    graph = EdgeGraph(senders, receivers, vectors, atomic_numbers.shape[0])
    # torch 2.4 cannot compile a cached property that has not been asked for; an attribute of its name takes its place
    object.__setattr__(graph, "row_pointers", row_pointers)
    object.__setattr__(graph, "distances", distances)
    return AtomBatch(atomic_numbers, natoms, graph), gauge
