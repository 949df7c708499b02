"""CSV tables beside a metrics log: a row per step, whatever comes when."""

import csv
import math
from pathlib import Path

import numpy as np

from ev2_plugin.storage.metrics_log import Entry, MetricsLog
from ev2_plugin.storage.metrics_table import MetricsTable


class Run:
    """A log and its table, filled together."""

    def __init__(self, folder: Path) -> None:
        self.log = MetricsLog(folder / "metrics.jsonl")
        self.table = MetricsTable(folder / "train.csv", self.log.path, "train")

    def add(self, step: int, epoch: float | None = 0.5, **values: float) -> None:
        entry = Entry(step=step, split="train", epoch=epoch, time=0.0, values=values)
        self.table.append(entry)
        self.log.append(entry)

    def rows(self) -> list[dict[str, str]]:
        with self.table.path.open(newline="") as file:
            return list(csv.DictReader(file))

    def close(self) -> None:
        self.table.close()
        self.log.close()


def test_what_is_logged_before_the_metrics_of_a_step_joins_its_row(tmp_path: Path) -> None:
    run = Run(tmp_path)
    for step in (1, 2, 3):
        run.add(step, None, grad_norm=10.0 * step)
        run.add(step, step / 2, loss=1 / step, lr=0.1)
        assert [row["step"] for row in run.rows()] == [str(one) for one in range(1, step + 1)]  # at once
    assert list(run.rows()[0]) == ["step", "epoch", "grad_norm", "loss", "lr"]
    assert [float(row["loss"]) for row in run.rows()] == [1.0, 1 / 2, 1 / 3]
    assert [float(row["grad_norm"]) for row in run.rows()] == [10.0, 20.0, 30.0]
    run.close()


def test_a_new_metric_gets_a_column_at_the_end(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.add(1, loss=1.0, lr=0.1)
    run.add(2, None, skipped_steps=1.0)
    run.add(2, loss=2.0, lr=0.1)
    run.add(3, lr=0.1, loss=3.0)
    run.close()
    assert run.table.path.read_text().splitlines() == [
        "step,epoch,loss,lr,skipped_steps",
        *["1,0.5,1.0,0.1,", "2,0.5,2.0,0.1,1.0", "3,0.5,3.0,0.1,"],
    ]


def test_a_step_without_metrics_keeps_its_row(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.add(1, loss=1.0)
    run.add(2, None, skipped_steps=1.0)
    run.add(3, None, skipped_steps=2.0)
    run.add(3, loss=3.0)
    run.add(4, None, skipped_steps=3.0)
    run.add(5, loss=5.0)
    run.add(6, None, skipped_steps=4.0)
    run.close()
    assert [(row["step"], row["loss"], row["skipped_steps"]) for row in run.rows()] == [
        *[("1", "1.0", ""), ("2", "", "1.0"), ("3", "3.0", "2.0")],
        *[("4", "", "3.0"), ("5", "5.0", ""), ("6", "", "4.0")],
    ]


def test_another_process_makes_the_table_anew_from_the_log(tmp_path: Path) -> None:
    first = Run(tmp_path)
    for step in (1, 2, 3, 4):
        first.add(step, loss=float(step))
    first.close()
    first.table.path.write_text(first.table.path.read_text()[:-3])  # cut by a kill

    second = Run(tmp_path)
    second.log.go_on_at(3)
    second.add(3, loss=33.0, energy_mae=1.0)
    second.close()
    assert [(row["step"], row["loss"], row["energy_mae"]) for row in second.rows()] == [
        *[("1", "1.0", ""), ("2", "2.0", ""), ("3", "33.0", "1.0")],
    ]


def test_a_repeated_step_replaces_its_row(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.add(1, loss=1.0)
    run.add(1, loss=2.0)
    run.add(2, loss=3.0)
    run.close()
    assert [(row["step"], row["loss"]) for row in run.rows()] == [("1", "2.0"), ("2", "3.0")]


def test_numpy_reads_values_that_are_no_numbers(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.add(1, loss=math.nan, grad_norm=math.inf)
    run.add(2, loss=-math.inf, grad_norm=1.0)
    run.close()
    table = np.genfromtxt(run.table.path, delimiter=",", names=True)
    np.testing.assert_array_equal(table["loss"], [math.nan, -math.inf])
    np.testing.assert_array_equal(table["grad_norm"], [math.inf, 1.0])


def test_a_name_with_a_comma_stays_one_column(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.add(1, **{"mae, free atoms": 1.0, "loss": 2.0})
    run.close()
    assert run.rows() == [{"step": "1", "epoch": "0.5", "mae, free atoms": "1.0", "loss": "2.0"}]
