"""`ev2 estimate`: two tables, or one sentence."""

import copy
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from ev2_plugin.cli.main import app
from helpers.tiny_s2ef import FLAT_MODEL, config, write_config, write_dataset


def write_run(folder: Path, edit: Callable[[dict[str, Any]], object] = lambda _: None) -> str:
    content = copy.deepcopy(config(write_dataset("lmdb", folder / "data"), FLAT_MODEL, "ev2_plugin.Trainer"))
    edit(content)
    return str(write_config(folder / "run.yml", content))


def run(*arguments: str) -> tuple[int, str, str]:
    result = CliRunner(env={"COLUMNS": "250"}).invoke(app, ["estimate", *arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, " ".join(result.stdout.split()), result.stderr


@pytest.mark.slow
def test_tables(tmp_path: Path) -> None:
    code, shown, errors = run(write_run(tmp_path), "--memory", "2GB", "--model.activation_checkpoint=edges")
    assert (code, errors) == (0, "")
    assert "all of 4 structures; 8 atoms, 12.0 edges per atom" in shown
    assert "held in training │ parameters" in shown
    assert "largest batch in 2 GB, a GPU" in shown
    for row in ("training, none │ 2", "training, edges (config) │ 2", "training, block │ 2", "prediction │ 2"):
        assert row in shown


def test_sizes_from_the_command_line_need_no_dataset(tmp_path: Path) -> None:
    path = write_run(tmp_path, lambda content: content["dataset"]["train"].update(src="/nowhere"))
    code, shown, errors = run(
        path, "--atoms", "50", "--edges-per-atom", "12.5", "--predict", "--cpu", "--memory", "1 GiB",
        "--optim.eval_batch_size=3",
    )  # fmt: skip
    assert (code, errors) == (0, "")
    assert "as given; 50 atoms, 12.5 edges per atom" in shown
    assert "largest batch in 1.07 GB, a CPU" in shown
    assert "prediction │ 3" in shown
    assert not re.search("held in training|training, none", shown)


SIZES = ("--atoms", "9", "--edges-per-atom", "9")


def no_dataset(content: dict[str, Any]) -> None:
    for split in content["dataset"].values():
        split["src"] = "/nowhere"


@pytest.mark.parametrize(
    ("edit", "arguments", "sentence"),
    [
        (no_dataset, [], "no dataset is here (dataset.train.src: /nowhere"),
        (lambda _: None, ["--model.lmaxx=3"], "unknown model key 'lmaxx'; did you mean 'lmax'?"),
        (lambda _: None, ["--optim.lr=1", *SIZES], "nothing reads optim.lr (did you mean"),
        (lambda _: None, ["--memory", "much"], "--memory much: needs a number and a unit, like 80GB or 40GiB"),
        (lambda _: None, ["--memory", "0GB"], "--memory 0GB: needs a number and a unit"),
        (lambda _: None, ["--atoms", "3"], "--atoms and --edges-per-atom belong together"),
        (lambda _: None, ["--atoms", "3", "--edges-per-atom", "0"], "edges per atom must be positive, got 0"),
        (lambda _: None, ["--model.activation_checkpoint=all", *SIZES], "activation_checkpoint must be one of"),
        (lambda _: None, ["--model.edge_memory_mb=0"], "edge_memory_mb"),
    ],
)  # fmt: skip
def test_one_sentence_for_what_is_wrong(
    edit: Callable[[dict[str, Any]], object], arguments: list[str], sentence: str, tmp_path: Path
) -> None:
    path = write_run(tmp_path, edit)
    code, shown, errors = run(path, "--cpu", *arguments)
    assert (code, shown) == (1, "")
    assert errors.startswith(f"error: {path}: ")
    assert sentence in errors
    assert errors.count("\n") == 1


def test_a_missing_config_is_named(tmp_path: Path) -> None:
    code, _, errors = run(str(tmp_path / "no.yml"))
    assert code == 1
    assert "no config" in errors
