"""JSON and arrays in files, read with errors that name the file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from ev2_plugin.storage.safe_pickle import reading


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is no JSON, or damaged: {error}") from error


def read_arrays(path: Path, *, trust: bool = False) -> dict[str, np.ndarray]:
    """Read the arrays of an .npz file.

    Args:
        path: The file.
        trust: Whether arrays of objects, which are pickles, are read too.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no such file, is damaged, or holds arrays of objects.
    """
    with reading(path), path.open("rb") as file, np.load(file, allow_pickle=trust) as arrays:
        return dict(arrays)
