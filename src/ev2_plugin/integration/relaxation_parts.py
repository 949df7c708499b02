"""Relaxations in several processes: each has a folder for its share, the first puts the results together."""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ev2_plugin.potential.protocol import Potential
from ev2_plugin.relax.folder import TRAJECTORIES, Progress, read_relaxed, relax_in_folder
from ev2_plugin.relax.frames import Kept
from ev2_plugin.relax.group import Relaxed
from ev2_plugin.relax.settings import Settings
from ev2_plugin.relax.source import Source

COMPLETE = "complete"
_LOOK_EVERY = 1.0
_SAY_EVERY = 300.0


@dataclass(frozen=True)
class Parts:
    """The folders of the processes.

    Attributes:
        folder: In which they lie.
        processes: How many there are.
    """

    folder: Path
    processes: int

    def __getitem__(self, rank: int) -> Path:
        if not 0 <= rank < self.processes:
            raise IndexError(rank)
        return self.folder / f"part-{rank}"

    def relax(
        self,
        rank: int,
        source: Source,
        potential: Potential,
        settings: Settings,
        trajectories: Kept,
        described: Mapping[str, str],
        on_progress: Callable[[Progress], None],
        stop: Callable[[], bool] = lambda: False,
    ) -> Progress:
        """Relax the share of a process; arguments and result as those of `relax_in_folder`."""
        shared = {"process": f"{rank} of {self.processes}", **described}
        reached = relax_in_folder(
            source,
            potential,
            settings,
            self[rank],
            trajectories=trajectories,
            described=shared,
            on_progress=on_progress,
            stop=stop,
        )
        if reached.done == reached.total:
            (self[rank] / COMPLETE).touch()
        return reached

    def wait(self, sleep: Callable[[float], None] = time.sleep) -> None:
        """Wait until every process is done, as long as it takes: their shares do not take equally long."""
        waited = 0.0
        while missing := [rank for rank in range(self.processes) if not (self[rank] / COMPLETE).exists()]:
            if waited % _SAY_EVERY == 0:
                logging.info(f"done here; waiting for the relaxations of process {', '.join(map(str, missing))}")
            sleep(_LOOK_EVERY)
            waited += _LOOK_EVERY

    def read(self, ids: Sequence[str]) -> list[Relaxed]:
        """The results of all processes in the order of `ids`."""
        found = {one.id: one for rank in range(self.processes) for one in read_relaxed(self[rank])}
        return [found[name] for name in ids]

    def collect_trajectories(self, there: Path) -> None:
        """Move all trajectories to one folder; a call that was killed can be made again."""
        there.mkdir(parents=True, exist_ok=True)
        for rank in range(self.processes):
            for path in sorted((self[rank] / TRAJECTORIES).glob("*.traj")):
                shutil.move(path, there / path.name)
