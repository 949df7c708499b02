"""`ev2 check`: what goes well, and one sentence for everything that would not."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from ev2_plugin.cli.main import app
from helpers.rewriting import rewrite
from helpers.tiny_s2ef import FLAT_MODEL, HYDRA_MODEL, NUM_STRUCTURES, config, write_config, write_dataset

Content = dict[str, Any]
Prepare = Callable[[Content, Path], object]


def write_run(folder: Path, prepare: Prepare, trainer: str = "ev2_plugin.Trainer") -> Path:
    """A config and a dataset of its own; `prepare` gets both to change them."""
    content = copy.deepcopy(config(write_dataset("lmdb", folder / "data"), FLAT_MODEL, trainer))
    prepare(content, folder / "data")
    return write_config(folder / "run.yml", content)


def run(*arguments: str) -> tuple[int, str, str]:
    result = CliRunner(env={"COLUMNS": "250"}).invoke(app, ["check", *arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, " ".join(result.stdout.split()), result.stderr


def files_below(folder: Path) -> set[Path]:
    return set(folder.rglob("*"))


@pytest.mark.parametrize("trainer", ["ocp", "equiformerv2_forces", "ev2_plugin.Trainer"])
def test_a_good_config_is_described_and_nothing_is_left(
    trainer: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_run(tmp_path, lambda content, data: content.pop("logger"), trainer)
    monkeypatch.chdir(tmp_path)
    before = files_below(tmp_path)
    code, shown, errors = run(str(path), "--cpu")
    assert (code, errors) == (0, "")
    for words in ("66,986: backbone 41,944", "train │ 4 structures of 8 atoms", "16 atoms, 192 edges"):
        assert words in shown
    assert files_below(tmp_path) == before


def test_flags_and_overrides_reach_the_run(tmp_path: Path) -> None:
    path = write_run(tmp_path, lambda content, data: None)
    arguments = ["--structures", "1", "--num-gpus", "4", "--num-nodes", "2", "--cpu"]
    code, shown, errors = run(*arguments, str(path), "--amp", "--optim.max_epochs=3", "--seed", "1")
    assert (code, errors) == (0, "")
    assert "8 x 2 x 1 (processes x batch_size x accumulation) = 16 structures a step" in shown
    assert "1 per epoch, 3 in 3 epochs" in shown
    assert "1 of 2 structures, 8 atoms, 96 edges" in shown


def test_what_may_be_a_mistake_is_a_line_of_the_table(tmp_path: Path) -> None:
    def doubtful(content: Content, data: Path) -> None:
        del content["dataset"]["val"]
        content["optim"].update(ema_decay=None, batch_size=8)
        content["optim"]["scheduler_params"]["warmup_epochs"] = 0

    code, shown, errors = run(
        str(write_run(tmp_path, doubtful)), "--num-gpus", "2", "--model.activation_checkpoint=True"
    )
    assert (code, errors) == (0, "")
    for warning in (
        "no validation set",
        "weights are not averaged",
        "a step takes 16 structures, but there are only 4",
        "the warm-up has no step",
        "the labels of 'energy' are not normalised",
        "dataset.train has no metadata.npz",
        "activation_checkpoint",
    ):
        assert f"warning │ {warning}" in shown, warning


def without(label: str) -> Prepare:
    return lambda content, data: rewrite(data, lambda sample: delattr(sample, label))


def normalise(mean: float, rmsd: float) -> Prepare:
    def prepare(content: Content, data: Path) -> None:
        content["dataset"]["train"]["transforms"] = {"normalizer": {"energy": {"mean": mean, "rmsd": rmsd}}}

    return prepare


def total_energies(content: Content, data: Path) -> None:
    normalise(-0.7554, 2.887)(content, data)
    rewrite(data, lambda sample: setattr(sample, "energy", sample.energy - 330.0))


def balanced(content: Content, data: Path) -> None:
    del content["optim"]["load_balancing_on_error"]


def displaced(content: Content, data: Path) -> None:
    """Relaxed positions, but no atom that the displacement's loss would count."""
    rewrite(data, lambda sample: sample.update({"pos_relaxed": sample.pos.clone(), "tags": torch.zeros(8)}))
    content["model"] = copy.deepcopy(HYDRA_MODEL)
    del content["model"]["heads"]["forces"], content["outputs"]["forces"]
    content["model"]["heads"]["displacement"] = {
        "module": "ev2_plugin.VectorHead",
        "output_name": "displacement",
    }
    content["outputs"]["displacement"] = {"level": "atom", "eval_on_free_atoms": True}
    content["loss_functions"] = [{"displacement": {"fn": "mae", "coefficient": 1}}]
    content["evaluation_metrics"] = {"metrics": {"energy": ["mae"]}, "primary_metric": "energy_mae"}


def not_displaced(content: Content, data: Path) -> None:
    displaced(content, data)
    rewrite(data, lambda sample: delattr(sample, "pos_relaxed"))


def two_names(content: Content, data: Path) -> None:
    rewrite(data, lambda sample: setattr(sample, "y", sample.energy))
    content["dataset"]["train"]["key_mapping"] = {"y": "energy"}


def uranium(sample: Any) -> None:
    sample.atomic_numbers[3] = 92


def emptied(content: Content, data: Path) -> None:
    (data.parent / "empty").mkdir()
    content["dataset"]["val"]["src"] = str(data.parent / "empty")


def rewritten(edit: Callable[[Any], object], *indices: int) -> Prepare:
    return lambda content, data: rewrite(data, edit, range(*indices) if indices else range(NUM_STRUCTURES))


def settings(section: str, **changes: Any) -> Prepare:
    return lambda content, data: content[section].update(changes)


FAILURES: dict[str, tuple[Prepare, list[str], str]] = {
    "no forces": (
        without("forces"),
        [],
        "sample 0 of dataset.train (DATA) has no 'forces', which",
    ),
    "raw energies": (
        total_energies,
        [],
        "the labels of 'energy' do not fit their normaliser (mean -0.7554, rmsd 2.887): after it, 4 training "
        "structures have mean -112.8 and standard deviation 0.08708, where at most ±5 and 0.1 to 10 are expected; "
        "dataset.train.transforms.normalizer.energy {mean: -326.3, rmsd: 0.2514} would fit these labels; they look "
        "like total or atomisation energies (-40.8 eV per atom)",
    ),
    "unknown key": (lambda *_: None, ["--optim.lr=1"], "nothing reads optim.lr (did you mean 'lr_initial'?)"),
    "inert key": (
        settings("model", num_distance_basis=512),
        [],
        "nothing reads model.num_distance_basis (it has no effect, here or in the official code: leave it out)",
    ),
    "no metadata": (
        balanced,
        [],
        "dataset.train (DATA) has no metadata.npz, from which optim.load_balancing takes the sizes of structures: "
        "`ev2 data prepare` writes it; or set optim.load_balancing_on_error: warn_and_no_balance",
    ),
    "no dataset": (lambda *_: None, ["--dataset.val.src=/nowhere"], "dataset.val.src: /nowhere does not exist"),
    "empty dataset": (emptied, [], "is empty: the folder has no *.lmdb"),
    "no training set": (
        lambda content, data: content["dataset"].pop("train"),
        [],
        "dataset.train.src is missing: there is nothing to train on",
    ),
    "unknown element": (
        rewritten(uranium, 2, 3),
        [],
        "sample 2 of dataset.train (sid 2, fid 0) has atomic number 92 (U), but the model's element tables end at 89: "
        "set max_num_elements to 93 or more (now 90)",
    ),
    "label that is no number": (
        rewritten(lambda sample: sample.forces.fill_(float("nan")), 1, 2),
        [],
        "sample 1 of dataset.train (sid 1, fid 0): its label 'forces' is nan; mend the sample or leave it out",
    ),
    "no primary metric": (
        lambda content, data: content["evaluation_metrics"].pop("primary_metric"),
        [],
        "evaluation_metrics.primary_metric is missing: give one of energy_mae, forces_mae, loss",
    ),
    "another primary metric": (
        lambda *_: None,
        ["--evaluation_metrics.primary_metric=energy_mse"],
        "evaluation_metrics.primary_metric 'energy_mse' is not among the metrics: energy_mae, forces_mae, loss",
    ),
    "unlabelled output": (
        lambda content, data: content["outputs"].update(charge={"level": "system"}),
        [],
        "sample 0 of dataset.train (DATA) has no 'charge', which training needs",
    ),
    "taken name": (two_names, [], "dataset.train.key_mapping renames 'y' to 'energy', but sample 0 (DATA) already has"),
    "global batch": (
        lambda *_: None,
        ["--optim.global_batch_size=6", "--num-gpus", "2"],
        "optim.global_batch_size is 6, but 2 x 2 x 1 (processes x batch_size x accumulation) = 4 structures a step: "
        "give optim.batch_size one of 1, 3",
    ),
    "nothing relaxed": (not_displaced, [], "sample 0 of dataset.train (DATA) has no 'pos_relaxed'"),
    "nothing tagged": (
        displaced,
        [],
        "the output 'displacement' learns from free atoms with tag 1 (surface) or 2 (adsorbate), but a whole batch has",
    ),
    "number as text": (
        settings("optim", clip_grad_norm="1e2"),
        [],
        "optim.clip_grad_norm must be a number, got '1e2' (YAML takes 1e-4 for text, 1.0e-4 for a number)",
    ),
    "no config": (lambda content, data: None, ["stray"], "'stray' is neither a flag nor an override"),
    "no checkpoint": (lambda *_: None, ["--checkpoint", "no.pt"], "--checkpoint no.pt: no such file"),
    "another model": (
        lambda content, data: content.update(model={**content["model"], "name": "ev3"}),
        [],
        "no model is called 'ev3'",
    ),
}


@pytest.mark.parametrize("name", FAILURES)
def test_one_sentence_for_what_is_wrong(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepare, overrides, sentence = FAILURES[name]
    path = write_run(tmp_path, prepare)
    monkeypatch.chdir(tmp_path)
    before = files_below(tmp_path)
    code, shown, errors = run(str(path), "--cpu", *overrides)
    assert code == 1
    assert shown == ""
    assert errors.startswith(f"error: {path}: ")
    assert sentence.replace("DATA", str(tmp_path / "data")) in errors
    assert errors.count("\n") == 1
    assert files_below(tmp_path) == before


def test_a_missing_config_is_named(tmp_path: Path) -> None:
    code, _, errors = run(str(tmp_path / "no.yml"))
    assert code == 1
    assert "no config" in errors


def test_a_trainer_of_the_host_whose_warm_up_would_divide_by_zero(tmp_path: Path) -> None:
    def prepare(content: Content, data: Path) -> None:
        content["optim"]["scheduler_params"]["warmup_epochs"] = 0.1

    code, _, errors = run(str(write_run(tmp_path, prepare, "equiformerv2_forces")))
    assert code == 1
    assert "optim.scheduler_params.warmup_epochs 0.1 is less than a step" in errors
