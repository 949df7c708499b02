"""An unpickler that finds only the names it was given; their makers can be called and not changed."""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable, Mapping
from typing import Any

from ev2_plugin.storage.pickle_stream import Buffer, Damaged, end_of_pickle

Names = Mapping[tuple[str, str], Any]
"""What a pickle may ask for, by module and name."""


class Refused(ValueError):
    """A file asks for something that is not data; nothing of it was executed."""


class Maker:
    """A function that a pickle may call, and do nothing else with: not even an attribute can be set."""

    __slots__ = ("_function",)
    _function: Callable[..., Any]

    def __init__(self, function: Callable[..., Any]) -> None:
        object.__setattr__(self, "_function", function)

    def __call__(self, *args: Any) -> Any:
        """Call the function; a pickle has no named arguments."""
        return self._function(*args)

    def __setattr__(self, name: str, value: Any) -> None:
        raise Damaged(f"it sets {name!r} of a function")

    def __reduce__(self) -> str:
        raise TypeError("what a pickle may call is no data")


class _Fixed(type):
    def __setattr__(cls, name: str, value: Any) -> None:
        raise Damaged(f"it sets {name!r} of a class")


class Record(metaclass=_Fixed):
    """Stands in for an object of a known class: its attributes, and no behaviour."""


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, names: Names, persistent_load: Callable[[Any], Any] | None) -> None:
        super().__init__(file, encoding="latin1")
        self._names = names
        self._persistent_load = persistent_load

    def find_class(self, module: str, name: str) -> Any:
        try:
            return self._names[module, name]
        except KeyError:
            raise Refused(f"it asks for {module}.{name}, which is not data") from None

    def persistent_load(self, saved: Any) -> Any:
        if self._persistent_load is None:
            raise Damaged("it refers to something outside of it")
        return self._persistent_load(saved)


def unpickle(
    data: Buffer, names: Names, *, start: int = 0, persistent_load: Callable[[Any], Any] | None = None
) -> tuple[Any, int]:
    """Read the pickle that begins at `start`.

    Args:
        data: What holds the pickle.
        names: All that it may ask for.
        start: Place of its first byte.
        persistent_load: Finds what it refers to outside of itself; nothing if None.

    Returns:
        Its content, and the place after its last byte.

    Raises:
        Refused: If it asks for a name that is not among `names`.
        Damaged: If it is not whole.
        Exception: Whatever a damaged pickle makes of the functions it calls: `reading` turns it into a ValueError.
    """
    end = end_of_pickle(data, start)
    return _Unpickler(io.BytesIO(data[start:end]), names, persistent_load).load(), end
