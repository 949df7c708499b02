import io
from contextlib import redirect_stdout

import pytest
from rich.console import Console

from ev2_plugin.demo.progress import Bar, progress_bar, relaxation_follower, terminal_console, training_follower


class Recorder:
    """A bar that remembers what it was told."""

    def __init__(self) -> None:
        self.counts: list[int] = []
        self.lines: list[str] = []
        self.bar = Bar(advance=lambda: self.counts.append(-1), reach=self.counts.append, say=self.lines.append)


def test_training_moves_the_bar_and_prints_validations():
    recorder = Recorder()
    follow = training_follower(recorder.bar)
    follow("energy_mae: 1.0e+00, forces_mae: 2.0e-01, loss: 3.0e+00, epoch: 5.0e-01, step: 2.0e+01")
    follow("Evaluating on val.")
    follow("energy_mae: 0.1234, forces_mae: 0.0567, loss: 1.0, epoch: 1.0000")
    assert recorder.counts == [20]
    assert recorder.lines == ["epoch  1: validation errors 0.123 eV, 0.057 eV/Å"]


def test_relaxations_move_the_bar_by_structures():
    recorder = Recorder()
    follow = relaxation_follower(recorder.bar)
    for message in (
        "relaxing 18 structures in",
        "relax: 0 of 18 structures, 18 in work",
        "relax: 18 of 18 structures",
    ):
        follow(message)
    assert recorder.counts == [0, 18]
    assert recorder.lines == []


def test_a_bar_is_full_at_the_end():
    console = Console(file=io.StringIO(), width=120)
    with progress_bar(console, "train", 7) as bar:
        bar.advance()
        bar.say("half way")
    text = console.file.getvalue()
    assert "half way" in text
    assert "7/7" in text


def test_progress_stays_on_the_terminal_while_the_host_talks_to_its_log(capsys: pytest.CaptureFixture[str]) -> None:
    console, log = terminal_console(), io.StringIO()
    with redirect_stdout(log), progress_bar(console, "train", 2) as bar:
        bar.say("epoch 1")
        bar.advance()
    shown = capsys.readouterr().out
    assert "epoch 1" in shown
    assert "train" in shown
    assert log.getvalue() == ""
