"""Memory that this process can still have, on any device."""

from __future__ import annotations

import ctypes
import gc

import torch

from ev2_plugin.machine.memory import free_main_memory


def free_memory(device: torch.device) -> int | None:
    """Bytes that new tensors can take on a device; None if nobody says.

    On the CPU what `free_main_memory` finds. On a GPU, what others leave and what PyTorch holds unused.
    """
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return free_main_memory() if device.type == "cpu" else None


def give_back() -> None:
    """Return to the system what is free inside this process, where the C library can."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
