"""OMat24's fine-tuning on much data, and on little."""

from pathlib import Path
from typing import Any

import pytest

from ev2_plugin.finetuning.recipe import settings
from ev2_plugin.finetuning.request import Request


def request(**options: Any) -> Request:
    return Request(sources=(Path("a"),), checkpoint=Path("c.pt"), out=Path("out"), **options)


def test_much_data_are_tuned_on_as_omat24_was() -> None:
    made = settings(request(), 3_000_000)
    assert made.notes == ()
    assert {key: made.optim[key] for key in ("global_batch_size", "lr_initial", "max_epochs", "ema_decay")} == {
        "global_batch_size": 256,
        "lr_initial": 2e-4,
        "max_epochs": 16,
        "ema_decay": 0.999,
    }
    assert made.optim["scheduler_params"]["warmup_epochs"] == 0.01
    assert made.optim["optimizer_params"] == {"weight_decay": 0.001}
    assert made.optim["clip_grad_norm"] == 100
    assert made.losses == [
        {"energy": {"fn": "per_atom_mae", "coefficient": 2.5}},
        {"forces": {"fn": "l2mae", "coefficient": 10.0}},
    ]


@pytest.mark.parametrize(("structures", "batch"), [(1, 1), (39, 1), (40, 2), (230, 8), (1000, 32), (6000, 256)])
def test_a_step_takes_at_most_a_twentieth_of_little_data(structures: int, batch: int) -> None:
    assert settings(request(), structures).optim["global_batch_size"] == batch


def test_every_change_of_the_recipe_is_told() -> None:
    made = settings(request(), 230)
    steps, warm_up, averages = made.notes
    assert "steps of 8 instead of 256 structures" in steps
    assert "warm-up" in warm_up
    assert f"{made.optim['ema_decay']:.4g} instead of 0.999" in averages
    assert made.steps == 29 * 16  # the last step of an epoch takes what is left
    assert 1 / (1 - made.optim["ema_decay"]) == pytest.approx(46.4, rel=1e-3)
    assert made.optim["scheduler_params"]["warmup_epochs"] * 29 == pytest.approx(0.05 * made.steps)


@pytest.mark.parametrize(("batch", "ranks", "micro"), [(12, 1, 6), (16, 2, 8), (7, 1, 7), (22, 2, 1), (256, 4, 8)])
def test_processes_share_a_batch_and_accumulate_the_rest(batch: int, ranks: int, micro: int) -> None:
    optim = settings(request(batch_size=batch, num_gpus=ranks), 500).optim
    assert (optim["global_batch_size"], optim["batch_size"]) == (batch, micro)
    assert batch % (ranks * micro) == 0


def test_steps_are_counted_as_processes_make_them() -> None:
    assert settings(request(batch_size=4, num_gpus=2, epochs=6), 10).steps == 18  # 3 of 2 x 2 in an epoch
    assert settings(request(batch_size=16, epochs=3), 20).steps == 5  # 3 batches of 8 in an epoch, two make a step


def test_a_batch_that_processes_cannot_share_is_refused() -> None:
    with pytest.raises(ValueError, match="--batch-size 7 cannot be shared by 2 processes: give a multiple of 2"):
        settings(request(batch_size=7, num_gpus=2), 100)


def test_options_of_the_training_are_those_of_any_run_file() -> None:
    optim = settings(request(freeze="blocks:2", patience=3, precision="bf16"), 100).optim
    assert (optim["freeze"], optim["early_stopping"], optim["precision"]) == ("blocks:2", 3, "bf16")
    assert not {"freeze", "early_stopping"} & set(settings(request(), 100).optim)
