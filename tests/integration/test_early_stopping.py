"""`optim.early_stopping`: a training ends after so many validations in a row without a better metric."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from ev2_plugin.integration.trainer import Trainer
from ev2_plugin.storage.checkpoint_file import read_checkpoint
from helpers.trainers import config, make_trainer

ERRORS = (0.5, 0.4, 0.45, 0.41, 0.3, 0.3, 0.35, 0.2)


def run_of(dataset: dict[str, Any], **optim: Any) -> dict[str, Any]:
    """Eight epochs of two steps, validated and saved after each epoch."""
    return config(dataset, max_epochs=8, eval_every=2, checkpoint_every=2, **optim)


def validating(trainer: Trainer, errors: Sequence[float] = ERRORS) -> Trainer:
    """Let steps cost nothing, and the validation after each epoch find these errors."""

    def train_batch(batch: Any) -> None:
        trainer.step += 1

    def validate(split: str = "val", disable_tqdm: bool = False) -> dict[str, Any]:
        found = {"metric": errors[trainer.step // 2 - 1], "total": 1.0, "numel": 1}
        return {"forces_mae": found, "energy_mae": found, "loss": found}

    trainer._train_batch = train_batch  # type: ignore[method-assign]
    trainer.validate = validate  # type: ignore[method-assign]
    return trainer


@pytest.mark.parametrize(("patience", "epochs"), [(2, 4), (3, 8), (None, 8)])
def test_a_training_ends_after_so_many_validations_without_gain(
    dataset: dict[str, Any], tmp_path: Path, patience: int | None, epochs: int
) -> None:
    trainer = validating(make_trainer(run_of(dataset, early_stopping=patience), tmp_path))
    trainer.train(disable_eval_tqdm=True)
    assert trainer.step == 2 * epochs
    saved = read_checkpoint(trainer.folder.path / "checkpoint.pt")
    assert (saved["step"], saved["best_val_metric"]) == (2 * epochs, min(ERRORS[:epochs]))


def test_an_error_as_large_as_the_best_is_no_gain(dataset: dict[str, Any], tmp_path: Path) -> None:
    trainer = validating(make_trainer(run_of(dataset, early_stopping=2), tmp_path), [0.3] * 8)
    trainer.train(disable_eval_tqdm=True)
    assert trainer.step == 6


def test_the_count_survives_a_kill_and_an_end_is_an_end(dataset: dict[str, Any], tmp_path: Path) -> None:
    killed = validating(make_trainer(run_of(dataset, early_stopping=2), tmp_path))
    killed.config["optim"]["max_epochs"] = 3  # after the first validation without gain
    killed.train(disable_eval_tqdm=True)
    resumed = validating(make_trainer(run_of(dataset, early_stopping=2), tmp_path))
    assert resumed.resume()
    resumed.train(disable_eval_tqdm=True)
    assert resumed.step == 8
    again = validating(make_trainer(run_of(dataset, early_stopping=2), tmp_path))
    assert again.resume()
    again.train(disable_eval_tqdm=True)
    assert again.step == 8


def test_without_validation_there_is_nothing_to_follow(dataset: dict[str, Any], tmp_path: Path) -> None:
    made = run_of(dataset, early_stopping=2)
    del made["dataset"]["val"]
    with pytest.raises(ValueError, match=r"optim\.early_stopping follows a metric: it needs dataset\.val"):
        make_trainer(made, tmp_path)


@pytest.mark.parametrize("patience", [0, "two"])
def test_patience_is_a_number_of_validations(dataset: dict[str, Any], tmp_path: Path, patience: object) -> None:
    with pytest.raises(ValueError, match=r"optim\.early_stopping must be a positive integer"):
        make_trainer(run_of(dataset, early_stopping=patience), tmp_path)
