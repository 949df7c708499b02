"""How structures are relaxed, and how many at once."""

from __future__ import annotations

from dataclasses import dataclass, field

from ev2_plugin.relax.lbfgs import LBFGS
from ev2_plugin.relax.optimizer import Optimizer


@dataclass(frozen=True)
class Budget:
    """How much a batch may hold; a structure that alone exceeds it is relaxed alone.

    Args:
        max_edges: Most edges, or atoms where the potential has no edges; None for no limit.
        max_structures: Most structures; None for no limit.

    Raises:
        ValueError: If a limit is below 1.
    """

    max_edges: int | None = None
    max_structures: int | None = None

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, or None for no limit, got {value}")

    def holds(self, edges: int, structures: int) -> bool:
        """Whether a batch of this size is within the limits."""
        return (self.max_edges is None or edges <= self.max_edges) and (
            self.max_structures is None or structures <= self.max_structures
        )


@dataclass(frozen=True)
class Settings:
    """How structures are relaxed.

    Args:
        optimizer: `LBFGS` or `FIRE`.
        fmax: A structure is done when no free atom feels a larger force [eV/Å]; at 0 all steps are taken.
        max_steps: Steps after which it is given up.
        budget: How much a batch may hold.

    Raises:
        ValueError: If a number cannot be right.
    """

    optimizer: Optimizer = field(default_factory=LBFGS)
    fmax: float = 0.02
    max_steps: int = 300
    budget: Budget = field(default_factory=lambda: Budget(max_structures=16))

    def __post_init__(self) -> None:
        if not self.fmax >= 0:
            raise ValueError(f"fmax must be a force in eV/Å, 0 or more, got {self.fmax}")
        if self.max_steps < 0:
            raise ValueError(f"max_steps must be 0 or more, got {self.max_steps}")
