"""The memory of a preparation: its settings and chunks, written before any work and compared when work goes on."""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ev2_plugin.data.inventory import Chunk, SourceFile
from ev2_plugin.storage.atomic import written_atomically
from ev2_plugin.storage.plain_files import read_json
from ev2_plugin.storage.safe_pickle import reading

FILE_NAME = "manifest.json"


@dataclass(frozen=True)
class Manifest:
    """What a preparation was asked to do.

    Attributes:
        conversion: The settings that the samples of a chunk depend on, as JSON holds them.
        division: The settings that only the final files depend on.
        chunks: The pieces of the work, in order.
    """

    conversion: Mapping[str, Any]
    division: Mapping[str, Any]
    chunks: tuple[Chunk, ...]

    def __post_init__(self) -> None:
        for name in ("conversion", "division"):
            object.__setattr__(self, name, json.loads(json.dumps(dict(getattr(self, name)))))

    def write(self, folder: Path) -> None:
        """Write `manifest.json`; it appears only when it is complete."""
        chunks = [asdict(chunk) for chunk in self.chunks]
        content = {"conversion": self.conversion, "division": self.division, "chunks": chunks}
        write_json(folder / FILE_NAME, content)

    @classmethod
    def read(cls, folder: Path) -> Manifest:
        """Read `manifest.json`.

        Raises:
            FileNotFoundError: If there is none.
            ValueError: If it is damaged.
        """
        stored = read_json(folder / FILE_NAME)
        with reading(folder / FILE_NAME):
            return cls(stored["conversion"], stored["division"], tuple(map(_chunk, stored["chunks"])))

    def check_conversion(self, now: Manifest, folder: Path) -> None:
        """Compare the sources and how they are read with what is asked now.

        Args:
            now: The settings and sources of this call.
            folder: Where this manifest was found, for messages.

        Raises:
            ValueError: Naming the first setting or source that differs.
        """
        advice = _advice(folder)
        _compare(self.conversion, now.conversion, folder)
        files, files_now = self._files(), now._files()
        for path, file in files.items():
            if path not in files_now:
                raise ValueError(f"{folder} was begun with {path}, which is not among the sources now: {advice}")
            if files_now[path] != file:
                raise ValueError(f"{path} has changed since {folder} was begun: {advice}")
        for path in files_now:
            if path not in files:
                raise ValueError(f"{folder} was begun without {path}: {advice}")
        if self.chunks != now.chunks:
            raise ValueError(f"{folder} was begun with the sources in another order or for other splits: {advice}")

    def check_division(self, now: Manifest, folder: Path) -> None:
        """Compare what the final files depend on with what is asked now; as `check_conversion`."""
        _compare(self.division, now.division, folder)

    def _files(self) -> dict[str, SourceFile]:
        return {file.path: file for chunk in self.chunks for file in chunk.files}


def _compare(before: Mapping[str, Any], now: Mapping[str, Any], folder: Path) -> None:
    for key in sorted({*before, *now}):
        if before.get(key) != now.get(key):
            raise ValueError(
                f"{folder} was begun with {key} {before.get(key)!r}, not {now.get(key)!r}: {_advice(folder)}"
            )


def _advice(folder: Path) -> str:
    return f"remove {folder} to start anew, or choose another --out"


@contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Hold a folder for this process.

    Raises:
        RuntimeError: If another process holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RuntimeError(f"another process is at work in {folder}") from None
        yield


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON file that appears only when it is complete."""
    with written_atomically(path) as file:
        file.write(json.dumps(content, indent=1).encode())


def _chunk(stored: dict[str, Any]) -> Chunk:
    files = tuple(SourceFile(**file) for file in stored["files"])
    rows = None if stored["rows"] is None else tuple(stored["rows"])
    return Chunk(stored["kind"], files, stored["split"], rows, stored["num_bytes"])
