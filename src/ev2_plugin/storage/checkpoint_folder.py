"""The checkpoints of one run: the last few and the best, and which of them to go on from."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ev2_plugin.storage.atomic import sync_folder
from ev2_plugin.storage.checkpoint_file import read_checkpoint, write_checkpoint
from ev2_plugin.storage.torch_file import Refused

NEWEST = "checkpoint.pt"


@dataclass(frozen=True)
class CheckpointFolder:
    """A run's folder: `checkpoint_000001200.pt` and so on, `checkpoint.pt` (the newest), `best_checkpoint.pt`.

    Attributes:
        path: The folder.
        keep: How many numbered checkpoints stay; at least 1.
    """

    path: Path
    keep: int = 3

    def save(self, content: Mapping[str, Any], step: int) -> Path:
        """Write a checkpoint, give it the name of the newest too, and remove those that are no longer kept.

        Args:
            content: As `write_checkpoint` takes it.
            step: Its number: of two checkpoints, the later one has the higher.

        Raises:
            OSError: If it cannot be written: the others are all kept.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        self._remove_left_over()
        numbered = self.path / f"checkpoint_{step:09d}.pt"
        write_checkpoint(numbered, content)
        self._name_newest(numbered)
        for old in self.numbered()[self.keep :]:
            old.unlink()
        return self.path / NEWEST

    def write(self, name: str, content: Mapping[str, Any]) -> Path:
        """Write a checkpoint that is not one of the series, as `best_checkpoint.pt`, in the place of the one before.

        Raises:
            OSError: If it cannot be written: the one before is kept.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        write_checkpoint(self.path / name, content)
        return self.path / name

    def numbered(self) -> list[Path]:
        """Numbered checkpoints, whole or not, newest first."""
        return sorted(self.path.glob("checkpoint_*.pt"), reverse=True)

    def newest_whole(self, *, trust: bool = False) -> tuple[Path, dict[str, Any]] | None:
        """The newest checkpoint that is not damaged, with a warning for each that is.

        Args:
            trust: As for `read_checkpoint`.

        Returns:
            The file and its content; None if the folder has no checkpoint.

        Raises:
            ValueError: If it has some, and all are damaged.
            Refused: If a file asks for something to be executed.
        """
        damaged = []
        for path in self._candidates():
            try:
                content = read_checkpoint(path, trust=trust)
            except Refused:
                raise
            except ValueError as error:
                logging.warning(f"{error}; going on from the checkpoint before it")
                damaged.append(path.name)
            else:
                return path, content
        if damaged:
            raise ValueError(
                f"no checkpoint in {self.path} can be read ({', '.join(damaged)}): the run cannot go on. Remove them "
                "to begin anew"
            )
        return None

    def _candidates(self) -> list[Path]:
        """Newest first; `checkpoint.pt` itself counts where it is a file of its own, as the host writes it."""
        numbered, newest = self.numbered(), self.path / NEWEST
        if not newest.is_file() or any(newest.samefile(path) for path in numbered):
            return numbered
        return [*numbered, newest]

    def _name_newest(self, numbered: Path) -> None:
        """A second name for the same file, which costs no space; the name changes hands in one moment."""
        link = self.path / f".{NEWEST}.link"
        link.unlink(missing_ok=True)
        os.link(numbered, link)
        link.replace(self.path / NEWEST)
        sync_folder(self.path)

    def _remove_left_over(self) -> None:
        """Remove what a killed process began to write."""
        for partial in self.path.glob(".*checkpoint*.partial"):
            partial.unlink(missing_ok=True)
