"""Why a symmetry is broken: what is left of an error when one cause after the other is taken away.

The order is: the edges that a neighbour limit takes among equally distant atoms, then the precision, then the
resolution of the sphere grids. What is left then is the model's own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Cause = Literal["none", "neighbour limit", "precision", "grid resolution", "model", "not told apart"]

SMALL = 1e-9
"""Of the mean force: an error below is none, whatever it comes from."""

MEANINGS: Mapping[Cause, str] = {
    "none": "there is no error",
    "neighbour limit": "the neighbour limit cuts among equally distant atoms, and rounding decides which of them stay",
    "precision": "rounding",
    "grid resolution": "activations on sphere grids of finite resolution",
    "model": "neither edges nor rounding nor grids: the model itself is not built to keep this symmetry",
    "not told apart": "the causes can be told apart for models of ev2_plugin only",
}


@dataclass(frozen=True)
class Steps:
    """Mean deviation of forces in meV/Å, one cause after the other taken away.

    Attributes:
        measured: As the model is.
        same_edges: With the edges of the unchanged structures.
        float64: In float64 besides.
        finer_grids: In float64 with the same edges, by resolution of the sphere grid, ascending; empty without.
        mean_force: Mean length of a force, meV/Å.
    """

    measured: float
    same_edges: float
    float64: float
    finer_grids: Mapping[int, float]
    mean_force: float

    @property
    def left(self) -> float:
        """What no known cause explains."""
        return min([self.float64, *self.finer_grids.values()])

    @property
    def parts(self) -> dict[Cause, float]:
        """What each cause adds to the error, meV/Å."""
        return {
            "neighbour limit": max(self.measured - self.same_edges, 0.0),
            "precision": max(self.same_edges - self.float64, 0.0),
            "grid resolution": max(self.float64 - self.left, 0.0),
            "model": self.left,
        }

    @property
    def cause(self) -> Cause:
        """The largest part; none where the error is nothing beside the forces."""
        if self.measured <= SMALL * self.mean_force:
            return "none"
        parts = self.parts
        return max(parts, key=lambda name: parts[name])


def advice(cause: Cause, steps: Steps, precision: str) -> str:
    """What would lower an error.

    Args:
        cause: Its largest cause.
        steps: What was measured.
        precision: The model's `precision`.
    """
    if cause == "grid resolution":
        best = ", ".join(f"{value:.2g} meV/Å at {resolution}" for resolution, value in steps.finer_grids.items())
        return f"a larger grid_resolution, which changes no weight (in float64 {best}); use_gate_act has no grids"
    if cause == "precision":
        if precision != "highest":
            return f"precision: highest instead of {precision}; in float64 it is {steps.float64:.2g} meV/Å"
        return f"nothing but float64, with {steps.float64:.2g} meV/Å"
    if cause == "neighbour limit":
        return (
            "enforce_max_neighbors_strictly: false, which keeps all that are equally near, or a larger max_neighbors; "
            f"with the same edges it is {steps.same_edges:.2g} meV/Å"
        )
    return ""
