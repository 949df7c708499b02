import logging
import sys

import pytest

from ev2_plugin.integration import launcher
from ev2_plugin.integration.host_run import run_host


@pytest.fixture
def main(monkeypatch):
    """Replace the launcher's main by a function of the test's own."""

    def replace(function) -> None:
        monkeypatch.setattr(launcher, "main", function)

    return replace


def talk(arguments: list[str]) -> None:
    logging.info("epoch: %d", 3)
    print("printed")
    print("to stderr", file=sys.stderr)


def test_messages_are_followed_and_everything_is_kept_in_the_log(main, tmp_path, capsys):
    main(talk)
    heard = []
    assert run_host(["--mode", "train"], tmp_path / "host.log", heard.append) == heard == ["epoch: 3"]
    log = (tmp_path / "host.log").read_text()
    assert log.startswith("$ ev2 fairchem --mode train\n")
    assert "INFO epoch: 3" in log
    assert "printed\n" in log
    assert "to stderr\n" in log
    assert capsys.readouterr() == ("", "")


def test_runs_share_a_log(main, tmp_path):
    main(talk)
    for _ in range(2):
        run_host([], tmp_path / "host.log")
    assert (tmp_path / "host.log").read_text().count("INFO epoch: 3") == 2


def test_an_error_names_the_log_and_logging_is_put_back(main, tmp_path):
    def fail(arguments: list[str]) -> None:
        raise RuntimeError("no such model")

    main(fail)
    root = logging.getLogger()
    before = root.handlers[:], root.level
    with pytest.raises(RuntimeError, match="no such model") as caught:
        run_host([], tmp_path / "host.log")
    assert caught.value.__notes__ == [f"the run's log: {tmp_path / 'host.log'}"]
    assert (root.handlers, root.level) == before
