"""A function on several ranks of this machine: joined by NCCL where every rank has a GPU, by gloo elsewhere."""

from __future__ import annotations

import os
import tempfile
import warnings
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

TIMEOUT = timedelta(minutes=5)


def backend(ranks: int) -> str:
    """What joins so many ranks here."""
    return "nccl" if torch.cuda.device_count() >= ranks else "gloo"


def device() -> torch.device:
    """Where this rank computes."""
    on_gpu = dist.get_backend() == "nccl"
    return torch.device("cuda", dist.get_rank()) if on_gpu else torch.device("cpu")


def run_on_ranks(ranks: int, function: Callable[..., Any], *arguments: Any) -> list[Any]:
    """Call a function in processes of its own, one per rank, in a process group.

    Args:
        ranks: How many.
        function: Of a module that processes can import (`helpers...`), called with `arguments`.
        *arguments: Picklable.

    Returns:
        What it returned, by rank.
    """
    with tempfile.TemporaryDirectory() as folder:
        # what is imported here need not be imported again in forks; but a GPU cannot be used in them
        method = "spawn" if backend(ranks) == "nccl" else "fork"
        mp.start_processes(_rank, (ranks, folder, function, arguments), nprocs=ranks, start_method=method)
        return [torch.load(Path(folder) / f"{rank}.pt", weights_only=False) for rank in range(ranks)]


def _rank(rank: int, ranks: int, folder: str, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    warnings.filterwarnings("ignore", category=FutureWarning)
    torch.set_num_threads(1)
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(ranks))
    if backend(ranks) == "nccl":
        torch.cuda.set_device(rank)
    store = dist.FileStore(f"{folder}/store", ranks)
    dist.init_process_group(backend(ranks), store=store, rank=rank, world_size=ranks, timeout=TIMEOUT)
    torch.save(function(*arguments), Path(folder) / f"{rank}.pt")
    dist.barrier()
    os._exit(0)  # without freeing models: torch 2.4 can hang in that while gloo's thread waits for the interpreter lock
