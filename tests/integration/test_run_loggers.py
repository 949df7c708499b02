"""The loggers of a run together: local files always, TensorBoard without steps twice, wandb without an account."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import wandb
from fairchem.core.common.logger import TensorboardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from ev2_plugin.integration.local_logger import LocalLogger
from ev2_plugin.integration.run_loggers import RunLoggers, choose_logger, logger_name, with_local_files
from ev2_plugin.storage.metrics_log import read_rows


def run_in(folder: Path, kind: Any, starts: list[int] | None = None) -> RunLoggers:
    config = {"cmd": {"logs_dir": str(folder)}}
    trainer = SimpleNamespace(config=config, logger=kind(config))
    return with_local_files(trainer, on_start=(starts if starts is not None else []).append)


def train(loggers: RunLoggers, first: int, last: int) -> None:
    for step in range(first, last + 1):
        loggers.log({"grad_norm": torch.tensor(2.0 * step)}, step=step, split="train")
        loggers.log({"loss": 1 / step, "epoch": step / 4, "step": step}, step=step, split="train")


def scalars(folder: Path, name: str) -> list[tuple[int, float]]:
    events = EventAccumulator(str(folder))
    events.Reload()
    return [(event.step, event.value) for event in events.Scalars(name)]


def test_tensorboard_reads_the_values_and_the_local_files_are_there_too(tmp_path: Path) -> None:
    loggers = run_in(tmp_path, TensorboardLogger)
    train(loggers, 1, 5)
    loggers.log({"loss": 0.5, "epoch": 1.0}, step=4, split="val")
    loggers.close(failed=False)
    expected = [1 / step for step in range(1, 6)]
    assert [step for step, _ in scalars(tmp_path, "train/loss")] == [1, 2, 3, 4, 5]
    assert [value for _, value in scalars(tmp_path, "train/loss")] == pytest.approx(expected, rel=1e-7)
    assert scalars(tmp_path, "train/grad_norm")[-1] == (5, 10.0)
    assert scalars(tmp_path, "val/loss") == [(4, 0.5)]
    assert [row.values["loss"] for row in read_rows(tmp_path / "metrics.jsonl", "train")] == expected


def test_tensorboard_shows_no_step_twice_after_a_resume(tmp_path: Path) -> None:
    starts: list[int] = []
    killed = run_in(tmp_path, TensorboardLogger, starts)
    train(killed, 1, 8)
    killed.log({"loss": 0.5, "epoch": 2.0}, step=8, split="val")
    killed.close(failed=True)
    resumed = run_in(tmp_path, TensorboardLogger, starts)
    train(resumed, 6, 7)
    resumed.close(failed=False)
    assert [step for step, _ in scalars(tmp_path, "train/loss")] == [1, 2, 3, 4, 5, 6, 7]
    assert starts == [1, 6]


def test_a_local_logger_is_not_doubled(tmp_path: Path) -> None:
    loggers = run_in(tmp_path, LocalLogger)
    assert [type(one) for one in loggers.loggers] == [LocalLogger]


class Recorder:
    """A logger that knows `log_table` and `mark_preempting` alone."""

    def __init__(self, config: Any) -> None:
        self.calls: list[str] = []

    def log_table(self, name: str, cols: list[str], data: list[Any]) -> None:
        self.calls.append(name)

    def mark_preempting(self) -> None:
        self.calls.append("preempting")


def test_what_only_one_logger_knows_reaches_it(tmp_path: Path) -> None:
    loggers = run_in(tmp_path, Recorder)
    loggers.log_table(name="weights", cols=[], data=[])
    loggers.log_plots([])
    loggers.log_summary({})
    loggers.mark_preempting()
    recorder = loggers.loggers[1]
    loggers.close(failed=False)
    assert recorder.calls == ["weights", "preempting"]


def test_preemption_makes_tensorboard_say_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    loggers = run_in(tmp_path, TensorboardLogger)
    loggers.mark_preempting()
    loggers.close(failed=False)
    assert not caplog.records


@pytest.mark.parametrize(
    ("given", "name"),
    [
        (None, "local"),
        ("tensorboard", "tensorboard"),
        ({"name": "wandb", "project": "ev2"}, "wandb"),
        ("ev2_plugin.LocalLogger", "ev2_plugin.LocalLogger"),
    ],
)
def test_a_config_without_a_logger_gets_the_local_one(
    given: Any, name: str, monkeypatch: pytest.MonkeyPatch, restored_process_state: None
) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    config = {"logger": given}
    choose_logger(config)
    assert logger_name(config) == name
    assert config["logger"] == (given or "local")


def test_two_runs_of_one_process_are_two_runs_of_wandb(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, restored_process_state: None
) -> None:
    opened: list[Any] = []

    class Opened:
        """A run of wandb as far as it matters here."""

        offline, dir = True, str(tmp_path / "offline-run-1" / "files")

    def finish(exit_code: int) -> None:
        opened.append(exit_code)
        monkeypatch.setattr(wandb, "run", None)

    from fairchem.core.common.logger import WandBSingletonLogger

    monkeypatch.setattr(wandb, "run", Opened())
    monkeypatch.setattr(wandb, "finish", finish)
    loggers = run_in(tmp_path, lambda config: WandBSingletonLogger.get_instance())
    loggers.close(failed=True)
    loggers.close(failed=False)
    assert opened == [1]
    assert not WandBSingletonLogger.initialized()
