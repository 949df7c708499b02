"""Reading pickles that may come from anywhere: data is read, anything else is refused unexecuted."""

from __future__ import annotations

import errno
import pickle
from collections import OrderedDict, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from ev2_plugin.storage.allow_list import DATA
from ev2_plugin.storage.numpy_parts import StoredArray, StoredType
from ev2_plugin.storage.tensor_parts import Storage
from ev2_plugin.storage.unpickler import Names, Record, Refused, unpickle

ADVICE = "pass --trust (trust=True) only if you trust where it comes from"


@contextmanager
def reading(source: object) -> Iterator[None]:
    """Turn whatever a damaged or malicious file leads to into a ValueError that names the file.

    Raises:
        Refused: If the file asks for something that is not data.
        ValueError: For any other reason not to be read.
        OSError: As it came: the file may be whole.
    """
    try:
        yield
    except Refused as error:
        raise Refused(f"{source} is refused: {error}; nothing of it was executed; {ADVICE}") from None
    except Exception as error:  # damaged bytes make readers raise anything; the cause stays attached
        if isinstance(error, OSError) and error.errno != errno.EINVAL:  # which is a place outside of the file
            raise
        raise ValueError(f"{source} cannot be read, it is damaged or of another kind: {_brief(error)}") from error


def load_pickle(path: Path, *, trust: bool = False) -> Any:
    """Read a file that holds one pickle of data.

    Raises:
        Refused: If it holds anything else, of which nothing was executed.
        ValueError: If it is damaged.
    """
    content = path.read_bytes()
    with reading(path):
        return pickle.loads(content) if trust else loads(content)


def loads(value: bytes, names: Names = DATA) -> Any:
    """Read one pickle of data; call it under `reading`, which words the errors."""
    return plain(unpickle(value, names)[0])


def plain(value: Any) -> Any:
    """Replace what stands in for NumPy's arrays and types in nested containers, in place where that can be done."""
    return _plain(value, {})


def _plain(value: Any, seen: dict[int, Any]) -> Any:
    kind = type(value)
    if kind is StoredArray:
        return _array(value, seen)
    if kind is StoredType:
        return value.made
    if kind is Storage:
        raise ValueError("it holds numbers that belong to no tensor")
    if kind not in _CONTAINERS:
        return value
    if id(value) not in seen:
        seen[id(value)] = value
        seen[id(value)] = _CONTAINERS[kind](value, seen)
    return seen[id(value)]


def _array(value: StoredArray, seen: dict[int, Any]) -> np.ndarray:
    made: np.ndarray = value.made
    if made.dtype.hasobject and id(made) not in seen:
        seen[id(made)] = made
        for place, one in enumerate(made.flat):
            made.flat[place] = _plain(one, seen)
    return made


def _mapping(value: Any, seen: dict[int, Any]) -> Any:
    for key, one in value.items():
        value[key] = _plain(one, seen)  # a known key: the size stays
    _attributes(value, seen)
    return value


def _attributes(value: Any, seen: dict[int, Any]) -> Any:
    if attributes := getattr(value, "__dict__", None):
        for key, one in attributes.items():
            attributes[key] = _plain(one, seen)
    return value


def _list(value: list[Any], seen: dict[int, Any]) -> list[Any]:
    value[:] = [_plain(one, seen) for one in value]
    return value


def _tuple(value: tuple[Any, ...], seen: dict[int, Any]) -> tuple[Any, ...]:
    return tuple(_plain(one, seen) for one in value)


_CONTAINERS = {
    dict: _mapping,
    OrderedDict: _mapping,
    defaultdict: _mapping,
    Record: _attributes,
    list: _list,
    tuple: _tuple,
}


def _brief(error: Exception) -> str:
    """The first line of an error, its kind where it says nothing."""
    text = str(error).strip().split("\n")[0][:300]
    return text if text and not isinstance(error, KeyError) else f"{type(error).__name__} {text}".strip()
