"""Steps with non-finite numbers: skipped, counted, named."""

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from fairchem.core.modules.loss import DDPLoss
from torch import Tensor

from ev2_plugin.integration import optimizer_steps
from ev2_plugin.integration.optimizer_steps import sample_ids
from helpers.trainers import assert_same, config, make_trainer, weights


def poison(trainer: Any, sid: int) -> None:
    """Let the energy of one system come out as NaN, as an overflow would."""
    forward = trainer.model.forward

    def poisoned(data: Any) -> dict[str, Tensor]:
        out = forward(data)
        out["energy"] = out["energy"] + torch.where(torch.as_tensor(data.sid) == sid, torch.nan, 0.0)
        return out

    trainer.model.forward = poisoned


def test_a_step_with_a_non_finite_loss_changes_nothing(
    dataset: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    trainer = make_trainer(config(dataset, batch_size=4), tmp_path)
    poison(trainer, sid=2)
    before, averages = weights(trainer), [value.clone() for value in trainer.ema.shadow_params]
    caplog.set_level(logging.WARNING)
    trainer.train(disable_eval_tqdm=True)
    assert_same(weights(trainer), before, rtol=0, atol=0)
    assert all(map(torch.equal, trainer.ema.shadow_params, averages))
    assert not trainer.optimizer.state
    assert (trainer.skipped.total, trainer.scheduler.scheduler.last_epoch) == (2, 0)
    (first, second) = [record.getMessage() for record in caplog.records if "skipped" in record.getMessage()]
    assert first.startswith("step 1 skipped: its loss is not finite; samples ")
    assert "2_0" in first
    assert second.endswith("2 skipped so far")


def test_only_the_steps_with_the_bad_sample_are_skipped(dataset: dict[str, Any], tmp_path: Path) -> None:
    trainer = make_trainer(config(dataset, batch_size=1, max_epochs=3), tmp_path)
    poison(trainer, sid=2)
    before = weights(trainer)
    trainer.train(disable_eval_tqdm=True)
    assert trainer.skipped.total == 3
    assert trainer.skipped.in_a_row <= 1
    assert trainer.scheduler.scheduler.last_epoch == 9
    after = weights(trainer)
    assert all(value.isfinite().all() for value in after.values())
    assert any((after[name] != before[name]).any() for name in after)


def test_a_bad_batch_spoils_its_whole_step(dataset: dict[str, Any], tmp_path: Path) -> None:
    trainer = make_trainer(config(dataset, batch_size=1, global_batch_size=4, max_epochs=3), tmp_path)
    poison(trainer, sid=2)
    before = weights(trainer)
    trainer.train(disable_eval_tqdm=True)
    assert trainer.skipped.total == 3
    assert_same(weights(trainer), before, rtol=0, atol=0)


def test_too_many_in_a_row_end_the_run_and_name_the_module(dataset: dict[str, Any], tmp_path: Path) -> None:
    trainer = make_trainer(config(dataset, max_epochs=50, max_non_finite_steps=3), tmp_path)
    trainer.model.blocks[0].ffn.so3_linear_1.weight.data[0, 0, 0] = torch.nan
    with pytest.raises(FloatingPointError) as error:
        trainer.train(disable_eval_tqdm=True)
    assert trainer.step == 3
    message = str(error.value)
    assert message.startswith("the loss was not finite in 3 steps in a row (optim.max_non_finite_steps)")
    assert "appears in the forward pass, blocks.0.ffn" in message
    assert "Samples of the last step: " in message


def test_ten_are_too_many_by_default(dataset: dict[str, Any], tmp_path: Path) -> None:
    trainer = make_trainer(config(dataset, max_epochs=50), tmp_path)
    trainer.model.norm.affine_weight.data.fill_(torch.inf)
    with pytest.raises(FloatingPointError, match="10 steps in a row"):
        trainer.train(disable_eval_tqdm=True)


def test_a_non_finite_gradient_of_a_finite_loss_is_skipped_too(dataset: dict[str, Any], tmp_path: Path) -> None:
    trainer = make_trainer(config(dataset, max_epochs=50, max_non_finite_steps=2), tmp_path)
    scalars = trainer.model.energy_block.scalars
    trainer.model.energy_block.scalars = lambda x: scalars(x) + (x[:, 0, :1] * 0).sqrt()
    before = weights(trainer)
    with pytest.raises(FloatingPointError, match="the gradient was not finite in 2 steps.*in the backward pass, "):
        trainer.train(disable_eval_tqdm=True)
    assert_same(weights(trainer), before, rtol=0, atol=0)


def test_scaling_does_not_hide_gradients_that_are_never_finite(dataset: dict[str, Any], tmp_path: Path) -> None:
    trainer = make_trainer(config(dataset, max_epochs=50, precision="fp16", max_non_finite_steps=3), tmp_path)
    trainer.scaler = torch.GradScaler("cpu", init_scale=4.0)
    scalars = trainer.model.energy_block.scalars
    trainer.model.energy_block.scalars = lambda x: scalars(x) + (x[:, 0, :1] * 0).sqrt()
    with pytest.raises(FloatingPointError, match="the gradient was not finite in 3 steps"):
        trainer.train(disable_eval_tqdm=True)
    assert trainer.step == 5  # the scale came down from 4 to 2 and 1 first


def test_a_label_that_is_not_finite_is_blamed(dataset: dict[str, Any], tmp_path: Path) -> None:
    trainer = make_trainer(config(dataset, max_non_finite_steps=1), tmp_path)
    trainer.step = 1
    (batch, *_) = list(trainer.train_loader)
    batch.energy[0] = torch.nan
    with pytest.raises(FloatingPointError, match="in the loss, of finite predictions: look at the labels"):
        trainer._backward(trainer._compute_loss(trainer._forward(batch), batch))


def test_a_process_with_finite_numbers_says_what_another_found(
    dataset: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = make_trainer(config(dataset, batch_size=4, max_non_finite_steps=1), tmp_path)
    elsewhere = iter([["7_0"], ["in the forward pass, norm"]])
    monkeypatch.setattr(optimizer_steps, "of_all_processes", lambda values: [*values, *next(elsewhere)])
    monkeypatch.setattr(trainer, "agree", lambda non_finite: (True, 0))
    with pytest.raises(FloatingPointError, match=r"appears in the forward pass, norm\. Samples of the last step: 7_0"):
        trainer.train(disable_eval_tqdm=True)
    assert all(parameter.grad is None for parameter in trainer.model.parameters())  # no waiting for that process


def test_the_host_would_have_put_zeros_in_their_place(dataset: dict[str, Any], tmp_path: Path) -> None:
    broken, target = torch.full((2, 1), torch.nan), torch.zeros(2, 1)
    assert DDPLoss("mae", "mean")(broken, target, natoms=torch.ones(2)) == 0

    for name, skipped in (("ev2_plugin.Trainer", True), ("equiformerv2_forces", False)):
        trainer = make_trainer({**config(dataset, batch_size=4), "trainer": name}, tmp_path / name)
        poison(trainer, sid=2)
        before = weights(trainer)
        trainer.train(disable_eval_tqdm=True)
        unchanged = all(torch.equal(value, before[key]) for key, value in weights(trainer).items())
        assert unchanged == skipped


def test_sample_ids(dataset: dict[str, Any], tmp_path: Path) -> None:
    trainer = make_trainer(config(dataset, batch_size=4), tmp_path)
    (batch,) = list(trainer.val_loader)[:1]
    assert sorted(sample_ids(batch) + sample_ids(list(trainer.val_loader)[1])) == ["0_0", "1_0", "2_0", "3_0"]
    del batch.fid
    assert len(sample_ids(batch)) == 2
