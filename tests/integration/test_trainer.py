"""The trainer against the host's, and what it adds."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from ev2_plugin.integration.trainer import Trainer
from ev2_plugin.training.schedule import CosineSchedule
from helpers import tiny_s2ef
from helpers.trainers import assert_same, config, make_trainer, weights


def batches(trainer: Trainer) -> list[Any]:
    return list(trainer.train_loader)


@pytest.mark.parametrize("model", ["flat", "hydra"])
def test_it_trains_as_the_hosts_trainer_does(model: str, dataset: dict[str, Any], tmp_path: Path) -> None:
    settings = config(dataset, tiny_s2ef.FLAT_MODEL if model == "flat" else tiny_s2ef.HYDRA_MODEL)
    settings["dataset"]["train"]["transforms"] = {
        "normalizer": {"energy": {"mean": 10.0, "rmsd": 2.0}, "forces": {"mean": 0.0, "rmsd": 0.7}}
    }
    settings["optim"]["optimizer_params"]["weight_decay"] = 0.0  # the host's hydra model decays other parameters
    trained = []
    for name in ("ev2_plugin.Trainer", "equiformerv2_forces"):
        trainer = make_trainer({**settings, "trainer": name}, tmp_path / name)
        before = weights(trainer)
        trainer.train(disable_eval_tqdm=True)
        assert any((before[key] != value).any() for key, value in weights(trainer).items())
        trained.append(trainer)
    ours, host = trained
    assert ours.step == host.step == 4
    assert_same(weights(ours), weights(host), rtol=0, atol=0)
    for mine, theirs in zip(ours.ema.shadow_params, host.ema.shadow_params, strict=True):
        assert torch.equal(mine, theirs)
    assert ours.scheduler.get_lr() == pytest.approx(host.scheduler.get_lr(), rel=1e-12)
    assert ours.best_val_metric == host.best_val_metric


def test_accumulated_batches_are_one_step(dataset: dict[str, Any], tmp_path: Path) -> None:
    whole = make_trainer(config(dataset, batch_size=4), tmp_path / "whole")
    parts = make_trainer(config(dataset, batch_size=1, global_batch_size=4), tmp_path / "parts")
    whole.train(disable_eval_tqdm=True)
    parts.train(disable_eval_tqdm=True)
    assert (whole.step, parts.step) == (2, 8)  # batches
    assert parts.scheduler.scheduler.last_epoch == whole.scheduler.scheduler.last_epoch == 2  # steps
    # energy: mean of means; forces: each slab has as many free atoms
    assert_same(weights(parts), weights(whole), rtol=0, atol=2e-6)


def test_the_last_step_takes_what_is_left(dataset: dict[str, Any], tmp_path: Path) -> None:
    trainer = make_trainer(config(dataset, batch_size=1, grad_accumulation_steps=3, max_epochs=1), tmp_path)
    trainer.train(disable_eval_tqdm=True)
    assert trainer.step == 4
    assert trainer.scheduler.scheduler.last_epoch == 2


def test_a_run_ends_validated_and_saved_whatever_the_intervals(dataset: dict[str, Any], tmp_path: Path) -> None:
    trainer = make_trainer(config(dataset, eval_every=1000, checkpoint_every=300), tmp_path)
    trainer.train(disable_eval_tqdm=True)
    folder = tmp_path / "checkpoints" / "test"
    checkpoint = torch.load(folder / "checkpoint.pt", weights_only=False)
    assert checkpoint["step"] == 4
    assert (folder / "best_checkpoint.pt").is_file()


def test_intervals_count_optimiser_steps(dataset: dict[str, Any], tmp_path: Path) -> None:
    settings = config(dataset, batch_size=1, global_batch_size=2, eval_every=2, checkpoint_every=1)
    trainer = make_trainer(settings, tmp_path)
    assert trainer.config["optim"]["eval_every"] == 4
    assert trainer.config["optim"]["checkpoint_every"] == 2


def test_a_global_batch_size_out_of_reach_is_refused_in_training_only(dataset: dict[str, Any], tmp_path: Path) -> None:
    trainer = make_trainer(config(dataset, batch_size=3, global_batch_size=4), tmp_path)
    trainer.validate()
    with pytest.raises(ValueError, match=r"global_batch_size is 4, but 1 x 3 x 1"):
        trainer.train(disable_eval_tqdm=True)


def test_warm_up_counts_epochs_of_steps(dataset: dict[str, Any], tmp_path: Path) -> None:
    settings = config(dataset, batch_size=1, global_batch_size=2, max_epochs=4)
    settings["optim"]["scheduler_params"]["warmup_epochs"] = 1.5
    trainer = make_trainer(settings, tmp_path)
    (schedule, *_) = trainer.scheduler.scheduler.lr_lambdas
    expected = CosineSchedule(warmup_steps=3, total_steps=8, warmup_factor=0.2, min_factor=0.01)
    assert [schedule(step) for step in range(10)] == [expected(step) for step in range(10)]
    assert settings["optim"]["scheduler_params"]["warmup_epochs"] == 1.5


@pytest.mark.parametrize("model", ["flat", "hydra"])
def test_weight_decay_spares_norms_and_biases_alone(model: str, dataset: dict[str, Any], tmp_path: Path) -> None:
    trainer = make_trainer(
        config(dataset, tiny_s2ef.FLAT_MODEL if model == "flat" else tiny_s2ef.HYDRA_MODEL), tmp_path
    )
    spared, decayed = trainer.optimizer.param_groups
    assert (spared["weight_decay"], decayed["weight_decay"]) == (0, 0.001)
    names = {parameter: name for name, parameter in trainer.model.named_parameters()}
    norms = ("norm", "net.1.", "net.4.")  # layer norms within radial functions are numbered
    for parameter in names:
        name = names[parameter]
        expected = name.endswith("bias") or any(norm in name for norm in norms)
        assert any(parameter is one for one in spared["params"]) == expected, name
    assert sum(len(group["params"]) for group in (spared, decayed)) == len(names)


@pytest.mark.parametrize(("precision", "dtype"), [("bf16", torch.bfloat16), ("fp16", torch.float16)])
def test_half_precision(precision: str, dtype: torch.dtype, dataset: dict[str, Any], tmp_path: Path) -> None:
    full = make_trainer(config(dataset), tmp_path / "full")
    half = make_trainer(config(dataset, precision=precision, max_epochs=10), tmp_path / precision)
    seen: list[torch.dtype] = []
    half.model.blocks[0].ga.so2_conv_1.register_forward_hook(lambda m, i, out: seen.append(out[1].dtype))
    (batch, *_) = batches(full)
    expected, outputs = full._forward(batch.clone()), half._forward(batch.clone())
    assert seen == [dtype]
    for name, output in outputs.items():
        assert output.dtype == torch.float32
        torch.testing.assert_close(output, expected[name], rtol=0.05, atol=0.05)
    before = weights(half)
    half.train(disable_eval_tqdm=True)
    assert half.skipped.total == 0
    assert any((before[key] != value).any() for key, value in weights(half).items())
    assert all(value.isfinite().all() for value in weights(half).values())
    assert (half.scaler is not None) == (precision == "fp16")


def test_the_flag_amp_means_fp16_unless_the_config_says_otherwise(dataset: dict[str, Any], tmp_path: Path) -> None:
    assert make_trainer(config(dataset), tmp_path / "a", amp=True).autocast_dtype is torch.float16
    assert make_trainer(config(dataset, precision="bf16"), tmp_path / "b", amp=True).autocast_dtype is torch.bfloat16
    with pytest.raises(ValueError, match="precision must be one of fp32, fp16, bf16, got 'half'"):
        make_trainer(config(dataset, precision="half"), tmp_path / "c")


def test_an_overflow_under_scaling_lowers_the_scale_and_is_no_failure(dataset: dict[str, Any], tmp_path: Path) -> None:
    trainer = make_trainer(config(dataset, precision="fp16", max_epochs=20), tmp_path)
    trainer.scaler = torch.GradScaler("cpu", init_scale=2.0**40)
    before = weights(trainer)
    trainer.train(disable_eval_tqdm=True)
    assert trainer.scaler.get_scale() < 2.0**40
    assert trainer.skipped.total == 0
    assert any((before[key] != value).any() for key, value in weights(trainer).items())
    taken = trainer.scheduler.scheduler.last_epoch
    assert 0 < taken < trainer.step  # the schedule waits for the optimiser


def test_clipping_and_averaging(dataset: dict[str, Any], tmp_path: Path) -> None:
    trainer = make_trainer(config(dataset, clip_grad_norm=1e-3, ema_decay=0.9), tmp_path)
    first = [parameter.detach().clone() for parameter in trainer.model.parameters()]
    trainer.step = 1
    (batch, *_) = batches(trainer)
    trainer._backward(trainer._compute_loss(trainer._forward(batch), batch))
    squares = sum(float(parameter.grad.square().sum()) for parameter in trainer.model.parameters())
    assert math.sqrt(squares) == pytest.approx(1e-3, rel=1e-3)
    for start, parameter, average in zip(first, trainer.model.parameters(), trainer.ema.shadow_params, strict=True):
        torch.testing.assert_close(average, 0.9 * start + 0.1 * parameter.detach())


def test_without_clipping_or_averaging(dataset: dict[str, Any], tmp_path: Path) -> None:
    trainer = make_trainer(config(dataset, clip_grad_norm=None, ema_decay=None), tmp_path)
    trainer.train(disable_eval_tqdm=True)
    assert trainer.ema is None


def test_a_checkpoint_of_training_serves_without_training_data(dataset: dict[str, Any], tmp_path: Path) -> None:
    settings = config(dataset)
    fit = {"targets": {"energy": {}, "forces": {"mean": 0.0}}, "batch_size": 2}
    settings["dataset"]["train"]["transforms"] = {"normalizer": {"fit": fit}}
    trained = make_trainer(settings, tmp_path)
    trained.train(disable_eval_tqdm=True)
    settings["dataset"] = {
        "train": {key: value for key, value in settings["dataset"]["train"].items() if key != "src"},
        "test": dataset,
    }
    trainer = make_trainer(settings, tmp_path / "predict")
    trainer.load_checkpoint(str(tmp_path / "checkpoints" / "test" / "checkpoint.pt"))
    for target, normalizer in trained.normalizers.items():
        torch.testing.assert_close(trainer.normalizers[target].mean.double(), normalizer.mean.double())
    predicted = trainer.predict(trainer.test_loader, disable_tqdm=True)
    assert len(predicted["energy"]) == tiny_s2ef.NUM_STRUCTURES


def stop_after(trainer: Trainer, batches: int, folder: Path) -> str:
    """Train until a number of batches, save as a job does that its scheduler takes away, and return the checkpoint."""

    class Stopped(Exception):
        pass

    backward = trainer._backward

    def stopping(loss: torch.Tensor) -> None:
        backward(loss)
        if trainer.step == batches:
            trainer.save(checkpoint_file="stopped.pt", training_state=True)
            raise Stopped

    trainer._backward = stopping  # type: ignore[method-assign]
    with pytest.raises(Stopped):
        trainer.train(disable_eval_tqdm=True)
    return str(folder / "checkpoints" / "test" / "stopped.pt")


@pytest.mark.parametrize("batches", [3, 4, 5])
def test_a_resumed_run_ends_as_one_that_was_not_stopped(batches: int, dataset: dict[str, Any], tmp_path: Path) -> None:
    # steps of three batches over epochs of four: the third batch ends a step, the fourth an epoch, the fifth nothing
    settings = config(dataset, batch_size=1, grad_accumulation_steps=3, max_epochs=4)
    whole = make_trainer(settings, tmp_path / "whole")
    whole.train(disable_eval_tqdm=True)
    checkpoint = stop_after(make_trainer(settings, tmp_path / "stopped"), batches, tmp_path / "stopped")
    resumed = make_trainer(settings, tmp_path / "resumed")
    resumed.load_checkpoint(checkpoint)
    assert resumed.step == 3
    resumed.train(disable_eval_tqdm=True)
    assert resumed.step == whole.step == 16
    assert_same(weights(resumed), weights(whole), rtol=0, atol=0)
    assert all(map(torch.equal, resumed.ema.shadow_params, whole.ema.shadow_params))


def test_a_longer_run_from_a_checkpoint_follows_its_own_schedule(dataset: dict[str, Any], tmp_path: Path) -> None:
    checkpoint = stop_after(make_trainer(config(dataset), tmp_path), 3, tmp_path)
    longer = make_trainer(config(dataset, max_epochs=10), tmp_path / "longer")
    longer.load_checkpoint(checkpoint)
    longer.scheduler.advance()
    expected = CosineSchedule(warmup_steps=2, total_steps=20, warmup_factor=0.2, min_factor=0.01)(4)
    assert longer.scheduler.get_lr() == pytest.approx(0.0004 * expected)


def test_weights_without_averages_are_averaged_from_there(dataset: dict[str, Any], tmp_path: Path) -> None:
    make_trainer(config(dataset), tmp_path).train(disable_eval_tqdm=True)
    tuned = make_trainer(config(dataset), tmp_path / "tuned", seed=1)
    tuned.load_checkpoint(str(tmp_path / "checkpoints" / "test" / "best_checkpoint.pt"))
    assert all(map(torch.equal, tuned.ema.shadow_params, tuned.model.parameters()))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"max_epochs": 1.5}, r"optim\.max_epochs must be a positive integer, got 1\.5"),
        ({"max_epochs": 0}, r"optim\.max_epochs must be a positive integer, got 0"),
        ({"eval_every": 0}, r"optim\.eval_every must be a positive integer, got 0"),
        ({"eval_every": -1}, r"optim\.eval_every must be a positive integer, got -1"),
        ({"checkpoint_every": 0.5}, r"optim\.checkpoint_every must be a positive integer, got 0\.5"),
        ({"max_non_finite_steps": "ten"}, r"optim\.max_non_finite_steps must be a positive integer, got 'ten'"),
        ({"clip_grad_norm": -1}, r"optim\.clip_grad_norm must be positive, or null for none, got -1"),
        ({"ema_decay": 1.5}, r"optim\.ema_decay must lie in \[0, 1\), or be null for no averages, got 1\.5"),
    ],
)
def test_numbers_out_of_range_are_named(
    change: dict[str, Any], message: str, dataset: dict[str, Any], tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        make_trainer(config(dataset, **change), tmp_path)


def test_intervals_may_be_left_to_epochs(dataset: dict[str, Any], tmp_path: Path) -> None:
    settings = config(dataset, batch_size=1, global_batch_size=2, eval_every=None, checkpoint_every=-1)
    trainer = make_trainer(settings, tmp_path)
    assert (trainer.config["optim"]["eval_every"], trainer.config["optim"]["checkpoint_every"]) == (4, -1)


def test_a_schedule_on_metrics_needs_validation(dataset: dict[str, Any], tmp_path: Path) -> None:
    settings = config(dataset, scheduler="ReduceLROnPlateau", scheduler_params={}, factor=0.5, patience=0, max_epochs=8)
    settings["optim"]["eval_every"] = 2
    trainer = make_trainer(settings, tmp_path)
    trainer.train(disable_eval_tqdm=True)
    assert trainer.scheduler.scheduler.last_epoch == 8  # validations, not steps
    del settings["dataset"]["val"]
    with pytest.raises(ValueError, match=r"ReduceLROnPlateau follows a metric: it needs dataset\.val"):
        make_trainer(settings, tmp_path / "without")


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"coefficient": 1}, "lacks 'fn'"),
        ({"fn": "mae"}, "lacks 'coefficient'"),
        ({"fn": "mae", "coefficient": 1, "coeff": 2}, "has unknown key 'coeff'"),
        ({"fn": "mae", "coefficient": "1e-3x"}, "coefficients are finite numbers, got '1e-3x'"),
        ({"fn": "mae", "coefficient": math.nan}, "coefficients are finite numbers, got nan"),
        ("mae", "must give fn and coefficient, got 'mae'"),
        ({"fn": "mae", "coefficient": 1, "reduction": "max"}, "reduction must be mean or sum, got 'max'"),
    ],
)
def test_a_wrong_loss_entry_is_named(entry: Any, message: str, dataset: dict[str, Any], tmp_path: Path) -> None:
    settings = config(dataset)
    settings["loss_functions"][0] = {"energy": entry}
    with pytest.raises(ValueError, match=f"loss_functions.energy.*{message}"):
        make_trainer(settings, tmp_path)


@pytest.mark.parametrize("fn", ["mae", "mse", "per_atom_mae"])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_losses_of_the_registry_and_their_reductions(
    fn: str, reduction: str, dataset: dict[str, Any], tmp_path: Path
) -> None:
    losses = [
        {"energy": {"fn": fn, "coefficient": 3, "reduction": reduction}},
        {"forces": {"fn": "l2mae", "coefficient": 5}},
    ]
    values = []
    for name in ("ev2_plugin.Trainer", "equiformerv2_forces"):
        settings = {**config(dataset), "trainer": name, "loss_functions": losses}
        trainer = make_trainer(settings, tmp_path / name)
        trainer.model.eval()
        (batch, *_) = batches(trainer)
        values.append(trainer._compute_loss(trainer._forward(batch), batch).item())
    assert values[0] == pytest.approx(values[1], rel=1e-6)
