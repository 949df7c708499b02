"""How well a checkpoint keeps the symmetries of physics on given structures, and what breaks them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from ev2_plugin.integration.error_causes import Cause, Steps, advice
from ev2_plugin.integration.loaded_model import LoadedModel
from ev2_plugin.integration.loading import build_model
from ev2_plugin.integration.potential import ModelPotential, potential_of
from ev2_plugin.integration.symmetry_errors import Drawn, SymmetryError, evaluated, is_repeatable, symmetry_error
from ev2_plugin.integration.symmetry_operations import Symmetry, operations
from ev2_plugin.potential.structures import Structures

CLAIMED: tuple[Symmetry, ...] = ("rotation", "translation", "permutation", "periodic images", "batch")
NOT_CLAIMED: tuple[Symmetry, ...] = ("improper rotation",)
ROTATIONS, OTHERS = 4, 2
"""Operations of each kind that are drawn for each structure."""

FINER = (2, 4)
"""By how much finer grids are finer; the second only where the first does not explain most of the error."""

EXPLAINED = 0.1
"""A finer grid explains an error of which it leaves less than this."""


@dataclass(frozen=True)
class Finding:
    """One symmetry.

    Attributes:
        symmetry: Which.
        claimed: Whether the model is meant to keep it.
        measured: The error of the model as it is.
        float64: The error in float64; None for models of fairchem's own.
        cause: What most of the error of forces comes from.
        advice: What would lower it.
        steps: What is left of the error of forces without each cause; None where they are not told apart.
    """

    symmetry: Symmetry
    claimed: bool
    measured: SymmetryError
    float64: SymmetryError | None
    cause: Cause
    advice: str
    steps: Steps | None


@dataclass(frozen=True)
class EquivarianceReport:
    """All that was measured.

    Attributes:
        structures: Names of the structures.
        precision: Dtype of the weights, and `precision`.
        grid_resolution: Latitudes and longitudes of the sphere grid; None if there is none.
        max_neighbors: The neighbour limit; None if it is not known.
        mean_force: Mean length of the predicted forces, meV/Å.
        repeatable: Whether a second call gave the same bits.
        findings: One for each symmetry.
        seed: Of the operations.
    """

    structures: tuple[str, ...]
    precision: str
    grid_resolution: tuple[int, int] | None
    max_neighbors: int | None
    mean_force: float
    repeatable: bool
    findings: tuple[Finding, ...]
    seed: int

    @property
    def faults(self) -> list[str]:
        """Why the model is not what it claims to be; empty if it is."""
        broken = [one.symmetry for one in self.findings if one.claimed and one.cause == "model"]
        found = [f"{symmetry} is broken by the model itself" for symmetry in broken]
        return found if self.repeatable else [*found, "two calls do not give the same bits"]


def equivariance_report(
    model: LoadedModel,
    structures: Sequence[Structures],
    *,
    seed: int = 0,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> EquivarianceReport:
    """Measure every symmetry, in the model's precision and in float64, and find the cause of each error.

    Args:
        model: The model.
        structures: One each; a few small ones will do, as each takes some sixty evaluations.
        seed: Of the operations.
        on_progress: Called with the evaluations done and those expected.

    Raises:
        ValueError: If there are no structures, or naming one that the model cannot take.
    """
    if not structures:
        raise ValueError("there are no structures to measure on")
    structures = [one.to(model.device) for one in structures]
    measure = _Measurement(model, structures, seed, on_progress)
    before = [evaluated(model.potential, one)["forces"] for one in structures]
    mean_force = 1000 * float(torch.linalg.vector_norm(torch.cat(before), dim=1).mean())
    findings = tuple(
        measure.finding(symmetry, mean_force) for symmetry in (*CLAIMED, *NOT_CLAIMED) if measure.has(symmetry)
    )
    measure.finish()
    dtype = str(next(model.potential.model.parameters()).dtype).removeprefix("torch.")
    config = model.potential.backbone.config if isinstance(model.potential, ModelPotential) else None
    return EquivarianceReport(
        structures=tuple(one.ids[0] for one in structures),
        precision=dtype if config is None else f"{dtype}, precision: {config.precision}",
        grid_resolution=_grid_of(model.potential),
        max_neighbors=None if config is None else config.max_neighbors,
        mean_force=mean_force,
        repeatable=is_repeatable(model.potential, structures),
        findings=findings,
        seed=seed,
    )


class _Measurement:
    """One model, the structures and the operations that are drawn for them."""

    def __init__(
        self, model: LoadedModel, structures: list[Structures], seed: int, on_progress: Callable[[int, int], None]
    ) -> None:
        self.model, self.structures = model, structures
        self.drawn: Drawn = [operations(one, seed, ROTATIONS, OTHERS) for one in structures]
        self.exact = variant(model, torch.float64) if isinstance(model.potential, ModelPotential) else None
        self._done, self._on_progress = 0, on_progress
        every = sum(len(some) for one in self.drawn for some in one.values())
        rotations = len(structures) * ROTATIONS
        self._expected = every if self.exact is None else 2 * every + (2 + len(FINER)) * rotations

    def has(self, symmetry: Symmetry) -> bool:
        """Whether there is anything to measure."""
        return symmetry == "batch" or any(one.get(symmetry) for one in self.drawn)

    def finding(self, symmetry: Symmetry, mean_force: float) -> Finding:
        """Measure one symmetry."""
        measured, claimed = self.error(self.model.potential, symmetry), symmetry in CLAIMED
        if self.exact is None:
            cause: Cause = "not told apart"
            return Finding(symmetry, claimed, measured, None, cause, "", None)
        float64 = self.error(self.exact, symmetry)
        if not claimed:
            return Finding(symmetry, claimed, measured, float64, "model", "", None)
        steps = self.steps(symmetry, measured, float64, mean_force)
        precision = self.exact.backbone.config.precision
        return Finding(symmetry, claimed, measured, float64, steps.cause, advice(steps.cause, steps, precision), steps)

    def steps(self, symmetry: Symmetry, measured: SymmetryError, float64: SymmetryError, mean_force: float) -> Steps:
        """Take one cause after the other away."""
        assert self.exact is not None
        edges, exact = measured.forces, float64.forces
        if measured.other_edges or float64.other_edges:
            edges = self.error(self.model.potential, symmetry, same_edges=True).forces
            exact = self.error(self.exact, symmetry, same_edges=True).forces
        turned = symmetry == "rotation" or self.exact.backbone.gauge_generator is not None
        finer = dict(self._finer(symmetry, exact)) if turned else {}
        return Steps(measured.forces, edges, exact, finer, mean_force)

    def _finer(self, symmetry: Symmetry, exact: float) -> Iterator[tuple[int, float]]:
        """Errors on finer grids, which decide how the edge frames' turn matters."""
        shape = _grid_of(self.exact)
        if shape is None:
            return
        for factor in FINER:
            resolution = factor * (max(shape) + max(shape) % 2)
            finer = variant(self.model, torch.float64, resolution)
            left = self.error(finer, symmetry, same_edges=True).forces
            yield resolution, left
            if left < EXPLAINED * exact:
                return

    def finish(self) -> None:
        """Say that no more evaluations are to come: once a cause is found, further ones are not made."""
        self._on_progress(self._done, self._done)

    def error(self, potential: Any, symmetry: Symmetry, *, same_edges: bool = False) -> SymmetryError:
        def count() -> None:
            self._done += 1
            self._on_progress(self._done, max(self._expected, self._done))

        return symmetry_error(
            potential, self.structures, self.drawn, symmetry, same_edges=same_edges, on_evaluation=count
        )


def variant(model: LoadedModel, dtype: torch.dtype, grid_resolution: int | None = None) -> ModelPotential:
    """The same weights in another precision, and on other sphere grids.

    Args:
        model: A model of the plugin.
        dtype: Of the weights.
        grid_resolution: Instead of the model's own.
    """
    settings = dict(model.config["model"])
    network = dict(settings.get("backbone") or settings)
    network |= {"compile": False, "cuda_graph_atoms": None}  # other ways to run the same operations
    if network.get("backend") == "triton":
        network["backend"] = "auto"  # which knows what does without it
    if grid_resolution is not None:
        network["grid_resolution"] = grid_resolution
    settings = {**settings, "backbone": network} if settings.get("backbone") else network
    made = build_model(settings)
    made.load_state_dict(model.potential.model.state_dict())
    made = made.to(model.device, dtype).eval()
    found = potential_of(made, model.potential.outputs, model.potential.energy_kind)
    assert isinstance(found, ModelPotential)
    return found


def _grid_of(potential: Any) -> tuple[int, int] | None:
    """The finer one of the two grids that a model has; None if it has none."""
    if not isinstance(potential, ModelPotential):
        return None
    config = potential.backbone.config
    if config.use_gate_act and not config.use_grid_mlp:
        return None
    return config.sphere.node_grid.shape


def as_plain(report: EquivarianceReport) -> dict[str, Any]:
    """What `--json` prints: units are meV, meV/Å and meV/Å^3."""
    content = dataclasses.asdict(report)
    for plain, finding in zip(content["findings"], report.findings, strict=True):
        plain["parts"] = finding.steps and finding.steps.parts
    return {**content, "faults": report.faults}
