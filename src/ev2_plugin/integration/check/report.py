"""What a dry run finds, as numbers."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from ev2_plugin.integration.check.labels import LabelFacts
from ev2_plugin.integration.check.memory import TrainingMemory
from ev2_plugin.integration.check.plan import TrainingPlan
from ev2_plugin.integration.check.survey import Survey


@dataclass(frozen=True)
class StepFacts:
    """One training step and one validation batch that ran.

    Attributes:
        device: Where, `cpu (1 thread)` or the name of the GPU.
        structures: Structures of the training batch.
        atoms: Their atoms.
        edges: Their edges.
        seconds: What the training step took.
        loss: The loss before the step.
        metrics: Metrics of the validation batch by name; empty without a validation set.
        peak_bytes: Most memory that was allocated on the GPU; None on CPUs, where nobody counts.
    """

    device: str
    structures: int
    atoms: int
    edges: int
    seconds: float
    loss: float
    metrics: dict[str, float]
    peak_bytes: int | None

    @property
    def edges_per_atom(self) -> float:
        """Mean number of neighbours."""
        return self.edges / self.atoms


@dataclass(frozen=True)
class CheckReport:
    """A config that would run.

    Attributes:
        model: Its class.
        trainer: As the config names it.
        backbone_parameters: Number of trained and fixed parameters outside the heads.
        head_parameters: The same in each head, by name.
        surveys: A look at each split, the training split first.
        labels: Labels of the training sample by target.
        energy_kind: Which energy the labels look like, in words; None without energies.
        plan: Steps, epochs, learning rates.
        step: The step that ran.
        scale: Edges of a batch of the configured size over those of the batch that ran.
        memory: Of training at the configured batch size.
        warnings: What may be a mistake.
    """

    model: str
    trainer: str
    backbone_parameters: int
    head_parameters: dict[str, int]
    surveys: tuple[Survey, ...]
    labels: tuple[LabelFacts, ...]
    energy_kind: str | None
    plan: TrainingPlan
    step: StepFacts
    scale: float
    memory: TrainingMemory
    warnings: tuple[str, ...]

    @property
    def parameters(self) -> int:
        """All parameters."""
        return self.backbone_parameters + sum(self.head_parameters.values())

    @property
    def seconds_per_step(self) -> float:
        """Estimated time of an optimiser step, with all batches that it accumulates, on the device of the dry run."""
        return self.step.seconds * self.scale * self.plan.batches.accumulation

    def as_dict(self) -> dict[str, Any]:
        """Everything as JSON has it; times in seconds, memory in bytes."""
        return {
            "model": self.model,
            "trainer": self.trainer,
            "parameters": self.parameters,
            "backbone_parameters": self.backbone_parameters,
            "head_parameters": self.head_parameters,
            "splits": {
                one.split: {
                    "structures": one.structures,
                    "fewest_atoms": min(one.natoms),
                    "most_atoms": max(one.natoms),
                    "mean_atoms": one.mean_atoms,
                    "sampled": len(one.natoms),
                }
                for one in self.surveys
            },
            "edges_per_atom": self.step.edges_per_atom,
            "labels": [asdict(facts) for facts in self.labels],
            "energy_kind": self.energy_kind,
            "plan": self.plan.as_dict(),
            "step": asdict(self.step),
            "seconds_per_step": self.seconds_per_step,
            "memory": {**asdict(self.memory), "total": self.memory.total},
            "warnings": list(self.warnings),
        }
