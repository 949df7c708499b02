"""What was aimed at, beside what the result files say."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Rows = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Target:
    """A ratio, the host's figure over ours, that should be reached.

    Attributes:
        device: Where.
        what: In words.
        goal: The ratio.
        file: Name of the result file, without device.
        quantity: `seconds` or `peak_mb`.
        host: Whose figure is divided.
        ours: By whose.
        choose: The rows that count.
    """

    device: str
    what: str
    goal: float
    file: str
    quantity: str
    host: str
    ours: str
    choose: Callable[[Rows], Rows]

    def ratios(self, rows: Rows) -> dict[str, float]:
        """The ratio of every row that has both figures, by the row's name."""
        return {
            name_of(row): figure(row, self.quantity, self.host) / figure(row, self.quantity, self.ours)
            for row in self.choose(rows)
            if self.host in row[self.quantity] and self.ours in row[self.quantity]
        }


def figure(row: Mapping[str, Any], quantity: str, way: str) -> float:
    """Median seconds, or megabytes."""
    value = row[quantity][way]
    return value["median"] if quantity == "seconds" else value


def name_of(row: Mapping[str, Any]) -> str:
    """What tells a row from the others, in a few words."""
    model = str(row.get("model", ""))
    if "batch_size" in row:
        return f"{model}, batch {row['batch_size']}"
    return ", ".join(word for word in (model, f"{row['atoms']} atoms") if word)


def _largest_batches(task: str) -> Callable[[Rows], Rows]:
    """The largest batch of each model that both sides could run."""

    def choose(rows: Rows) -> Rows:
        of_task = [row for row in rows if row["task"] == task and "host" in row["seconds"]]
        largest = {row["model"]: max(r["batch_size"] for r in of_task if r["model"] == row["model"]) for row in of_task}
        return [row for row in of_task if row["batch_size"] == largest[row["model"]]]

    return choose


def _all(rows: Rows) -> Rows:
    return rows


def _thousand_atoms(rows: Rows) -> Rows:
    return sorted(rows, key=lambda row: abs(row["atoms"] - 1000))[:1]


def _of_task(task: str) -> Callable[[Rows], Rows]:
    return lambda rows: [row for row in rows if row["task"] == task]


INFERENCE, TRAINING = _largest_batches("inference"), _largest_batches("training")
ANY_INFERENCE, ANY_TRAINING = _of_task("inference"), _of_task("training")
MODELS, LATENCY = "inference_training", "latency"

TARGETS = (
    Target("cpu", "inference, full batch", 2.5, MODELS, "seconds", "host", "ours", INFERENCE),
    Target(
        "cpu", "inference, `bf16`, an aim for CPUs with AMX", 5, MODELS, "seconds", "host", "ours, bf16", ANY_INFERENCE
    ),
    Target("cpu", "training step", 2, MODELS, "seconds", "host", "ours", TRAINING),
    Target("cpu", "one structure of 80 atoms", 2, LATENCY, "seconds", "host", "ours", _all),
    Target("cpu", "peak memory, training", 4, MODELS, "peak_mb", "host", "ours", TRAINING),
    Target(
        "cpu", "peak memory, training, edges again", 4, MODELS, "peak_mb", "host", "ours, edges again", ANY_TRAINING
    ),
    Target("cpu", "peak memory, inference", 4, MODELS, "peak_mb", "host", "ours", INFERENCE),
    Target("cpu", "neighbour search, 1,000 atoms", 10, "neighbors", "seconds", "host", "ours", _thousand_atoms),
    Target("cuda", "inference, full batch, `high`", 4.5, MODELS, "seconds", "host", "ours, high", INFERENCE),
    Target("cuda", "inference, full batch, `tf32`", 6, MODELS, "seconds", "host", "ours, tf32", INFERENCE),
    Target("cuda", "training step, `high` against fp32", 4, MODELS, "seconds", "host", "ours, high", TRAINING),
    Target("cuda", "training step, `high` against `--amp`", 5, MODELS, "seconds", "host, fp16", "ours, high", TRAINING),
    Target("cuda", "one structure of 80 atoms", 5, LATENCY, "seconds", "host", "ours, CUDA graph", _all),
    Target(
        "cuda", "peak memory, training, edges again", 8, MODELS, "peak_mb", "host", "ours, edges again", ANY_TRAINING
    ),
    Target("cuda", "peak memory, inference", 6, MODELS, "peak_mb", "host", "ours", INFERENCE),
    Target("cuda", "neighbour search, 1,000 atoms", 10, "neighbors", "seconds", "host", "ours", _thousand_atoms),
)
