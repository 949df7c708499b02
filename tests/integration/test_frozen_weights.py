"""`optim.freeze`: weights that are bit for bit the same after training, and cost nothing in it."""

from pathlib import Path
from typing import Any

import pytest
import torch

from ev2_plugin.integration.frozen_weights import freeze
from ev2_plugin.integration.loading import build_model, load_potential
from ev2_plugin.storage.checkpoint_file import read_checkpoint
from ev2_plugin.training.freezing import frozen_names
from helpers import tiny_s2ef
from helpers.trainers import config, make_trainer, weights

CASES = {
    "flat": (tiny_s2ef.FLAT_MODEL, "embedding"),
    "flat, blocks": (tiny_s2ef.FLAT_MODEL, "blocks:1"),
    "hydra": (tiny_s2ef.HYDRA_MODEL, "backbone"),
}


@pytest.mark.parametrize(("model", "part"), CASES.values(), ids=CASES)
def test_frozen_weights_stay_bit_for_bit_and_all_others_with_a_gradient_move(
    dataset: dict[str, Any], tmp_path: Path, model: dict[str, Any], part: str
) -> None:
    trainer = make_trainer(config(dataset, model, freeze=part), tmp_path)
    before = weights(trainer)
    trainer.train(disable_eval_tqdm=True)
    after, frozen = weights(trainer), frozen_names(before, part)
    assert frozen
    unchanged = {name for name in before if torch.equal(before[name], after[name])}
    assert frozen <= unchanged
    parameters = dict(trainer._unwrapped_model.named_parameters())
    assert all(parameters[name].grad.count_nonzero() == 0 for name in unchanged - frozen)
    assert len(unchanged) < len(before)


def test_frozen_weights_have_no_gradient_no_optimizer_state_no_average_and_no_decay(
    dataset: dict[str, Any], tmp_path: Path
) -> None:
    trainer = make_trainer(config(dataset, freeze="backbone"), tmp_path)
    trainer.train(disable_eval_tqdm=True)
    parameters = dict(trainer._unwrapped_model.named_parameters())
    frozen = {name: parameters[name] for name in frozen_names(parameters, "backbone")}
    assert all(one.grad is None and one not in trainer.optimizer.state for one in frozen.values())
    decayed = {id(one) for group in trainer.optimizer.param_groups for one in group["params"]}
    assert not decayed & {id(one) for one in frozen.values()}
    assert len(trainer.ema.shadow_params) == len(parameters) - len(frozen)


def test_the_checkpoint_of_a_frozen_run_is_read_with_its_averages(dataset: dict[str, Any], tmp_path: Path) -> None:
    trainer = make_trainer(config(dataset, freeze="blocks:1"), tmp_path)
    trainer.train(disable_eval_tqdm=True)
    potential = load_potential(trainer.folder.path / "checkpoint.pt", "cpu")
    trainer.ema.copy_to()
    for name, value in potential.model.state_dict().items():
        assert torch.equal(value, trainer._unwrapped_model.state_dict()[name]), name


def test_a_run_with_frozen_weights_goes_on_to_the_same_end(dataset: dict[str, Any], tmp_path: Path) -> None:
    whole = make_trainer(config(dataset, freeze="embedding"), tmp_path / "whole")
    whole.train(disable_eval_tqdm=True)
    begun = config(dataset, freeze="embedding", checkpoint_every=2)
    first = make_trainer(begun, tmp_path / "cut")
    first.config["optim"]["max_epochs"] = 1  # as if it had been killed after the first of two
    first.train(disable_eval_tqdm=True)
    second = make_trainer(begun, tmp_path / "cut")
    assert second.resume()
    second.train(disable_eval_tqdm=True)
    one, other = (read_checkpoint(trainer.folder.path / "checkpoint.pt") for trainer in (whole, second))
    for name, value in one["state_dict"].items():
        assert torch.equal(value, other["state_dict"][name]), name


def test_what_leaves_nothing_to_train_is_an_error() -> None:
    model = build_model(tiny_s2ef.FLAT_MODEL)
    model.energy_block.requires_grad_(False)
    model.force_block.requires_grad_(False)
    with pytest.raises(ValueError, match=r"optim\.freeze: backbone leaves nothing to train"):
        freeze(model, "backbone")
