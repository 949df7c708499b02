"""The loggers of a run together: the one that its config names, and files in its folder whatever that is."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

import wandb
from fairchem.core.common.logger import Logger, TensorboardLogger, WandBLogger, WandBSingletonLogger
from tensorboard.compat.proto.event_pb2 import Event, SessionLog

from ev2_plugin.integration.local_logger import LocalLogger
from ev2_plugin.integration.wandb_account import WANDB_LOGGERS, offline_without_account

DEFAULT_LOGGER = "local"


def logger_name(config: Mapping[str, Any]) -> str:
    """The short name or dotted path of the logger in a config; the local one if it names none."""
    given = config.get("logger") or DEFAULT_LOGGER
    return given if isinstance(given, str) else given["name"]


def choose_logger(config: dict[str, Any]) -> None:
    """Name the local logger in a config that names none, and see to it that wandb can start without an account."""
    config["logger"] = config.get("logger") or DEFAULT_LOGGER
    if logger_name(config) in WANDB_LOGGERS:
        offline_without_account()


class RunLoggers(Logger):
    """Hands everything to several loggers.

    Args:
        config: Of the trainer.
        loggers: The loggers.
        on_start: Called with the first training step that is logged.
    """

    def __init__(self, config: Mapping[str, Any], loggers: list[Any], on_start: Callable[[int], None]) -> None:
        super().__init__(config)
        self.loggers = loggers
        self._on_start: Callable[[int], None] | None = on_start

    def log(self, update_dict: Mapping[str, Any], step: int, split: str = "") -> None:
        """Log some metrics of a step."""
        if split == "train" and self._on_start is not None:
            self._on_start(int(step))
            self._on_start = None
            for one in self.loggers:
                _forget_later_steps(one, int(step))
        for one in self.loggers:
            one.log(update_dict, step=step, split=split)

    def watch(self, *args: Any, **kwargs: Any) -> None:
        """Record weights and gradients where a logger can."""
        self._each("watch", *args, **kwargs)

    def log_plots(self, *args: Any, **kwargs: Any) -> None:
        """Log pictures where a logger can."""
        self._each("log_plots", *args, **kwargs)

    def log_summary(self, *args: Any, **kwargs: Any) -> None:
        """Log values of the whole run where a logger can."""
        self._each("log_summary", *args, **kwargs)

    def log_artifact(self, *args: Any, **kwargs: Any) -> None:
        """Keep a file where a logger can."""
        self._each("log_artifact", *args, **kwargs)

    def log_table(self, *args: Any, **kwargs: Any) -> None:
        """Log a table where a logger can (wandb alone)."""
        self._each("log_table", *args, **kwargs)

    def log_dataframe(self, *args: Any, **kwargs: Any) -> None:
        """Log a table of pandas where a logger can (wandb alone)."""
        self._each("log_dataframe", *args, **kwargs)

    def mark_preempting(self) -> None:
        """Tell that the scheduler takes the job away."""
        for one in self.loggers:
            if not isinstance(one, TensorboardLogger):  # it knows none of this, and warns
                one.mark_preempting()

    def _each(self, method: str, *args: Any, **kwargs: Any) -> None:
        for one in self.loggers:
            if hasattr(one, method):
                getattr(one, method)(*args, **kwargs)

    def close(self, failed: bool) -> None:
        """Have everything written; nothing more is logged.

        Args:
            failed: Whether the run ends before its end; wandb shows that.
        """
        for one in self.loggers:
            if isinstance(one, WandBLogger | WandBSingletonLogger):
                _finish_wandb(failed)
            elif isinstance(one, TensorboardLogger):
                one.writer.close()
            elif isinstance(one, LocalLogger):
                one.close()
        self.loggers = []


def with_local_files(trainer: Any, on_start: Callable[[int], None]) -> RunLoggers:
    """The trainer's logger and the local one, which may be the same.

    Args:
        trainer: The host's or ours, with its logger loaded.
        on_start: Called with the first training step that is logged.
    """
    named = trainer.logger
    local = [] if isinstance(named, LocalLogger) else [LocalLogger(trainer.config)]
    return RunLoggers(trainer.config, [*local, named], on_start)


def _forget_later_steps(logger: Any, step: int) -> None:
    """Have TensorBoard forget what an earlier process of this run wrote of this step and of later ones."""
    if isinstance(logger, TensorboardLogger) and step > 1:
        events = logger.writer.file_writer
        events.add_event(Event(step=step, file_version="brain.Event:2"))
        events.add_event(Event(step=step, session_log=SessionLog(status=SessionLog.START)))


def _finish_wandb(failed: bool) -> None:
    """End the run in wandb: the next one of this process would go on in it."""
    if wandb.run is None:
        return
    offline, folder = wandb.run.offline, wandb.run.dir
    wandb.finish(exit_code=int(failed))
    WandBSingletonLogger._instance = None
    if offline:
        logging.info(f"wandb: to upload this run, `wandb sync {folder.removesuffix('/files')}`")
