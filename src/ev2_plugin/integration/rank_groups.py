"""Which processes share a batch (graph parallel) and which have batches of their own (data parallel).

The host keeps its groups in one place (`fairchem.core.common.gp_utils`), made from `--gp-gpus` when a process starts.
"""

from __future__ import annotations

import torch.distributed as dist
from fairchem.core.common import distutils, gp_utils
from torch import Tensor

from ev2_plugin.integration.config import HostOptions
from ev2_plugin.model.batch import AtomBatch
from ev2_plugin.model.batch_share import share_batch


def share_in_group(atoms: AtomBatch, gauge: Tensor | None) -> tuple[AtomBatch, Tensor | None]:
    """This process's share of a batch and of the edge frames' gauge; all of it without `--gp-gpus`."""
    group = _sharing_group()
    return (atoms, gauge) if group is None else share_batch(atoms, gauge, group)


def shares_batches() -> bool:
    """Whether this process computes only a part of its batches."""
    return _sharing_group() is not None


def data_rank() -> int:
    """Number of this process's batches among those that are computed at a time."""
    return gp_utils.get_dp_rank() if gp_utils.initialized() else distutils.get_rank()


def data_ranks() -> int:
    """How many batches are computed at a time."""
    return gp_utils.get_dp_world_size() if gp_utils.initialized() else distutils.get_world_size()


def ranks_per_batch(gp_gpus: int | None, ranks: int) -> int:
    """How many processes share a batch.

    Args:
        gp_gpus: The flag `--gp-gpus`.
        ranks: Processes of the run.

    Raises:
        ValueError: If they cannot be divided into groups of that size.
    """
    size = gp_gpus if gp_gpus is not None else 1
    if size < 1 or ranks % size:
        raise ValueError(
            f"--gp-gpus {size}: {ranks} processes (--num-nodes times --num-gpus) do not make groups of {size}; "
            "give a divisor of their number"
        )
    return size


def check_options(options: HostOptions) -> None:
    """Refuse what cannot be combined with processes that share a batch.

    Raises:
        ValueError: Naming the key.
    """
    if not shares_batches():
        return
    for key, on in (("compile", options.compile), ("cuda_graph_atoms", options.cuda_graph_atoms is not None)):
        if on:
            raise ValueError(
                f"{key} records a model without the messages that --gp-gpus sends between processes: leave out {key}, "
                "or --gp-gpus"
            )


def _sharing_group() -> dist.ProcessGroup | None:
    group = gp_utils.get_gp_group()
    return None if group is None or dist.get_world_size(group) == 1 else group
