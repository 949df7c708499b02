"""What a refused file holds besides what it is refused for: nothing it asks for is executed, or even looked up."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ev2_plugin.storage.allow_list import DATA
from ev2_plugin.storage.torch_file import read_torch
from ev2_plugin.storage.unpickler import Record


class Unknown(Record):
    """Stands where the file wanted something of its own; takes whatever is done to it, and does nothing."""

    def __new__(cls, *_: Any) -> Unknown:
        """Arguments are forgotten."""
        return super().__new__(cls)

    def __init__(self, *_: Any) -> None:
        pass

    def __call__(self, *_: Any) -> Unknown:
        """What it would have made is unknown too."""
        return self

    def __setstate__(self, _: Any) -> None:
        pass

    def append(self, _: Any) -> None:
        """What a pickle does to a list."""

    def extend(self, _: Any) -> None:
        """What a pickle does to a list."""

    def add(self, _: Any) -> None:
        """What a pickle does to a set."""

    def update(self, _: Any) -> None:
        """What a pickle does to a set."""

    def __setitem__(self, key: Any, value: Any) -> None:
        pass


class _AnyName(Mapping[tuple[str, str], Any]):
    """The allow-list; any other name is `Unknown`, and noted."""

    def __init__(self) -> None:
        self.asked_for: dict[str, None] = {}

    def __getitem__(self, name: tuple[str, str]) -> Any:
        if name in DATA:
            return DATA[name]
        self.asked_for[".".join(name)] = None
        return Unknown

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return iter(DATA)

    def __len__(self) -> int:
        return len(DATA)


def read_outline(path: Path) -> tuple[Any, list[str]]:
    """Read what a file of torch.save holds, whatever else is in it.

    Args:
        path: The file.

    Returns:
        Its content, tensors on the CPU, `Unknown` where there is something that is no data; and the names of what it
        asks for that is no data.

    Raises:
        FileNotFoundError: If there is no such file.
        Refused: If it is a program of TorchScript.
        ValueError: If it is damaged, or of another kind.
    """
    names = _AnyName()
    return read_torch(path, names=names), list(names.asked_for)
