"""Batches that cannot fit are refused before anything is computed: the system would kill the process instead."""

from __future__ import annotations

import torch

from ev2_plugin.integration.free_memory import free_memory, give_back
from ev2_plugin.model.backbone import Backbone
from ev2_plugin.model.batch import AtomBatch
from ev2_plugin.model.memory_bound import least_memory

NOT_ASKED = 2**28
"""Bytes below which nobody asks what is free: so small batches, which are quick, cost nothing."""


class TooLittleMemoryError(MemoryError):
    """A batch needs more memory than there is; a smaller one may do."""


class MemoryGuard:
    """Compares batches with the free memory.

    Only what is larger than everything before it is looked at: what has been computed once fits.
    """

    def __init__(self) -> None:
        self.largest = NOT_ASKED

    def check(self, model: Backbone, atoms: AtomBatch) -> None:
        """Refuse a batch that takes more than there is, at the least (`least_memory`).

        Raises:
            TooLittleMemoryError: With what it takes, what there is, and ways out.
        """
        weight, edges = model.sphere_embedding.weight, len(atoms.graph.senders)
        device = weight.device
        autocast = torch.get_autocast_dtype(device.type) if torch.is_autocast_enabled(device.type) else None
        needed = least_memory(model, len(atoms.atomic_numbers), edges, autocast)
        if needed <= self.largest:
            return
        free = free_memory(device)
        if free is not None and needed > free:
            give_back()
            free = free_memory(device)
        if free is not None and needed > free:
            training = torch.is_grad_enabled() and weight.requires_grad
            raise TooLittleMemoryError(_refusal(model, atoms, needed, free, training))
        self.largest = needed


def _refusal(model: Backbone, atoms: AtomBatch, needed: int, free: int, training: bool) -> str:
    structures, count, edges = atoms.num_graphs, len(atoms.atomic_numbers), len(atoms.graph.senders)
    what = "a training step on" if training else "a prediction of"
    size = f"{structures} structures of {count} atoms together" if structures > 1 else f"a structure of {count} atoms"
    weight = model.sphere_embedding.weight
    ways = ["fewer structures at once (optim.batch_size, optim.eval_batch_size)"] if structures > 1 else []
    if training and model.config.activation_checkpoint != "block":
        ways.append(f"activation_checkpoint: block in the model section (now {model.config.activation_checkpoint})")
    if not training and model.edges_within_memory(weight.dtype) < edges:
        ways.append(f"a smaller edge_memory_mb in the model section (now {model.config.edge_memory_mb})")
    ways += ["--gp-gpus, which shares a batch among ranks", "more memory; `ev2 estimate` says how much"]
    return (
        f"{what} {size} and {edges} edges takes {needed / 1e9:.3g} GB at the least, and {free / 1e9:.3g} GB are free "
        f"on {weight.device}. What helps: {'; '.join(ways)}"
    )
