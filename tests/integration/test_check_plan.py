"""Steps and learning rates by arithmetic against those of samplers and trainers."""

from pathlib import Path
from typing import Any

import pytest
from torch.utils.data import BatchSampler, DistributedSampler

from ev2_plugin.integration.check.plan import TrainingPlan, plan_training
from ev2_plugin.training.batch_plan import BatchPlan
from ev2_plugin.training.schedule import CosineSchedule
from helpers.trainers import config, make_trainer


@pytest.mark.parametrize("structures", [1, 7, 64, 65])
@pytest.mark.parametrize("ranks", [1, 3, 8])
@pytest.mark.parametrize("batch_size", [1, 4])
def test_batches_are_those_of_the_sampler(structures: int, ranks: int, batch_size: int) -> None:
    sampler = DistributedSampler(range(structures), num_replicas=ranks, rank=0)
    plan = TrainingPlan(BatchPlan(ranks, batch_size, 1), structures, 1, 1e-3, "Null")
    assert plan.batches_per_epoch == len(BatchSampler(sampler, batch_size, drop_last=False))


@pytest.mark.parametrize("optim", [{}, {"batch_size": 1, "global_batch_size": 2}, {"max_epochs": 5, "batch_size": 3}])
def test_plan_is_that_of_the_trainer(optim: dict[str, Any], dataset: dict[str, Any], tmp_path: Path) -> None:
    given = config(dataset, **optim)
    trainer = make_trainer(given, tmp_path)
    plan = plan_training({**given, "world_size": 1}, len(trainer.train_dataset))
    assert plan.batches == trainer.batches
    assert plan.batches_per_epoch == len(trainer.train_loader)
    assert plan.steps_per_epoch == trainer.steps_per_epoch
    assert plan.total_steps == trainer.total_steps
    factor = trainer._schedule()["lr_lambda"]
    assert [plan.schedule(step) for step in range(plan.total_steps + 2)] == [
        factor(step) for step in range(plan.total_steps + 2)
    ]
    assert plan.peak_rate * plan.schedule(0) == pytest.approx(trainer.scheduler.get_lr())


def test_paper() -> None:
    """The base model: 2 million structures, 16 processes of 4, 12 epochs, a tenth of an epoch to warm up."""
    optim = {
        "batch_size": 4,
        "global_batch_size": 64,
        "max_epochs": 12,
        "lr_initial": 2e-4,
        "scheduler": "LambdaLR",
        "scheduler_params": {
            "lambda_type": "cosine",
            "warmup_epochs": 0.1,
            "warmup_factor": 0.2,
            "lr_min_factor": 0.01,
        },
    }
    plan = plan_training({"trainer": "ev2", "optim": optim, "world_size": 16}, 2_000_000)
    assert plan.batches == BatchPlan(16, 4, 1)
    assert (plan.steps_per_epoch, plan.total_steps) == (31_250, 375_000)
    assert plan.schedule == CosineSchedule(3125, 375_000, 0.2, 0.01)
    four = plan_training({"trainer": "ev2", "optim": optim, "world_size": 4}, 2_000_000)
    assert four.batches == BatchPlan(4, 4, 4)
    assert four.total_steps == 375_000


def test_other_schedules_are_named() -> None:
    optim = {"batch_size": 2, "max_epochs": 1, "lr_initial": 1e-3}
    assert plan_training({"optim": optim, "world_size": 1}, 4).schedule == "the host's warm-up by steps"
    optim["scheduler"] = "StepLR"
    assert plan_training({"optim": optim, "world_size": 1}, 4).schedule == "StepLR"
