"""Predictions for structures from files: what `ev2 predict` does."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

from ev2_plugin.integration.batch_prediction import Predicted
from ev2_plugin.integration.energy_kind import EnergyKind
from ev2_plugin.integration.label_errors import LabelErrors, label_errors
from ev2_plugin.integration.loaded_model import LoadedModel
from ev2_plugin.integration.relaxation_input import NamedStructure, read_structures
from ev2_plugin.integration.relaxation_structures import FORMATS, write_structures
from ev2_plugin.storage.atomic import written_atomically

JSON_LINES = ".jsonl"


@dataclass(frozen=True)
class PredictedFiles:
    """What came out.

    Attributes:
        structures: What was read.
        predicted: Of each structure, in the same order.
        energy_kind: What the energies are.
        errors: Against the labels that the files hold.
    """

    structures: list[NamedStructure]
    predicted: list[Predicted]
    energy_kind: EnergyKind
    errors: LabelErrors


def predict_files(
    files: Sequence[str],
    model: LoadedModel,
    out: Path,
    *,
    batch_edges: int | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> PredictedFiles:
    """Predict the structures of files and write them to one file, in their order.

    Args:
        files: As `read_structures` takes them.
        model: Makes the predictions.
        out: `*.extxyz`, `*.xyz` or `*.traj`: the structures, with predictions in place of labels; `*.jsonl`: one JSON
            object a line.
        batch_edges: As for `LoadedModel.predict`.
        on_progress: As for `LoadedModel.predict`.

    Raises:
        ValueError: If a file cannot be read, names are not unique, `out` is of another format, or naming a structure
            that the model cannot take.
    """
    if out.suffix not in (*FORMATS, JSON_LINES):
        raise ValueError(f"{out}: predictions are written as {', '.join((*FORMATS, JSON_LINES))}, not {out.suffix!r}")
    structures = read_structures(files)
    predicted = model.predict(
        [one.atoms for one in structures],
        ids=[one.id for one in structures],
        batch_edges=batch_edges,
        on_progress=on_progress,
    )
    found = PredictedFiles(
        structures,
        predicted,
        model.energy_kind,
        label_errors([one.atoms for one in structures], predicted, model.energy_kind),
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    if out.suffix == JSON_LINES:
        _write_lines(out, found)
    else:
        pairs = zip(structures, predicted, strict=True)
        write_structures(out, (_with_prediction(one, said, model.energy_kind) for one, said in pairs))
    return found


def _with_prediction(structure: NamedStructure, predicted: Predicted, kind: EnergyKind) -> Atoms:
    """The structure with predictions where its labels were."""
    atoms = structure.atoms.copy()
    atoms.calc = SinglePointCalculator(atoms, **predicted.results)
    atoms.info |= {"id": structure.id, "energy_kind": str(kind)}
    return atoms


def _write_lines(out: Path, found: PredictedFiles) -> None:
    with written_atomically(out) as file:
        for structure, predicted in zip(found.structures, found.predicted, strict=True):
            line: dict[str, Any] = {
                "id": structure.id,
                "file": str(structure.file),
                "frame": structure.frame,
                "energy_kind": found.energy_kind.name,
                "energy": predicted.energy,
                "forces": predicted.forces.tolist(),
            }
            if predicted.stress is not None:
                line["stress"] = predicted.stress.tolist()
            file.write(json.dumps(line, ensure_ascii=False).encode() + b"\n")
