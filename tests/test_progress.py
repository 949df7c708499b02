"""Progress: the same words on a terminal and in a log, and few lines there."""

from __future__ import annotations

import itertools

import pytest

from ev2_plugin.progress import Lines, Pace, duration, rate, show_progress


class Clock:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_amount_rate_and_time_left_since_a_stage_began() -> None:
    clock = Clock()
    pace = Pace("systems", in_bytes=("read",), clock=clock)
    assert pace("place", 4, 40) == "4 of 40 systems"
    clock.now += 4.0
    assert pace("place", 12, 40) == "12 of 40 systems, 2 systems/s, 14 s left"  # 8 of them in 4 s, not 12
    assert pace("read", 0, 3_000_000) == "0 bytes of 3.0 MB"
    clock.now += 2.0
    assert pace("read", 1_000_000, 3_000_000) == "1.0 MB of 3.0 MB, 500.0 kB/s, 4 s left"
    clock.now += 994.0
    assert pace("place", 40, 40) == "40 of 40 systems, 28 s each"


def test_a_rate_is_said_in_the_unit_that_can_be_read() -> None:
    assert rate(0.0, 3, "steps") == []
    assert rate(12.3456, 100, "steps") == ["12.3 steps/s", "8 s left"]
    assert rate(0.01, 3, "steps") == ["2 min each", "5 min left"]
    assert [duration(seconds) for seconds in (5.0, 99.0, 101.0, 5999.0, 7200.0)] == [
        "5 s",
        "99 s",
        "2 min",
        "100 min",
        "2.0 h",
    ]


def test_lines_become_rare_and_the_end_is_always_said() -> None:
    clock, said = Clock(), []
    lines = Lines(said.append, clock)
    for second in range(600):
        clock.now = 100.0 + second
        lines("relax", second, 1000, f"at {second}")
    times = [int(line.removeprefix("relax: at ")) for line in said]
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert times[:3] == [2, 4, 8]
    assert gaps == sorted(gaps)
    assert set(gaps[-5:]) == {30}
    lines("relax", 1000, 1000, "all")
    lines("write", 1, 1, "one")
    assert said[-2:] == ["relax: all", "write: one"]


def test_without_a_terminal_lines_go_to_the_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    with show_progress("frames") as follow:
        follow("label", 1, 2)
        follow("label", 2, 2)
    out, error = capsys.readouterr()
    assert out == ""
    assert error.startswith("label: 2 of 2 frames")
    assert error.count("\n") == 1


def test_on_a_terminal_a_bar_per_stage(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "120")
    with show_progress("frames") as follow:
        follow("label", 1, 2)
        follow("write", 2, 2)
    out, error = capsys.readouterr()
    assert out == ""
    assert "1 of 2 frames" in error
    assert "2 of 2 frames" in error
    assert "━" in error
