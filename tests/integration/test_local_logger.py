"""The logger that needs no account, through the host's trainer."""

import csv
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from fairchem.core.common.registry import registry

import ev2_plugin
from ev2_plugin.integration.local_logger import LocalLogger
from ev2_plugin.integration.registration import register
from ev2_plugin.storage.metrics_log import read_entries, read_rows


def logger_in(folder: Path) -> LocalLogger:
    return LocalLogger({"cmd": {"logs_dir": str(folder)}})


def train(logger: LocalLogger, first: int, last: int, validate_every: int = 2) -> None:
    """What the host's loop logs."""
    for step in range(first, last + 1):
        logger.log({"grad_norm": torch.tensor(2.0 * step)}, step=step, split="train")
        logger.log({"loss": 1 / step, "lr": 0.1, "epoch": step / 4, "step": step}, step=step, split="train")
        if step % validate_every == 0:
            logger.log({"loss": 2 / step, "epoch": step / 4}, step=step, split="val")


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_host_finds_it_by_short_name_and_by_path() -> None:
    register()
    assert registry.get_logger_class("local") is LocalLogger
    assert registry.get_logger_class("ev2_plugin.LocalLogger") is LocalLogger is ev2_plugin.LocalLogger


def test_what_the_host_logs_is_in_the_files(tmp_path: Path) -> None:
    logger = logger_in(tmp_path)
    train(logger, 1, 4)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [(line["split"], line["step"], line["epoch"]) for line in lines[:3]] == [
        *[("train", 1, None), ("train", 1, 0.25), ("train", 2, None)],
    ]
    assert lines[1]["values"] == {"loss": 1.0, "lr": 0.1}
    assert [row["grad_norm"] for row in table(tmp_path / "train.csv")] == ["2.0", "4.0", "6.0", "8.0"]
    assert [(row["step"], row["epoch"], row["loss"]) for row in table(tmp_path / "val.csv")] == [
        *[("2", "0.5", "1.0"), ("4", "1.0", "0.5")],
    ]
    logger.close()


def test_a_run_killed_and_resumed_from_a_checkpoint_has_every_step_once(tmp_path: Path) -> None:
    killed = logger_in(tmp_path)
    train(killed, 1, 8)
    killed.close()
    for name in ("metrics.jsonl", "train.csv"):
        whole = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(whole[:-4])
    resumed = logger_in(tmp_path)
    resumed.log({"loss": 77.0, "epoch": 1.25}, step=5, split="val")  # before the first step
    train(resumed, 6, 7)

    path = tmp_path / "metrics.jsonl"
    assert [one.step for one in read_rows(path, "train")] == list(range(1, 8))
    assert [(one.step, one.values["loss"]) for one in read_rows(path, "val")] == [
        *[(2, 1.0), (4, 0.5), (5, 77.0), (6, 1 / 3)],
    ]
    assert [int(row["step"]) for row in table(tmp_path / "train.csv")] == list(range(1, 8))
    assert [int(row["step"]) for row in table(tmp_path / "val.csv")] == [2, 4, 5, 6]
    resumed.close()


def test_resuming_takes_later_rows_from_every_table(tmp_path: Path) -> None:
    ended = logger_in(tmp_path)
    train(ended, 1, 6)
    ended.close()
    resumed = logger_in(tmp_path)
    resumed.log({"loss": 1.0, "epoch": 0.75}, step=3, split="train")
    assert [int(row["step"]) for row in table(tmp_path / "val.csv")] == [2]
    resumed.close()


def test_validating_later_keeps_what_training_logged(tmp_path: Path) -> None:
    logger = logger_in(tmp_path)
    train(logger, 1, 4)
    logger.close()
    later = logger_in(tmp_path)
    later.log({"loss": 0.5, "epoch": 0}, step=0, split="val")
    later.close()
    assert [one.step for one in read_rows(tmp_path / "metrics.jsonl", "train")] == [1, 2, 3, 4]
    assert len(table(tmp_path / "val.csv")) == 3


def test_values_may_be_tensors_and_not_finite(tmp_path: Path) -> None:
    logger = logger_in(tmp_path)
    logger.log({"grad_norm": torch.tensor(math.inf), "loss": torch.tensor([math.nan])}, step=1, split="train")
    logger.close()
    (entry,) = read_entries(tmp_path / "metrics.jsonl")
    assert entry.values["grad_norm"] == math.inf
    assert math.isnan(entry.values["loss"])
    assert table(tmp_path / "train.csv")[0] == {"step": "1", "epoch": "", "grad_norm": "inf", "loss": "nan"}


@pytest.mark.parametrize("value", ["many", None, torch.zeros(2)])
def test_what_is_no_number_is_refused(tmp_path: Path, value: Any) -> None:
    with pytest.raises((TypeError, ValueError, RuntimeError)):
        logger_in(tmp_path).log({"loss": value}, step=1, split="train")


def test_without_a_split_there_is_a_table_of_its_own(tmp_path: Path) -> None:
    logger = logger_in(tmp_path)
    logger.log({"temperature": 300.0, "epoch": 0}, step=1)
    logger.close()
    assert table(tmp_path / "other.csv") == [{"step": "1", "epoch": "0.0", "temperature": "300.0"}]
