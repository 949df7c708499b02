"""A logger that needs no account: the metrics of a run as files in its folder of logs."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fairchem.core.common.logger import Logger

from ev2_plugin.storage.metrics_log import Entry, MetricsLog
from ev2_plugin.storage.metrics_table import MetricsTable

LOG_NAME = "metrics.jsonl"


class LocalLogger(Logger):
    """Writes `metrics.jsonl`, one JSON object per call, and a table of each split, `train.csv` and `val.csv`.

    The first training step that is logged says where a resumed run goes on: what the files hold of it and of later
    steps, from a process that ended after its last checkpoint, is removed.

    Args:
        config: Of the trainer; `cmd.logs_dir` is the folder, which exists.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__(config)
        self.folder = Path(config["cmd"]["logs_dir"])
        self.metrics = MetricsLog(self.folder / LOG_NAME)
        self.tables: dict[str, MetricsTable] = {}
        self._trains = False

    def log(self, update_dict: Mapping[str, Any], step: int, split: str = "") -> None:
        """Write some metrics of a step; tensors of one element are numbers, too.

        Raises:
            OSError: If they cannot be written.
            TypeError: If a value is no number.
        """
        values = {name: float(value) for name, value in update_dict.items() if name != "step"}
        epoch = values.pop("epoch", None)
        split = split or "other"
        entry = Entry(step=int(step), split=split, epoch=epoch, time=round(time.time(), 3), values=values)
        if split == "train" and not self._trains:
            self._trains = True
            self._go_on_at(entry.step)
        self._table(split).append(entry)
        self.metrics.append(entry)

    def _go_on_at(self, step: int) -> None:
        self.metrics.go_on_at(step)
        for path in self.folder.glob("*.csv"):
            self._table(path.stem).make_anew()

    def _table(self, split: str) -> MetricsTable:
        if split not in self.tables:
            self.tables[split] = MetricsTable(self.folder / f"{split}.csv", self.metrics.path, split)
        return self.tables[split]

    def close(self) -> None:
        """Close the files; another entry opens them again."""
        for table in self.tables.values():
            table.close()
        self.metrics.close()

    def watch(self, model: Any, log_freq: int = 1000) -> None:
        """Weights and gradients are not recorded."""

    def log_plots(self, plots: Any) -> None:
        """Plots are not recorded."""

    def mark_preempting(self) -> None:
        """Nobody is told: run.json says that the run went on."""

    def log_summary(self, summary_dict: Mapping[str, Any]) -> None:
        """What a run says at its end is recorded as metrics alone."""

    def log_artifact(self, name: str, type: str, file_location: str) -> None:
        """Files stay where they are."""
