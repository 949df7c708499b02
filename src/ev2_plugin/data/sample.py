"""One stored structure: a pickle of torch_geometric's Data, of any release, read without executing anything in it."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from typing import Any

from torch_geometric.data import Data

from ev2_plugin.storage.allow_list import SAMPLES
from ev2_plugin.storage.safe_pickle import loads
from ev2_plugin.storage.unpickler import Record


def read_sample(value: bytes, *, trust: bool = False) -> Data:
    """Read a value of an LMDB.

    Args:
        value: The pickle.
        trust: Whether it comes from somebody trusted: then it may hold, and execute, anything.

    Returns:
        An object of this release of torch_geometric with the same attributes, those that are None left out.

    Raises:
        Refused: If it asks for anything but data. Nothing was executed.
        Exception: Whatever damage leads to; call it under `reading`.
    """
    return structure_of(pickle.loads(value) if trust else loads(value, SAMPLES))


def structure_of(made: Any) -> Data:
    """The structure that a pickle made: an object of whatever release, or what stands in for one.

    Raises:
        ValueError: If it is something else.
    """
    if not isinstance(made, Data | Record):
        raise ValueError(f"it is a {type(made).__name__}, not a structure (torch_geometric's Data)")
    data = Data()
    for key, content in _attributes(made).items():
        if content is not None:
            data[key] = content
    return data


def _attributes(made: Any) -> Mapping[str, Any]:
    """What releases before 2.0 have in the object itself, and later ones in its store."""
    stored = made.__dict__.get("_store")
    found = made.__dict__ if stored is None else stored.__dict__.get("_mapping")
    if not isinstance(found, dict) or not all(isinstance(key, str) for key in found):
        raise ValueError("it is a structure without attributes")
    return found
