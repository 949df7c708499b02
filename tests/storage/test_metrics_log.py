"""Metrics logs: read back what was written, by any reader of JSON lines, after kills and after resumed runs."""

import json
import math
from pathlib import Path

import pandas
import pytest

from ev2_plugin.storage.metrics_log import Entry, MetricsLog, read_entries, read_rows


def entry(step: int, split: str = "train", **values: float) -> Entry:
    return Entry(step=step, split=split, epoch=step / 10, time=1000.0 + step, values=values or {"loss": 1 / (step + 3)})


def written(path: Path, *entries: Entry) -> Path:
    log = MetricsLog(path)
    for one in entries:
        log.append(one)
    log.close()
    return path


def test_entries_are_read_back_to_the_last_bit(tmp_path: Path) -> None:
    entries = [entry(1), entry(2, loss=0.1 + 0.2, lr=4e-300), entry(2, "val", energy_mae=1 / 3)]
    assert list(read_entries(written(tmp_path / "m.jsonl", *entries))) == entries


def test_every_reader_of_json_takes_values_that_are_no_numbers(tmp_path: Path) -> None:
    broken = entry(3, loss=math.nan, grad_norm=math.inf, lr=-math.inf, energy_mae=2.0)
    path = written(tmp_path / "m.jsonl", broken)

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    line = json.loads(path.read_text(), parse_constant=refuse)
    assert line["values"] == {"loss": None, "grad_norm": None, "lr": None, "energy_mae": 2.0}
    assert line["not_finite"] == {"loss": "nan", "grad_norm": "inf", "lr": "-inf"}
    (read,) = read_entries(path)
    assert math.isnan(read.values["loss"])
    assert (read.values["grad_norm"], read.values["lr"], read.values["energy_mae"]) == (math.inf, -math.inf, 2.0)


def test_pandas_reads_a_log(tmp_path: Path) -> None:
    table = pandas.read_json(written(tmp_path / "m.jsonl", entry(1, loss=2.0), entry(2, loss=math.nan)), lines=True)
    assert list(table["step"]) == [1, 2]
    assert [values["loss"] for values in table["values"]] == [2.0, None]


@pytest.mark.parametrize("kept", range(1, 40, 7))
def test_a_cut_line_is_left_out_and_written_over(tmp_path: Path, kept: int) -> None:
    path = written(tmp_path / "m.jsonl", entry(1), entry(2))
    whole = path.read_bytes()
    path.write_bytes(whole + whole[:kept])  # a third line, cut
    assert [one.step for one in read_entries(path)] == [1, 2]
    written(path, entry(3))
    assert [one.step for one in read_entries(path)] == [1, 2, 3]
    assert path.read_bytes().startswith(whole)


def test_a_file_of_one_cut_line_starts_again(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    path.write_bytes(b"x" * 200_000)  # longer than what is looked at at once
    assert list(read_entries(path)) == []
    written(path, entry(1))
    assert [one.step for one in read_entries(path)] == [1]


def test_a_long_cut_line_is_removed_and_no_more(tmp_path: Path) -> None:
    path = written(tmp_path / "m.jsonl", entry(1), entry(2))
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"step": 3, "values": {"' + b"y" * 100_000)
    written(path, entry(3))
    assert path.read_bytes().startswith(whole)
    assert [one.step for one in read_entries(path)] == [1, 2, 3]


@pytest.mark.parametrize("line", ["nonsense", "[1]", '{"step": 1}', '{"step": 1, "values": 3}', "{}", "null"])
def test_a_damaged_line_is_named(tmp_path: Path, line: str) -> None:
    path = written(tmp_path / "m.jsonl", entry(1))
    path.write_text(path.read_text() + line + "\n" + path.read_text())
    with pytest.raises(ValueError, match=r"m\.jsonl, line 2: not an entry"):
        list(read_entries(path))


def test_a_resumed_run_does_not_log_a_step_twice(tmp_path: Path) -> None:
    path = written(tmp_path / "m.jsonl", *(entry(step) for step in range(1, 8)), entry(4, "val"), entry(7, "val"))
    log = MetricsLog(path)
    log.append(entry(4, "val", loss=9.0))  # a validation that was due
    log.go_on_at(5)
    log.append(entry(5, loss=5.5))
    log.close()
    assert [(one.split, one.step) for one in read_entries(path)] == [
        *(("train", step) for step in range(1, 5)),
        *[("val", 4), ("val", 4), ("train", 5)],
    ]
    assert [one.values["loss"] for one in read_rows(path, "val")] == [9.0]
    assert not list(tmp_path.glob(".*"))


def test_going_on_at_the_end_changes_nothing(tmp_path: Path) -> None:
    path = written(tmp_path / "m.jsonl", entry(1), entry(2))
    before = path.stat()
    MetricsLog(path).go_on_at(3)
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    MetricsLog(tmp_path / "none.jsonl").go_on_at(1)
    assert not (tmp_path / "none.jsonl").exists()


def test_a_row_is_all_that_was_logged_of_a_step(tmp_path: Path) -> None:
    norm = Entry(step=2, split="train", epoch=None, time=5.0, values={"grad_norm": 7.0, "loss": 0.0})
    path = written(tmp_path / "m.jsonl", entry(1), norm, entry(2, "val"), entry(2, loss=0.5), entry(3))
    first, second, third = read_rows(path, "train")
    assert (second.step, second.epoch, second.values) == (2, 0.2, {"grad_norm": 7.0, "loss": 0.5})
    assert (first, third) == (entry(1), entry(3))


def test_what_was_logged_is_with_the_operating_system_at_once(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path / "m.jsonl")
    for step in range(1, 4):
        log.append(entry(step))
        assert [one.step for one in read_entries(log.path)][-1] == step  # by another file object, nothing flushed
    log.close()
