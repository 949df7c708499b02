"""Predictions replayed from recorded device work, for small batches.

A forward pass of a small structure is hundreds of short kernels, and launching them takes longer than running them.
A CUDA graph launches all of them at once, but repeats them on the same memory with the same sizes. Batches are
therefore padded to one of a few capacities, copied to that capacity's own memory, and replayed there.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn

from ev2_plugin.graph.edge_graph import EdgeGraph
from ev2_plugin.model.backbone import Backbone
from ev2_plugin.model.batch import AtomBatch
from ev2_plugin.model.padding import Capacity, pad, pad_rows, rounded_capacity

Outputs = dict[str, Tensor]
Level = Literal["atoms", "edges", "structures"]
Predict = Callable[[Any, AtomBatch, Tensor | None], Outputs]

KEPT_RECORDINGS = 16
"""Capacities whose recordings are kept; the one not used for longest makes room."""


class Recorder(Protocol):
    """Turns a function of tensors in fixed memory into one that does its work again."""

    def __call__(self, function: Callable[..., Outputs], inputs: Sequence[Tensor]) -> Callable[[], Outputs]:
        """Record `function(*inputs)`; what is returned repeats it on what `inputs` hold by then."""


class CudaRecorder:
    """Records with CUDA graphs, which share one memory pool: their results last until the next replay of any."""

    def __init__(self) -> None:
        self.pool = torch.cuda.graph_pool_handle()

    def __call__(self, function: Callable[..., Outputs], inputs: Sequence[Tensor]) -> Callable[[], Outputs]:
        """Record on the device of `inputs`."""
        with torch.cuda.device(inputs[0].device):
            return self._record(function, inputs)

    def _record(self, function: Callable[..., Outputs], inputs: Sequence[Tensor]) -> Callable[[], Outputs]:
        graph, side = torch.cuda.CUDAGraph(), torch.cuda.Stream()
        # autocast must not keep its casts of the weights: a replay would miss later changes of the weights
        with torch.autocast("cuda", enabled=torch.is_autocast_enabled("cuda"), cache_enabled=False):
            # kernels are compiled and libraries make their workspaces on first use, which cannot be recorded
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side):
                for _ in range(2):
                    function(*inputs)
            torch.cuda.current_stream().wait_stream(side)
            # a stream of this device: torch.cuda.graph makes its own once, on the device of the first recording
            with torch.cuda.graph(graph, pool=self.pool, stream=side):
                outputs = function(*inputs)

        def replay() -> Outputs:
            graph.replay()
            return outputs

        return replay


@dataclass(frozen=True)
class Recording:
    """Work recorded for one capacity.

    Attributes:
        inputs: The memory it reads: atomic numbers, atoms per structure, senders, receivers, vectors, gauge if any.
        weights: Where the parameters were.
        run: Do the work.
    """

    inputs: tuple[Tensor, ...]
    weights: tuple[Any, ...]
    run: Callable[[], Outputs]


class GraphReplay:
    """Inference by replay where the batch is small enough, the plain way where it is not.

    Args:
        predict: Function of the model, the batch and the gauge.
        levels: Whether the rows of each of its results are atoms, edges or structures.
        largest: Atoms of the largest batch that is padded and replayed.
        recorder: Makes a recorder when the first batch is recorded.
    """

    def __init__(
        self,
        predict: Predict,
        levels: Mapping[str, Level],
        largest: int,
        recorder: Callable[[], Recorder] = CudaRecorder,
    ) -> None:
        self.predict, self.levels, self.largest, self.make_recorder = predict, levels, largest, recorder
        self.recorder: Recorder | None = None
        self.recordings: OrderedDict[Any, Recording] = OrderedDict()
        self.told = False

    def __call__(self, model: Backbone, atoms: AtomBatch, gauge: Tensor | None = None) -> Outputs:
        """Predict for the batch; equal to `predict` up to rounding, and never of fewer rows.

        Args:
            model: The model, in evaluation mode; always the same one.
            atoms: Structures with their edges.
            gauge: Turn of each edge frame in radians; 0 if None.
        """
        size, capacity = Capacity.of(atoms), rounded_capacity(atoms)
        # more edges are taken in parts, for which the host must know where nodes begin: that cannot be recorded
        most_edges = model.edges_within_memory(atoms.graph.vectors.dtype)
        if size.atoms > self.largest or capacity.edges > most_edges:
            if not self.told:
                logging.info(
                    f"batches of more than {self.largest} atoms or {most_edges} padded edges are not replayed; "
                    f"this one has {size.atoms} and {capacity.edges}"
                )
                self.told = True
            return self.predict(model, atoms, gauge)
        padded = _tensors(pad(atoms, capacity), None if gauge is None else pad_rows(gauge, capacity.edges))
        recording = self._recording(model, capacity, padded)
        for memory, value in zip(recording.inputs, padded, strict=True):
            memory.copy_(value)
        rows = {"atoms": size.atoms, "edges": size.edges, "structures": size.structures}
        # copied, because the next replay writes over them
        return {name: value[: rows[self.levels[name]]].clone() for name, value in recording.run().items()}

    def __deepcopy__(self, memo: dict[int, Any]) -> GraphReplay:
        """The same settings without recordings, which hold the weights of the model they were made with."""
        return GraphReplay(self.predict, self.levels, self.largest, self.make_recorder)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled likewise."""
        return GraphReplay, (self.predict, self.levels, self.largest, self.make_recorder)

    def _recording(self, model: nn.Module, capacity: Capacity, padded: tuple[Tensor, ...]) -> Recording:
        device = padded[0].device.type
        autocast = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else None
        key = capacity, padded[4].dtype, len(padded), autocast
        weights = _whereabouts(model)
        recording = self.recordings.get(key)
        if recording is None or recording.weights != weights:
            # elsewhere in memory: whatever else is recorded reads the old place too
            for old in [old for old, one in self.recordings.items() if one.weights != weights]:
                del self.recordings[old]
            self.recorder = self.recorder or self.make_recorder()

            def predict(*tensors: Tensor) -> Outputs:
                return self.predict(model, *_batch(tensors))

            # memory made in inference mode could not be written to outside of it
            with torch.inference_mode(False), torch.no_grad():
                inputs = tuple(torch.empty_like(value).copy_(value) for value in padded)
                recording = self.recordings[key] = Recording(inputs, weights, self.recorder(predict, inputs))
        self.recordings.move_to_end(key)
        if len(self.recordings) > KEPT_RECORDINGS:
            self.recordings.popitem(last=False)
        return recording


def _tensors(atoms: AtomBatch, gauge: Tensor | None) -> tuple[Tensor, ...]:
    graph = atoms.graph
    given = atoms.atomic_numbers, atoms.natoms, graph.senders, graph.receivers, graph.vectors
    return given if gauge is None else (*given, gauge)


def _batch(tensors: Sequence[Tensor]) -> tuple[AtomBatch, Tensor | None]:
    """A graph made anew, so that what it derives from its edges is derived in every replay."""
    atomic_numbers, natoms, senders, receivers, vectors, *gauge = tensors
    graph = EdgeGraph(senders, receivers, vectors, len(atomic_numbers))
    return AtomBatch(atomic_numbers, natoms, graph), gauge[0] if gauge else None


def _whereabouts(model: nn.Module) -> tuple[Any, ...]:
    """Memory and kind of every parameter: changes in place leave it as it is, moves and replacements do not."""
    parameters = (one for module in model.modules() for one in module._parameters.values())
    return tuple((one.data_ptr(), one.dtype) for one in parameters if one is not None)
