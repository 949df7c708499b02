"""What runs, but may be a mistake."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ev2_plugin.integration.check.labels import LabelFacts
from ev2_plugin.integration.check.plan import TrainingPlan
from ev2_plugin.integration.check.report import StepFacts
from ev2_plugin.integration.check.survey import Survey
from ev2_plugin.model.config import ModelConfig
from ev2_plugin.training.schedule import CosineSchedule


def advise(
    config: Mapping[str, Any],
    model: ModelConfig,
    plan: TrainingPlan,
    surveys: Sequence[Survey],
    labels: Sequence[LabelFacts],
    step: StepFacts,
) -> Iterator[str]:
    """Yield a sentence for each thing to think about.

    Args:
        config: The run's config.
        model: Hyper-parameters of its model.
        plan: Steps and learning rates.
        surveys: Of the splits, the training split first.
        labels: Of the training sample.
        step: The step that ran.
    """
    optim, training = config["optim"], surveys[0]
    if not config.get("loss_functions"):
        yield "the config has the old form, which the host converts: its keys were not checked"
    if "val" not in [survey.split for survey in surveys]:
        yield "no validation set (dataset.val.src): no errors are told and best_checkpoint.pt is not written"
    if not optim.get("ema_decay"):
        yield "weights are not averaged (optim.ema_decay)"
    if plan.batches.global_batch_size > training.structures:
        yield (
            f"a step takes {plan.batches.global_batch_size} structures, but there are only {training.structures}: "
            "a step sees structures again or takes fewer"
        )
    if isinstance(plan.schedule, CosineSchedule) and plan.schedule.warmup_steps == 0:
        yield "the warm-up has no step: training starts at the largest learning rate"
    for facts in labels:
        if not facts.fits:
            yield facts.advice
        elif facts.normalizer is None:
            yield f"the labels of {facts.target!r} are not normalised (dataset.train.transforms.normalizer)"
    if plan.batches.ranks > 1 and not training.has_metadata:
        yield (
            "dataset.train has no metadata.npz: batches are not balanced, and processes wait for the one with the "
            "largest structures (`ev2 data prepare` writes it)"
        )
    if step.peak_bytes is None and (optim.get("precision") == "fp16" or config["amp"]):
        yield "fp16 is slow on CPUs: the time says nothing about GPUs (--optim.precision=fp32 is checked sooner)"
    if model.activation_checkpoint != "none":
        yield (
            "activation_checkpoint: what is computed again in the backward pass is not in the activations "
            "(`ev2 estimate` counts it)"
        )
