"""Archives of arrays (.npz): written whole or not at all, read without running what is in them."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ev2_plugin.storage.atomic import written_atomically


def write_archive(path: Path, arrays: Iterable[tuple[str, np.ndarray]]) -> None:
    """Write a compressed archive as `numpy.savez_compressed` does, one array in memory at a time.

    Args:
        path: File to make or to replace; it has its old content until the new one is complete.
        arrays: Names and arrays; read once. What it raises ends the writing, and nothing is left behind.

    Raises:
        ValueError: If an array holds objects, which only a pickle could store.
    """
    with written_atomically(path) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, array in arrays:
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)


@dataclass(frozen=True)
class Archive:
    """An open archive.

    Attributes:
        path: Its file.
        content: What is in it; an array is read when it is asked for.
    """

    path: Path
    content: np.lib.npyio.NpzFile

    @property
    def names(self) -> list[str]:
        """Names of the arrays."""
        return list(self.content.files)

    def read(self, name: str) -> np.ndarray:
        """Read an array.

        Raises:
            ValueError: If it is damaged, is no array, or holds objects: a pickle is never opened.
        """
        try:
            array = self.content[name]
        except Exception as error:  # damaged bytes make zipfile and NumPy raise anything
            raise ValueError(f"{self.path}: {name} cannot be read: {error}") from error
        if not isinstance(array, np.ndarray):
            raise ValueError(f"{self.path}: {name} is no array")
        return array


@contextmanager
def open_archive(path: Path) -> Iterator[Archive]:
    """Open an archive of arrays.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no archive, or ends too early.
    """
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    with path.open("rb") as file:
        try:
            content = np.load(file, allow_pickle=False)
        except Exception as error:  # as above
            raise ValueError(f"{path} is no .npz archive, or is cut off: {error}") from error
        if not isinstance(content, np.lib.npyio.NpzFile):
            raise ValueError(f"{path} is a single array, no .npz archive")
        with content:
            yield Archive(path, content)
