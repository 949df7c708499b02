"""What must be the same when relaxations are started again, as short strings."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from torch import Tensor

_HOW_NOT_WHAT = ("backend", "activation_checkpoint", "edge_memory_mb", "compile", "cuda_graph_atoms")
"""Settings of a model that change how it computes and not what."""


def digest_of_weights(state: Mapping[str, Tensor]) -> str:
    """Of named tensors, bit by bit."""
    found = hashlib.sha256()
    for name, value in state.items():
        found.update(f"{name} {value.dtype} {list(value.shape)}".encode())
        found.update(_bytes(value))
    return found.hexdigest()


def digest_of_samples(samples: Iterable[Any]) -> str:
    """Of the structures of host samples: atoms, positions, cells, periodicity, what is fixed, tags."""
    found = hashlib.sha256()
    for sample in samples:
        for key in ("atomic_numbers", "pos", "cell", "pbc", "fixed", "tags"):
            found.update(_bytes(sample[key]) if key in sample else b"")
    return found.hexdigest()


def digest_of_model(settings: Mapping[str, Any]) -> str:
    """Of the model section of a config, without what changes no result."""
    return hashlib.sha256(json.dumps(_without_how(settings), sort_keys=True, default=str).encode()).hexdigest()


def _without_how(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: _without_how(value) if isinstance(value, Mapping) else value
        for key, value in settings.items()
        if key not in _HOW_NOT_WHAT
    }


def _bytes(value: Tensor) -> bytes:
    array: np.ndarray = value.detach().cpu().contiguous().view(-1).numpy()
    return array.tobytes()
