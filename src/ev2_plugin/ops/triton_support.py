"""Whether Triton's kernels can serve a tensor; imports without Triton."""

from __future__ import annotations

import os
from importlib.util import find_spec

import torch
from torch import Tensor

INSTALLED = find_spec("triton") is not None
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
"""Triton then runs its kernels in Python, on any device; it reads the variable when a kernel is defined."""

OLDEST = 8
"""Compute capability: Ampere, the first with bfloat16."""


def supports(x: Tensor) -> str | None:
    """Why the kernels cannot serve a tensor; None if they can.

    Args:
        x: A tensor of the dtype and on the device of the computation.
    """
    if not INSTALLED:
        return "the package triton is not installed; `pip install triton`, or use backend pytorch"
    if INTERPRETED:
        allowed: tuple[torch.dtype, ...] = (torch.float32, torch.bfloat16, torch.float64)
    elif x.device.type != "cuda" or torch.version.cuda is None:
        return f"the kernels run on NVIDIA GPUs (device cuda), the tensors are on {x.device}; use backend pytorch"
    else:
        allowed = (torch.float32, torch.bfloat16)
        capability = torch.cuda.get_device_properties(x.device).major  # a constant to torch.compile
        if capability < OLDEST:
            return f"the GPU has compute capability {capability}, the kernels need {OLDEST}; use backend pytorch"
    if x.dtype not in allowed:
        names = " or ".join(str(dtype).removeprefix("torch.") for dtype in allowed)
        return f"the kernels compute {names}, the tensors are {str(x.dtype).removeprefix('torch.')}"
    return None
