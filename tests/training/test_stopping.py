"""Signals are noted, and a run ends where it suits it."""

import os
import signal
import threading
from collections.abc import Iterator

import pytest

from ev2_plugin.training import stopping
from ev2_plugin.training.stopping import Stopped, StopSignals

SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGUSR2]


@pytest.fixture(autouse=True)
def handlers_as_before() -> Iterator[None]:
    others = {one: signal.signal(one, signal.default_int_handler) for one in SIGNALS}  # of launchers in other tests
    yield
    assert {signal.getsignal(one) for one in SIGNALS} == {signal.default_int_handler}
    for one, handler in others.items():
        signal.signal(one, handler)


@pytest.mark.parametrize("sent", SIGNALS)
def test_a_signal_is_noted_and_nothing_else_happens(sent: signal.Signals, caplog: pytest.LogCaptureFixture) -> None:
    stop = StopSignals()
    with stop.watched(SIGNALS):
        assert stop.received is None
        os.kill(os.getpid(), sent)
        assert stop.received is sent
    assert f"{sent.name}: stopping after this step" in caplog.text


def test_a_second_interrupt_is_taken_at_its_word(monkeypatch: pytest.MonkeyPatch) -> None:
    with StopSignals().watched(SIGNALS):
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)  # the same Ctrl-C, by another way
        monkeypatch.setattr(stopping, "_ONE_REQUEST", -1.0)
        os.kill(os.getpid(), signal.SIGTERM)  # an impatient scheduler changes nothing
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_a_forked_worker_leaves_signals_to_its_parent() -> None:
    stop = StopSignals()
    with stop.watched(SIGNALS):
        worker = os.fork()
        if worker == 0:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGUSR2)
            os._exit(0 if stop.received is None else 1)
        assert os.waitpid(worker, 0)[1] == 0


def test_handlers_are_handed_out_and_put_back() -> None:
    heard = []
    before = signal.signal(signal.SIGUSR2, lambda number, frame: heard.append(number))
    try:
        with StopSignals().watched([signal.SIGUSR2]) as handlers:
            handlers[signal.SIGUSR2](signal.SIGUSR2, None)  # type: ignore[operator, misc]
        os.kill(os.getpid(), signal.SIGUSR2)
        assert heard == [signal.SIGUSR2, signal.SIGUSR2]
    finally:
        signal.signal(signal.SIGUSR2, before)


def test_another_thread_runs_without_watching() -> None:
    seen = []

    def run() -> None:
        with StopSignals().watched(SIGNALS) as handlers:
            seen.append(handlers)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert seen == [{}]


@pytest.mark.parametrize(("received", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stopped_run_has_the_exit_code_of_its_signal(received: signal.Signals, code: int) -> None:
    assert Stopped("", received).exit_code == code
