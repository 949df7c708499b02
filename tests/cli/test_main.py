"""The `ev2` command."""

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
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


@pytest.mark.parametrize("command", ["fairchem", "train"])
def test_help_of_runs_is_that_of_the_host(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    # Not through CliRunner's own streams: argparse prints to the real ones.
    with pytest.raises(SystemExit) as exit_info:
        app([command, "--help"])
    assert exit_info.value.code == 0
    printed = capsys.readouterr().out
    assert f"usage: ev2 {command}" in printed
    assert "--slurm-partition" in printed
    assert ("--config-yml" in printed) == (command == "fairchem")


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Runs that would have been started: parsed flags and overrides."""
    from ev2_plugin.integration import launcher

    received: list[Any] = []
    monkeypatch.setattr(launcher, "read_request", lambda argv, parser: parser.parse_known_args(argv))
    monkeypatch.setattr(launcher, "start", received.append)
    return received


def test_fairchem_passes_flags_and_overrides_through(started: list[Any]) -> None:
    arguments = ["--mode", "predict", "--config-yml", "a.yml", "--cpu", "--optim.lr_initial=1e-3"]
    result = CliRunner().invoke(app, ["fairchem", *arguments])
    assert result.exit_code == 0, result.output
    [(flags, overrides)] = started
    assert (flags.mode, flags.config_yml, flags.cpu, flags.num_gpus) == ("predict", Path("a.yml"), True, 1)
    assert overrides == ["--optim.lr_initial=1e-3"]


def test_train_is_fairchem_in_mode_train(started: list[Any]) -> None:
    flags = ["--num-gpus", "2", "--amp", "--optim.lr_initial=1e-3"]
    for arguments in (
        ["train", "a.yml", *flags],
        ["train", *flags, "a.yml"],
        ["fairchem", "--mode", "train", "--config-yml", "a.yml", *flags],
    ):
        result = CliRunner().invoke(app, arguments)
        assert result.exit_code == 0, result.output
    first, second, host = started
    assert first == second == host
    assert (host[0].mode, host[0].num_gpus, host[1]) == ("train", 2, ["--optim.lr_initial=1e-3"])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "the following arguments are required: CONFIG"),
        (["--config-yml", "a.yml"], "the run file needs no flag here: ev2 train a.yml"),
        (["a.yml", "--mode", "predict"], "invalid choice: 'predict' (choose from 'train')"),
        (["a.yml", "--num-gpus", "0"], "--num-gpus (ranks per node) and --num-nodes must be at least 1"),
    ],
)
def test_train_says_what_it_needs(arguments: list[str], said: str, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_info:
        app(["train", *arguments])
    assert exit_info.value.code == 2
    assert said in capfd.readouterr().err
