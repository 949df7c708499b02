"""What all commands do when something is wrong with the input, or when they are stopped."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from ev2_plugin.cli import version as version_command
from ev2_plugin.cli.main import app
from ev2_plugin.cli.terminal import one_sentence_errors


@pytest.mark.parametrize(
    ("path", "said"),
    [("nowhere", "error: {path}: no such file or directory\n"), (".", "error: {path}: is a directory\n")],
)
def test_a_file_that_cannot_be_read_is_one_sentence(
    path: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(typer.Exit) as ended, one_sentence_errors():
        (tmp_path / path).read_text()
    assert ended.value.exit_code == 1
    assert capsys.readouterr().err == said.format(path=tmp_path / path)


def test_an_error_without_a_message_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit), one_sentence_errors(about="run.yml"):
        raise MemoryError
    assert capsys.readouterr().err == "error: run.yml: MemoryError\n"


def test_errors_of_the_program_keep_their_traceback() -> None:
    with pytest.raises(ZeroDivisionError), one_sentence_errors():
        1 / 0  # noqa: B018


def test_ctrl_c_ends_any_command_with_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(package: str) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr(version_command, "installed_version", stopped)
    result = CliRunner().invoke(app, ["version"])
    assert result.exit_code == 130
    assert result.stderr == "stopped\n"
