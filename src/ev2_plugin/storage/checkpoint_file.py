"""A checkpoint in one file: written as a whole, of plain content, with a digest inside that shows damage."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ev2_plugin.storage.atomic import written_atomically
from ev2_plugin.storage.digest import digest_of
from ev2_plugin.storage.torch_file import read_torch

DIGEST = "digest"
"""Key of the digest of everything else in the file."""


def write_checkpoint(path: Path, content: Mapping[str, Any]) -> None:
    """Write a checkpoint; what was at `path` stays until all of it is on disk.

    Args:
        path: In a folder that exists.
        content: Tensors of any device, and what `plain` takes.

    Raises:
        OSError: If it cannot be written; the file that was there is kept.
        TypeError: If the content holds anything else.
    """
    made = plain(content)
    made[DIGEST] = digest_of(made)
    with written_atomically(path) as file:
        torch.save(made, file)


def read_checkpoint(path: Path, *, trust: bool = False) -> dict[str, Any]:
    """Read a checkpoint, tensors on the CPU; nothing in it is executed.

    Args:
        path: Written by `write_checkpoint`, or by anybody else: then there is no digest to compare.
        trust: Execute what the file asks for, if it is not plain.

    Returns:
        The content without its digest.

    Raises:
        FileNotFoundError: If there is no such file.
        Refused: If it asks for something to be executed.
        ValueError: If it is cut off, changed or no checkpoint.
    """
    content = read_torch(path, trust=trust)
    if not isinstance(content, dict):
        raise ValueError(f"{path} is no checkpoint: it holds a {type(content).__name__}, not names and their values")
    if DIGEST in content and content.pop(DIGEST) != _digest(content):
        raise ValueError(
            f"{path} has changed since it was written: its content does not have the digest it should have"
        )
    return content


def _digest(content: dict[str, Any]) -> str | None:
    try:
        return digest_of(content)
    except TypeError:  # something that is never written: a changed byte has made it
        return None


def plain(content: Any) -> Any:
    """The same in containers and values that are read without executing anything; tensors on the CPU.

    Raises:
        TypeError: If something in it is neither.
    """
    if isinstance(content, Tensor):
        return content.detach().cpu()
    if isinstance(content, Mapping):
        return {plain(key): plain(value) for key, value in content.items()}
    if isinstance(content, list):
        return [plain(value) for value in content]
    if isinstance(content, tuple):
        return tuple(plain(value) for value in content)
    if isinstance(content, np.ndarray):
        return torch.from_numpy(np.ascontiguousarray(content))
    if isinstance(content, np.generic):
        return content.item()
    if isinstance(content, PurePath):
        return str(content)
    if content is None or isinstance(content, bool | int | float | str | bytes):
        return content
    raise TypeError(f"a checkpoint cannot hold {type(content).__module__}.{type(content).__qualname__} ({content!r})")
