"""What holds for every command: help with an example, `--json`, choices, exit status."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import Any, get_args

import pytest
import typer
from typer.testing import CliRunner, Result

from ev2_plugin.cli.main import PANELS, app

NO_JSON = {
    "train": "a run writes run.json, metrics.csv and metrics.jsonl, and its flags are the host's",
    "fairchem": "the same, and results in files of the host's formats",
}
OF_THE_HOST = tuple(NO_JSON)
"""Commands whose flags belong to fairchem's parser."""


def commands(group: Any, before: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command that does something, with the words that call it."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, (*before, name))
        else:
            yield (*before, name), command


ROOT = typer.main.get_command(app)
COMMANDS = {" ".join(words): command for words, command in commands(ROOT)}
each_command = pytest.mark.parametrize("name", COMMANDS)


def ev2(*arguments: object) -> Result:
    return CliRunner(env={"COLUMNS": "200"}).invoke(app, [str(one) for one in arguments])


def examples(name: str) -> list[list[str]]:
    """The words of the examples in a command's help."""
    if name in OF_THE_HOST:
        from ev2_plugin.integration import flags

        text = {"train": flags.train_parser, "fairchem": flags.fairchem_parser}[name]().epilog or ""
    else:
        text = COMMANDS[name].help or ""
    return [shlex.split(" ".join(found.split())) for found in re.findall(r"Example: (.*(?:\n.+)*)", text)]


def option_names(command: Any) -> set[str]:
    return {name for one in command.params for name in one.opts if name.startswith("-")}


@each_command
def test_help_has_an_example_that_parses(name: str) -> None:
    found = examples(name)
    assert found, "the docstring ends with a line like `Example: ev2 ...`"
    for words in found:
        assert words[: 1 + len(name.split())] == ["ev2", *name.split()]
        rest = words[1 + len(name.split()) :]
        if name in OF_THE_HOST:
            from ev2_plugin.integration import flags

            parser = {"train": flags.train_parser, "fairchem": flags.fairchem_parser}[name]()
            _, overrides = parser.parse_known_args(rest)
            assert all(re.fullmatch(r"--\w+(\.\w+)+=.+", one) for one in overrides), overrides
        else:
            COMMANDS[name].make_context(name, rest)  # raises where the command line would


@each_command
def test_help_is_shown_and_leaves_nothing_open(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    if name in OF_THE_HOST:
        pytest.skip("shown by the host's parser: tests/cli/test_main.py")
    result = ev2(*name.split(), "--help")
    assert result.exit_code == 0
    assert "Example: ev2" in result.stdout
    for option in COMMANDS[name].params:
        assert getattr(option, "help", None), f"{option.name} has no help"


@each_command
def test_machines_are_answered_in_json(name: str) -> None:
    assert ("--json" in option_names(COMMANDS[name])) == (name not in NO_JSON)


def test_every_command_has_its_panel() -> None:
    for name, command in ROOT.commands.items():  # type: ignore[attr-defined]  it is a group
        assert command.rich_help_panel in PANELS, f"{name}: give it a rich_help_panel in cli/main.py"


def enum_in(annotation: Any) -> type[StrEnum] | None:
    """The choices of an option, also of one that may be missing or repeated."""
    if isinstance(annotation, type) and issubclass(annotation, StrEnum):
        return annotation
    return next(filter(None, map(enum_in, get_args(annotation))), None)


CHOICES = {
    f"{name} {option.opts[0]}": found
    for name, command in COMMANDS.items()
    for option in command.params
    if (found := enum_in(getattr(option, "type_descriptor", option).annotation))
}


@pytest.mark.parametrize("which", CHOICES)
def test_a_wrong_choice_is_wrong_usage_and_named(which: str) -> None:
    name, option = which.rsplit(" ", 1)
    result = ev2(*examples(name)[0][1:], option, "nonsense")
    assert result.exit_code == 2
    assert all(word in result.stderr for word in ("nonsense", *CHOICES[which]))


def test_there_are_choices() -> None:
    assert len(CHOICES) > 12


@each_command
def test_an_option_that_is_not_there_is_wrong_usage(name: str) -> None:
    if name in ("check", "estimate", *OF_THE_HOST):
        pytest.skip("unknown flags go on to the host's parser")
    result = ev2(*name.split(), "--no-such-option")
    assert result.exit_code == 2
    assert "--no-such-option" in result.stderr


MISSING = {
    "adsorbml collect": ["nowhere"],
    "adsorbml demo": ["campaign", "--checkpoint", "nowhere.pt"],
    "adsorbml filter": ["nowhere"],
    "adsorbml import": ["campaign", "nowhere"],
    "adsorbml place": ["campaign", "--slab", "nowhere.vasp", "--adsorbate", "*O"],
    "adsorbml references": ["nowhere", "--calculator", "emt"],
    "adsorbml relax": ["nowhere", "--checkpoint", "nowhere.pt"],
    "adsorbml score": ["nowhere"],
    "adsorbml select": ["nowhere"],
    "adsorbml single-points": ["nowhere", "--write-vasp"],
    "adsorbml status": ["nowhere"],
    "adsorbml targets": ["nowhere", "--calculator", "emt"],
    "bench": ["nowhere.pt"],
    "check": ["nowhere.yml"],
    "convert": ["nowhere.pt", "out.pt"],
    "data inspect": ["nowhere"],
    "data prepare": ["nowhere", "--out", "out", "--split", "0.8,0.1,0.1"],
    "estimate": ["nowhere.yml"],
    "evaluate predictions": ["nowhere.npz", "--against", "nowhere"],
    "evaluate relaxations": ["nowhere", "--against", "nowhere"],
    "fairchem": ["--mode", "train", "--config-yml", "nowhere.yml"],
    "finetune": ["nowhere.xyz", "--checkpoint", "nowhere.pt", "--out", "out"],
    "inspect": ["nowhere.pt"],
    "precision": ["--dataset", "nowhere", "--checkpoint", "nowhere.pt"],
    "predict": ["nowhere.xyz", "--checkpoint", "nowhere.pt"],
    "relax": ["nowhere.xyz", "--calculator", "emt"],
    "report": ["nowhere"],
    "submission build": [
        "--task",
        "is2re",
        "--dataset",
        "oc22",
        "--out",
        "o.npz",
        "--id",
        "nowhere",
        "--ood",
        "nowhere",
    ],
    "submission check": ["nowhere.npz", "--task", "s2ef"],
    "train": ["nowhere.yml"],
}
NEEDS_NO_FILE = ("demo", "doctor", "version")


def test_all_commands_are_tried_with_a_file_that_is_not_there() -> None:
    assert set(COMMANDS) == {*MISSING, *NEEDS_NO_FILE}


@pytest.mark.usefixtures("restored_process_state")
@pytest.mark.parametrize("place", ["missing", "folder"])
@pytest.mark.parametrize("name", MISSING)
def test_a_file_that_is_not_there_is_one_sentence_and_status_1(
    name: str, place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    if place == "folder":
        for argument in MISSING[name]:
            if argument.startswith("nowhere"):
                (tmp_path / argument).mkdir(exist_ok=True)
    result = ev2(*name.split(), *MISSING[name])
    assert result.exit_code == 1, result.output
    assert "Traceback" not in result.output
    assert result.stdout == ""
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1, result.stderr
    assert "[Errno" not in result.stderr
