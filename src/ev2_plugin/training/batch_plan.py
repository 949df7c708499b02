"""How many structures one optimiser step sees, and from where."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class BatchPlan:
    """One optimiser step: `ranks` processes, each with `accumulation` batches of `batch_size` structures.

    Attributes:
        ranks: Processes.
        batch_size: Structures per process and forward pass.
        accumulation: Forward passes per optimiser step.
    """

    ranks: int
    batch_size: int
    accumulation: int

    @property
    def global_batch_size(self) -> int:
        """Structures per optimiser step."""
        return self.ranks * self.batch_size * self.accumulation

    def __str__(self) -> str:
        return (
            f"{self.ranks} x {self.batch_size} x {self.accumulation} (processes x batch_size x accumulation) = "
            f"{self.global_batch_size} structures a step"
        )


def plan_batches(optim: Mapping[str, Any], ranks: int) -> BatchPlan:
    """Read `batch_size`, `global_batch_size` and `grad_accumulation_steps`; what the processes lack is accumulated.

    Args:
        optim: The `optim` section of a config.
        ranks: Processes of the run.

    Raises:
        ValueError: If one of them is no positive integer.
    """
    for name in ("batch_size", "global_batch_size", "grad_accumulation_steps"):
        if name == "batch_size" or optim.get(name) is not None:
            check_count(name, optim.get(name))
    batch_size, wanted = optim["batch_size"], optim.get("global_batch_size")
    accumulation = optim.get("grad_accumulation_steps")
    if accumulation is None:
        accumulation = 1 if wanted is None else max(wanted // (ranks * batch_size), 1)
    return BatchPlan(ranks, batch_size, accumulation)


def check_count(name: str, value: object) -> None:
    """Refuse what is no number of things.

    Raises:
        ValueError: If `value`, of the key `name` in `optim`, is no positive integer.
    """
    if not (type(value) is int and value > 0):
        raise ValueError(f"optim.{name} must be a positive integer, got {value!r}")


def check_global_batch_size(plan: BatchPlan, wanted: int | None) -> None:
    """Compare a plan with the global batch size that the recipe states.

    Args:
        plan: What the run would do.
        wanted: `optim.global_batch_size`; None if the recipe does not care.

    Raises:
        ValueError: If they differ, with the numbers that would fit.
    """
    if wanted is None or plan.global_batch_size == wanted:
        return
    share, rest = divmod(wanted, plan.ranks)
    advice = (
        f"start a number of processes that divides {wanted}"
        if rest
        else f"give optim.batch_size one of {', '.join(str(n) for n in range(1, share + 1) if share % n == 0)} and "
        "leave grad_accumulation_steps out"
    )
    raise ValueError(f"optim.global_batch_size is {wanted}, but {plan}: {advice}, or change the global batch size")
