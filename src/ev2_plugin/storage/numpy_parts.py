"""What pickles of NumPy's numbers, arrays and types call, rebuilt so that no stored state reaches NumPy itself.

NumPy believes the state that a type is given, for example that a type of objects has its values in bytes: a pickle
could have any bytes taken for addresses.
"""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np

from ev2_plugin.storage.pickle_stream import Damaged
from ev2_plugin.storage.unpickler import Maker

_TYPE = re.compile(r"[<>|=]?(?:b1|[iu][1248]|f(?:2|4|8|16)|c(?:8|16|32)|S\d{1,9}|U\d{1,9})|\||O8?")


class StoredType:
    """A NumPy type on its way out of a pickle: a plain number or text type, or objects."""

    __slots__ = ("made",)

    def __init__(self, text: Any, *copying: Any) -> None:
        if not isinstance(text, str) or not _TYPE.fullmatch(text):
            raise Damaged(f"it has a NumPy type {text!r}, which is none of plain numbers and texts")
        self.made = np.dtype(text)

    def __setstate__(self, state: Any) -> None:
        order, parts = state[1], state[2:5]
        if any(part is not None for part in parts):
            raise Damaged("it has a NumPy type of several fields")
        if order not in ("<", ">", "=", "|"):
            raise Damaged(f"it has a NumPy type of byte order {order!r}")
        self.made = self.made.newbyteorder(order) if order != "|" else self.made


class StoredArray:
    """An array on its way out of a pickle."""

    __slots__ = ("made",)

    def __setstate__(self, state: Any) -> None:
        _, shape, kind, fortran, raw = state
        self.made = (
            _objects(raw, shape)
            if kind.made.hasobject
            else _array(raw.encode("latin1") if isinstance(raw, str) else raw, kind, shape, "F" if fortran else "C")
        )


def _array(raw: Any, kind: StoredType, shape: tuple[int, ...], order: Any) -> np.ndarray:
    if kind.made.itemsize == 0:
        return np.zeros(_size(shape, len(raw)), kind.made).reshape(shape)
    values = np.frombuffer(raw, kind.made) if len(raw) else np.empty(0, kind.made)
    return values.reshape(shape, order=order).copy(order=order)


def _objects(values: Any, shape: tuple[int, ...]) -> np.ndarray:
    if not isinstance(values, list):
        raise Damaged("it has an array of objects that are no list")
    made = np.empty(len(values), dtype=object)
    for place, value in enumerate(values):
        made[place] = value
    return made.reshape(shape)


def _size(shape: tuple[int, ...], most: int) -> int:
    size = math.prod(shape)
    if size > most:
        raise Damaged(f"it has an array of shape {shape} without values")
    return size


def _scalar(kind: StoredType, raw: Any) -> Any:
    return np.frombuffer(raw.encode("latin1") if isinstance(raw, str) else raw, kind.made)[0]


def _empty(*_: Any) -> StoredArray:
    return StoredArray()


def _from_buffer(raw: Any, kind: StoredType, shape: tuple[int, ...], order: Any) -> np.ndarray:
    return _array(raw, kind, shape, order)


NUMPY = {
    ("numpy", "dtype"): Maker(StoredType),
    ("numpy", "ndarray"): Maker(_empty),
    **{
        (f"numpy.{core}.{module}", name): Maker(function)
        for core in ("core", "_core")
        for module, name, function in (
            ("multiarray", "_reconstruct", _empty),
            ("multiarray", "scalar", _scalar),
            ("numeric", "_frombuffer", _from_buffer),
        )
    },
}
"""NumPy's part of the allow-list, under the names of NumPy 1 and 2."""
