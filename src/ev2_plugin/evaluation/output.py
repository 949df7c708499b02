"""What an evaluation leaves in a folder: metrics.json, per_structure.npz and figures."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from ev2_plugin.evaluation.breakdowns import Evaluation
from ev2_plugin.evaluation.definitions import DEFINITIONS
from ev2_plugin.evaluation.estimates import Estimate
from ev2_plugin.evaluation.figures import save_by_adsorbate, save_by_element, save_parity, save_thresholds
from ev2_plugin.evaluation.predictions import ScoredPredictions
from ev2_plugin.evaluation.relaxations import ScoredRelaxations
from ev2_plugin.evaluation.thresholds import DISTANCE_THRESHOLDS, RELAXED_FORCE_THRESHOLDS

METRICS_FILE = "metrics.json"
ARRAYS_FILE = "per_structure.npz"
_VERSIONS = ("ev2-plugin", "numpy", "ase", "torch")


def as_json(evaluation: Evaluation, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Give the content of metrics.json.

    Args:
        evaluation: The averages.
        inputs: What was evaluated, against what and how.
    """
    return {
        "evaluated": evaluation.subject,
        "inputs": dict(inputs),
        "structures": evaluation.structures,
        "systems": evaluation.systems,
        "metrics": {
            name: {
                **asdict(value),
                "unit": DEFINITIONS[name].unit,
                "definition": DEFINITIONS[name].text,
            }
            for name, value in evaluation.metrics.items()
        },
        "by": {
            grouping: {group: _plain(estimates) for group, estimates in groups.items()}
            for grouping, groups in evaluation.breakdowns.items()
        },
        "versions": {name: version(name) for name in _VERSIONS},
    }


def write_predictions(folder: Path, scored: ScoredPredictions, evaluation: Evaluation, content: dict[str, Any]) -> None:
    """Write what is known of predictions into a folder, made if missing; files of an earlier call are replaced.

    Args:
        folder: The folder.
        scored: Labels and predictions.
        evaluation: Their averages.
        content: As `as_json` makes it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    energies = scored.energies
    arrays = {
        "ids": scored.catalogue.ids,
        "energy_label": energies.labels,
        "energy_prediction": energies.predictions,
    }
    names = ["energy_mae"]
    _save_energies(folder, energies.labels, energies.predictions, "energy")
    if scored.forces is not None:
        tally = scored.forces.tallies()["forces_mae"]
        arrays |= {"forces_mae": tally.sums / tally.counts, "largest_force_error": scored.forces.largest_errors}
        names = ["forces_mae", "energy_mae"]
        save_parity(
            folder / "force_parity.png",
            scored.forces.labels.ravel(),
            scored.forces.predictions.ravel(),
            quantity="force component",
            unit="eV/Å",
            members="components",
        )
    save_by_element(folder / "by_element.png", evaluation, names)
    save_by_adsorbate(folder / "by_adsorbate.png", evaluation, names[::-1])
    _finish(folder, arrays, content)


def write_relaxations(folder: Path, scored: ScoredRelaxations, evaluation: Evaluation, content: dict[str, Any]) -> None:
    """Write what is known of relaxations; arguments as in `write_predictions`."""
    folder.mkdir(parents=True, exist_ok=True)
    arrays = {"ids": scored.catalogue.ids, "distance": scored.distances}
    names = ["distance"]
    save_thresholds(
        folder / "distance_thresholds.png",
        scored.distances,
        DISTANCE_THRESHOLDS,
        score="ADwT",
        quantity="mean distance from the reference",
        unit="Å",
    )
    if scored.largest_forces is not None:
        arrays["largest_force"] = scored.largest_forces
        names.append("largest_force")
        save_thresholds(
            folder / "force_thresholds.png",
            scored.largest_forces,
            RELAXED_FORCE_THRESHOLDS,
            score="AFbT",
            quantity="largest force",
            unit="eV/Å",
        )
    if scored.energies is not None:
        arrays |= {"energy_label": scored.energies.labels, "energy_prediction": scored.energies.predictions}
        names.insert(0, "energy_mae")
        _save_energies(folder, scored.energies.labels, scored.energies.predictions, "relaxed energy")
    save_by_element(folder / "by_element.png", evaluation, names)
    save_by_adsorbate(folder / "by_adsorbate.png", evaluation, names)
    _finish(folder, arrays, content)


def _save_energies(folder: Path, labels: np.ndarray, predictions: np.ndarray, quantity: str) -> None:
    path = folder / "energy_parity.png"
    save_parity(path, labels, predictions, quantity=quantity, unit="eV", members="structures")


def _finish(folder: Path, arrays: Mapping[str, np.ndarray], content: dict[str, Any]) -> None:
    """Write the arrays, then the metrics: where these are, all is there."""
    np.savez_compressed(folder / ARRAYS_FILE, **arrays)
    partial = folder / f".{METRICS_FILE}.{os.getpid()}"
    partial.write_text(json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")
    partial.replace(folder / METRICS_FILE)


def _plain(estimates: Mapping[str, Estimate]) -> dict[str, dict[str, Any]]:
    return {name: asdict(value) for name, value in estimates.items()}
