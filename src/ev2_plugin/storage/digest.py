"""One short string for the content of nested containers of tensors and plain values."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor


def digest_of(content: Any) -> str:
    """SHA-256 of the content, bit by bit: what differs in a key, a type, a shape or a bit has another digest.

    The order of keys counts: it is part of what a state dict says.

    Args:
        content: Tensors, numbers, texts, bytes, None, and mappings, lists and tuples of them.

    Returns:
        64 hexadecimal digits.

    Raises:
        TypeError: If it holds anything else.
    """
    found = hashlib.sha256()
    _add(found, content)
    return found.hexdigest()


def _add(found: Any, content: Any) -> None:
    if isinstance(content, Tensor):
        found.update(f"tensor {content.dtype} {list(content.shape)};".encode())
        found.update(_bytes(content))
    elif isinstance(content, Mapping):
        found.update(f"mapping {len(content)};".encode())
        for key, value in content.items():
            _add(found, key)
            _add(found, value)
    elif isinstance(content, list | tuple):
        found.update(f"sequence {len(content)};".encode())
        for value in content:
            _add(found, value)
    elif isinstance(content, bool | int | float | str | bytes | None):
        found.update(f"{type(content).__name__} {content!r};".encode())
    else:
        raise TypeError(f"no digest of {type(content).__module__}.{type(content).__qualname__}")


def _bytes(value: Tensor) -> Any:
    flat = value.detach().cpu().contiguous().view(-1)
    return memoryview(flat.view(torch.uint8).numpy()) if flat.numel() else b""  # type: ignore[arg-type]
