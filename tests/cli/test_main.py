"""The `ev2` command."""

import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest
import typer
from rich.markup import render
from typer.testing import CliRunner

import ev2_plugin
from ev2_plugin.cli.main import app


def test_help_lists_the_commands_without_loading_torch() -> None:
    code = (
        "import sys\nfrom ev2_plugin.cli.main import app\n"
        "try:\n    app(['--help'])\nfinally:\n    sys.exit(3 if 'torch' in sys.modules else 0)"
    )
    start = time.perf_counter()
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    for command in ("fairchem", "demo", "version"):
        assert command in result.stdout
    assert time.perf_counter() - start < 5.0  # 0.4 s on an idle machine; torch alone would take longer


def test_help_shows_all_of_what_it_says() -> None:
    def texts(command: Any) -> Iterator[str]:
        yield from (one.help for one in command.params if getattr(one, "help", None))
        for sub in getattr(command, "commands", {}).values():
            yield from texts(sub)

    found = list(texts(typer.main.get_command(app)))
    assert len(found) > 50
    for text in found:
        assert render(text).plain == text, "what stands in brackets is taken for markup and left out"


def test_version_names_what_a_bug_report_needs() -> None:
    result = CliRunner().invoke(app, ["version"])
    assert result.exit_code == 0
    assert f"ev2-plugin {ev2_plugin.__version__}" in result.stdout
    assert "fairchem-core 1.10" in result.stdout
    assert "torch 2." in result.stdout


def test_fairchem_help_is_that_of_the_host(capsys: pytest.CaptureFixture[str]) -> None:
    # Not through CliRunner's own streams: argparse prints to the real ones.
    with pytest.raises(SystemExit) as exit_info:
        app(["fairchem", "--help"])
    assert exit_info.value.code == 0
    printed = capsys.readouterr().out
    assert "usage: ev2 fairchem" in printed
    assert "--config-yml" in printed


def test_fairchem_passes_flags_and_overrides_through(monkeypatch: pytest.MonkeyPatch) -> None:
    from ev2_plugin.integration import launcher

    received: list[str] = []
    monkeypatch.setattr(launcher, "read_request", lambda argv: argv)
    monkeypatch.setattr(launcher, "start", received.extend)
    arguments = ["--mode", "train", "--config-yml", "a.yml", "--cpu", "--optim.lr_initial=1e-3"]
    result = CliRunner().invoke(app, ["fairchem", *arguments])
    assert result.exit_code == 0, result.output
    assert received == arguments
