"""Learning curves from the text log of a training run."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

_METRIC = re.compile(r"(\w+): ([-+.\deE]+|nan|inf)(?=, |\s*$)")


@dataclass
class LearningCurve:
    """Metrics of one split along a run.

    Attributes:
        epochs: Where each value was logged.
        metrics: Values by name (`loss`, `energy_mae`, ...), each list as long as `epochs`.
    """

    epochs: list[float] = field(default_factory=list)
    metrics: dict[str, list[float]] = field(default_factory=dict)

    def append(self, metrics: dict[str, float]) -> None:
        """Add one line of the log.

        Args:
            metrics: Values by name, `epoch` among them.

        Raises:
            ValueError: If the names differ from those of the lines before.
        """
        names = set(metrics) - {"epoch"}
        if self.epochs and names != set(self.metrics):
            raise ValueError(f"metrics changed within a run: {sorted(self.metrics)} to {sorted(names)}")
        self.epochs.append(metrics["epoch"])
        for name in names:
            self.metrics.setdefault(name, []).append(metrics[name])


def parse_metrics(message: str) -> dict[str, float] | None:
    """Read one message of the trainer.

    Args:
        message: Text without the time and place that a log puts before it.

    Returns:
        Values by name if it lists the metrics of an epoch (`loss: 1.2e+00, ..., epoch: 0.5, step: 10`), with
        `step` in training and without in validation; None for any other message.
    """
    metrics = {name: float(value) for name, value in _METRIC.findall(message)}
    return metrics if {"loss", "epoch"} <= set(metrics) else None


def read_curves(messages: Iterable[str]) -> tuple[LearningCurve, LearningCurve]:
    """Collect the learning curves of a run.

    Args:
        messages: What the trainer said, line by line.

    Returns:
        The training curve, each value a mean since the one before, and the validation curve.
    """
    training, validation = LearningCurve(), LearningCurve()
    for message in messages:
        metrics = parse_metrics(message)
        if metrics is not None:
            (training if "step" in metrics else validation).append(metrics)
    return training, validation
