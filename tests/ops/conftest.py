"""Fresh memory holds NaN, so that reading what nobody wrote shows."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor


def nan_filled(allocate: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def allocate_nan(*args: Any, **kwargs: Any) -> Tensor:
        fresh = allocate(*args, **kwargs)
        return fresh.fill_(float("nan")) if fresh.is_floating_point() else fresh

    return allocate_nan


@pytest.fixture(autouse=True)
def _fresh_memory_is_nan(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "empty", nan_filled(torch.empty))
    monkeypatch.setattr(torch, "empty_like", nan_filled(torch.empty_like))
    monkeypatch.setattr(Tensor, "new_empty", nan_filled(Tensor.new_empty))
