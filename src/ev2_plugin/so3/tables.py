"""Constants on the device and in the dtype of the computation, made once per combination."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor


@cache
def index_table(values: tuple[int, ...], device: torch.device) -> Tensor:
    """The integers as an int64 tensor on `device`."""
    # Built outside inference mode: a table first asked for during inference must serve training later.
    with torch.inference_mode(False):
        return torch.tensor(values, dtype=torch.int64, device=device)


@cache
def float_table(values: tuple[float, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """The numbers as a tensor of `dtype` on `device`, rounded once from float64."""
    with torch.inference_mode(False):
        return torch.tensor(values, dtype=torch.float64).to(dtype=dtype, device=device)
