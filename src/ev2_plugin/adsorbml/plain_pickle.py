"""Pickles of plain data: numbers, texts and their containers, arrays of NumPy. Anything else is refused unexecuted."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

_NAMES = {
    "builtins": "bool bytearray complex dict float frozenset int list set str tuple",
    "collections": "OrderedDict defaultdict",
    "_codecs": "encode",
    "numpy": "dtype ndarray",
    "numpy.core.multiarray": "_reconstruct scalar",
}
_PLAIN = {(module, name) for module, names in _NAMES.items() for name in names.split()}


class _PlainUnpickler(pickle.Unpickler):
    """An unpickler that finds only what makes plain data."""

    def find_class(self, module: str, name: str) -> Any:
        """Look a name up, if it is allowed; modules may have the names of Python 2 and of NumPy 2."""
        module = {"__builtin__": "builtins", "numpy._core.multiarray": "numpy.core.multiarray"}.get(module, module)
        if (module, name) not in _PLAIN:
            raise _Refused(f"it asks for {module}.{name}, which is not plain data")
        return super().find_class(module, name)


class _Refused(ValueError):
    """The pickle asks for something else than plain data."""


def load_plain(path: Path) -> Any:
    """Read a pickle of plain data.

    Raises:
        ValueError: If it holds anything else, of which nothing was executed, or is damaged.
    """
    with path.open("rb") as file:
        try:
            return _PlainUnpickler(file).load()
        except (_Refused, pickle.UnpicklingError, EOFError) as error:
            raise ValueError(f"{path} is refused: {error}") from error
