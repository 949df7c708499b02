"""Held-out structures: predictions before and after tuning, by the metrics of `ev2 evaluate`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from ase.data import chemical_symbols

from ev2_plugin.data.predictions import StructurePrediction, read_s2ef_predictions
from ev2_plugin.data.stored import dataset_files, read_samples
from ev2_plugin.evaluation.breakdowns import evaluate_predictions
from ev2_plugin.evaluation.catalogue import identifier_of
from ev2_plugin.evaluation.output import as_json
from ev2_plugin.evaluation.predictions import score_predictions

PER_ATOM = "energy_mae_per_atom"
SHOWN = {
    "energy_mae": "energy MAE [eV]",
    PER_ATOM: "energy MAE per atom [eV]",
    "forces_mae": "force MAE [eV/Å]",
    "forces_cosine": "force cosine",
    "energy_within_threshold": "energies within 0.02 eV",
}


@dataclass(frozen=True)
class Judgement:
    """Errors on held-out structures.

    Attributes:
        split: `test`, or `val` if there is no test split.
        structures: How many.
        values: Metrics by name, by stage: `as it is` (only where references were fitted), `before` and `after` tuning.
        evaluations: All that `ev2 evaluate` says of the predictions, by stage.
    """

    split: str
    structures: int
    values: Mapping[str, Mapping[str, float]]
    evaluations: Mapping[str, Mapping[str, Any]]

    @property
    def improved(self) -> bool:
        """Whether tuning lowered the errors of energies and forces."""
        before, after = self.values["before"], self.values["after"]
        return all(after[name] < before[name] for name in ("energy_mae", "forces_mae"))


def judge(dataset: Path, predictions: Mapping[str, Path], shift: Mapping[str, float] | None) -> Judgement:
    """Compare predictions of several stages with the labels.

    Args:
        dataset: The split's folder.
        predictions: Files of predictions by stage.
        shift: What was added to the checkpoint's element references, eV by symbol; None if nothing was. The stage
            `as it is` is then the stage `before` without it.

    Raises:
        ValueError: If predictions are missing or not finite.
    """
    read = {stage: read_s2ef_predictions(path) for stage, path in predictions.items()}
    if shift is not None:
        read = {"as it is": _without(shift, read["before"], dataset), **read}
    values, evaluations = {}, {}
    for stage, predicted in read.items():
        scored = score_predictions(read_samples(dataset_files(dataset)), predicted, str(dataset))
        evaluation = evaluate_predictions(scored)
        per_atom = float((scored.energies.errors / scored.catalogue.natoms).mean())
        values[stage] = {name: one.value for name, one in evaluation.metrics.items()} | {PER_ATOM: per_atom}
        evaluations[stage] = as_json(evaluation, {"against": str(dataset), "stage": stage})
    return Judgement(dataset.name, len(next(iter(read.values()))), values, evaluations)


def _without(
    shift: Mapping[str, float], predicted: Mapping[str, StructurePrediction], dataset: Path
) -> dict[str, StructurePrediction]:
    table = np.array([shift.get(symbol, 0.0) for symbol in chemical_symbols])
    return {
        name: replace(predicted[name], energy=predicted[name].energy - float(table[data.atomic_numbers.numpy()].sum()))
        for _, data in read_samples(dataset_files(dataset))
        if (name := identifier_of(data)) in predicted
    }
