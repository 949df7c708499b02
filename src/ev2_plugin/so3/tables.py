"""Constants on the device and in the dtype of the computation, made once per combination."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor


def constant(make: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Keep what `make` returns for each combination of its arguments, all hashable, none of them an object of ours.

    Python and torch.compile get the same tensor: a compiled function holds it as it holds a parameter, and does not
    look into `make`.
    """

    @cache
    def kept(*arguments: Any) -> tuple[Tensor]:
        # Built outside inference mode: a table first asked for during inference must serve training later.
        with torch.inference_mode(False):
            return (make(*arguments),)

    def look_up(*arguments: Any) -> tuple[Tensor]:
        return kept(*arguments)

    # What torch.compiler.assume_constant_result sets, which would import the compiler here. The tuple makes the
    # compiler name every result; bare tensors would all get the name of this function and be mistaken for each other.
    look_up._dynamo_marked_constant = True  # type: ignore[attr-defined]

    def table(*arguments: Any) -> Tensor:
        return look_up(*arguments)[0]

    table.__doc__ = make.__doc__
    table.cache_clear = kept.cache_clear  # type: ignore[attr-defined]
    return table


@constant
def index_table(values: tuple[int, ...], device: torch.device) -> Tensor:
    """The integers as an int64 tensor on `device`."""
    return torch.tensor(values, dtype=torch.int64, device=device)


@constant
def float_table(values: tuple[float, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """The numbers as a tensor of `dtype` on `device`, rounded once from float64."""
    return torch.tensor(values, dtype=torch.float64).to(dtype=dtype, device=device)
