"""Rank 0 says everything, the others what only they know."""

import logging
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
from fairchem.core.common.utils import setup_logging

from ev2_plugin.integration.console import allow_warnings, quiet_unless_first


@pytest.fixture(autouse=True)
def _no_handlers(restored_process_state: None) -> Iterator[None]:
    """As in a process that has just started."""
    logging.getLogger().handlers[:] = []
    yield
    logging.captureWarnings(False)


def on_rank(rank: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    logging.getLogger().handlers[:] = []  # pytest puts some there for each phase of a test
    monkeypatch.setenv("RANK", rank)
    config: dict[str, Any] = {}
    quiet_unless_first(config)
    setup_logging()  # as the host does then
    return config


def test_rank_0_says_everything(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert on_rank("0", monkeypatch) == {}
    logging.info("loading")
    logging.warning("no metadata")
    allow_warnings()
    said = capsys.readouterr()
    assert "loading" in said.out
    assert "no metadata" in said.err


def test_another_rank_says_what_goes_wrong(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert on_rank("3", monkeypatch) == {"hide_eval_progressbar": True}
    logging.info("loading")
    logging.warning("no metadata")
    logging.error("cannot read")
    assert capsys.readouterr().err == "rank 3: ERROR: cannot read\n"
    allow_warnings()
    logging.info("step 1")
    logging.warning("step 2 skipped")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("old function", stacklevel=1)
    said = capsys.readouterr()
    assert said.err == "rank 3: WARNING: step 2 skipped\n"
    assert said.out == ""
