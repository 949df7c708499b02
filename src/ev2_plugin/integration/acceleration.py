"""The keys `compile` and `cuda_graph_atoms`: how a model's function is run."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ev2_plugin.integration.config import HostOptions
from ev2_plugin.integration.memory_guard import MemoryGuard
from ev2_plugin.model.backbone import Backbone, NodeEmbedding
from ev2_plugin.model.batch import AtomBatch
from ev2_plugin.model.compilation import Compiled
from ev2_plugin.model.replay import GraphReplay, Level, Predict
from ev2_plugin.nn.edge_context import EdgeContext
from ev2_plugin.so3.edge_frame import EdgeFrames

FEATURES: dict[str, Level] = {
    "nodes": "atoms",
    "into": "edges",
    "back": "edges",
    "scalars": "edges",
    "sender_elements": "edges",
    "receiver_elements": "edges",
}
"""What the heads of the hydra model read, and what its rows are."""


class Accelerated:
    """A function of a model, run as the options say.

    Args:
        predict: Function of the model, the batch and the gauge.
        levels: Whether the rows of each of its results are atoms, edges or structures.
        options: `compile` and `cuda_graph_atoms`.
    """

    def __init__(self, predict: Predict, levels: Mapping[str, Level], options: HostOptions) -> None:
        self.predict = Compiled(predict) if options.compile else predict
        largest = options.cuda_graph_atoms
        self.replay = None if largest is None else GraphReplay(self.predict, levels, largest)
        self.told = False
        self.guard = MemoryGuard()

    def __call__(self, model: Backbone, atoms: AtomBatch, gauge: Tensor | None) -> dict[str, Tensor]:
        """The function's results.

        Raises:
            TooLittleMemoryError: If the batch cannot fit into the memory.
        """
        self.guard.check(model, atoms)
        if self.replay is None or model.training or torch.is_grad_enabled():
            return self.predict(model, atoms, gauge)
        if not atoms.natoms.is_cuda:
            if not self.told:
                logging.info(f"cuda_graph_atoms: the model is on {atoms.natoms.device}, where nothing is replayed")
                self.told = True
            return self.predict(model, atoms, gauge)
        return self.replay(model, atoms, gauge)


def features(model: Any, atoms: AtomBatch, gauge: Tensor | None) -> dict[str, Tensor]:
    """The tensors of the model's embedding."""
    embedding = model.embed(atoms, gauge)
    edges = embedding.edges
    return {
        "nodes": embedding.nodes,
        "into": edges.frames.into,
        "back": edges.frames.back,
        "scalars": edges.scalars,
        "sender_elements": edges.sender_elements,
        "receiver_elements": edges.receiver_elements,
    }


def embedding(model: Backbone, atoms: AtomBatch, tensors: Mapping[str, Tensor]) -> NodeEmbedding:
    """The embedding of which `features` are the tensors."""
    frames = EdgeFrames(model.config.layout, tensors["into"], tensors["back"])
    edges = EdgeContext(
        atoms.graph,
        frames,
        tensors["scalars"],
        tensors["sender_elements"],
        tensors["receiver_elements"],
        model.edges_within_memory(tensors["scalars"].dtype),
        atoms.share,
    )
    return NodeEmbedding(tensors["nodes"], edges, atoms)
