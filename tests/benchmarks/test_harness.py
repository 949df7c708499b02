"""Timing, memory and result files."""

import itertools
import json
import math

import numpy as np
import pytest

import harness
from ceilings import Ceilings
from ev2_plugin.integration import timing

MACHINE = {"device": "a machine"}


@pytest.fixture(autouse=True)
def _a_commit(monkeypatch):
    monkeypatch.setattr(harness, "commit", lambda: "abc1234")


def result_file(path, machine=MACHINE):
    return harness.ResultFile(path, "How long?", ("model", "size"), machine)


def test_runs_take_turns_and_their_medians_and_extremes_are_reported(monkeypatch):
    order, clock = [], itertools.count()
    durations = {"slow": iter([9.0, 2.0, 4.0]), "fast": iter([1.0, 3.0, 2.0])}
    monkeypatch.setattr(timing, "seconds", lambda run, device, calls=1: run())
    runs = {name: lambda name=name: order.append((next(clock), name)) or next(durations[name]) for name in durations}
    found = timing.alternating(runs, 3, "cpu", warm=True)
    assert [name for _, name in order] == ["slow", "fast"] * 3
    assert found["slow"] == {"median": 4.0, "low": 2.0, "high": 9.0, "samples": [9.0, 2.0, 4.0]}
    assert found["fast"]["median"] == 2.0


def test_the_first_call_is_not_counted_unless_it_has_been_made(monkeypatch):
    calls = []
    monkeypatch.setattr(timing, "seconds", lambda run, device, calls=1: run() or 1.0)
    timing.alternating({"only": lambda: calls.append(0)}, 2, "cpu")
    assert len(calls) == 3


def test_what_is_fast_is_called_many_times_per_sample():
    calls = []
    found = timing.alternating({"fast": lambda: calls.append(0)}, 2, "cpu")
    assert len(calls) > 100
    assert found["fast"]["median"] < 1e-4
    assert len(found["fast"]["samples"]) == 2


@pytest.mark.parametrize("deviations", [{"energy": 2e-5}, {"energy": math.nan}, {"a": 0.0, "b": math.inf}, {}])
def test_answers_that_differ_or_are_missing_are_refused(deviations):
    with pytest.raises(RuntimeError, match="timing them would mean nothing"):
        timing.require_agreement(deviations, 1e-5)


def test_answers_that_agree_are_handed_on():
    assert timing.require_agreement({"energy": 1e-6}, 1e-5) == {"energy": 1e-6}


def test_peak_memory_is_that_of_the_call():
    megabytes = harness.peak_megabytes(lambda: np.ones(10_000_000).sum(), "cpu")
    assert 70 < megabytes < 100
    assert harness.peak_megabytes(lambda: None, "cpu") > 0  # what is divided by it


def test_a_row_replaces_its_like_and_keeps_the_others(tmp_path):
    file = result_file(tmp_path / "new" / "times.json")
    for size, value in ((1, "old"), (2, "other"), (1, "new")):
        file.add({"model": "31M", "size": size, "value": value})
    content = json.loads(file.path.read_text())
    assert [(row["size"], row["value"]) for row in content["rows"]] == [(2, "other"), (1, "new")]
    assert content["question"] == "How long?"
    assert content["machine"] == MACHINE
    assert {row["commit"] for row in content["rows"]} == {"abc1234"}


def test_rows_of_another_machine_are_dropped(tmp_path):
    result_file(tmp_path / "times.json").add({"model": "31M", "size": 1})
    result_file(tmp_path / "times.json", {"device": "another"}).add({"model": "31M", "size": 2})
    content = json.loads((tmp_path / "times.json").read_text())
    assert [row["size"] for row in content["rows"]] == [2]


def test_a_row_that_cannot_be_told_apart_or_is_not_json_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"missing: \['size'\]"):
        result_file(tmp_path / "times.json").add({"model": "31M"})
    with pytest.raises(ValueError, match="JSON"):
        result_file(tmp_path / "times.json").add({"model": "31M", "size": 1, "value": math.nan})
    assert not (tmp_path / "times.json").exists()


def test_a_smoke_run_does_not_overwrite_results():
    args = harness.arguments("words", "times").parse_args(["--smoke"])
    with pytest.raises(ValueError, match="give --out"):
        harness.result_file(args, "times", "How long?", ("model",))


def test_a_case_that_fails_is_named_at_the_end_and_the_others_run(capsys):
    done = []

    def fail():
        raise RuntimeError("the answers differ")

    with pytest.raises(SystemExit, match="failed: second"):
        harness.each({"first": lambda: done.append(1), "second": fail, "third": lambda: done.append(3)})
    assert done == [1, 3]
    assert "second: the answers differ" in capsys.readouterr().err


def test_the_floor_is_the_slower_of_arithmetic_and_memory():
    ceilings = Ceilings(flops=1e9, bandwidth=1e8)
    assert ceilings.floor(2e9, 1e8) == (2.0, "arithmetic")
    assert ceilings.floor(1e9, 3e8) == (3.0, "memory")


def test_the_machine_is_described():
    found = timing.machine("cpu")
    assert "thread" in found["device"]
    assert found["fairchem-core"].startswith("1.10")
    json.dumps(found)
