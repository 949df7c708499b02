"""What a preparation made, as it is kept beside the data and told to the user."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase.data import chemical_symbols

from ev2_plugin.data.plan import Samples
from ev2_plugin.data.recipe import FILE_NAME as RUN_FILE
from ev2_plugin.data.recipe import TargetScale
from ev2_plugin.data.shards import LabelSums
from ev2_plugin.data.tagging import RULES
from ev2_plugin.storage.plain_files import read_json

FILE_NAME = "report.json"


@dataclass(frozen=True)
class Outcome:
    """A prepared dataset.

    Attributes:
        folder: Where it lies.
        report: Counts by split (`splits`), what the labels said (`labels`) and what a user should know (`notes`).
    """

    folder: Path
    report: Mapping[str, Any]

    @classmethod
    def read(cls, folder: Path) -> Outcome:
        """Read the report of a prepared dataset."""
        return cls(folder, read_json(folder / FILE_NAME))

    @property
    def command(self) -> str:
        """What starts training on it."""
        return start_command(self.folder / RUN_FILE)


def start_command(run_file: Path) -> str:
    """Return the command that trains with a run file."""
    return f"ev2 train {run_file} --run-dir runs"


def describe(
    samples: Samples,
    places: Mapping[str, np.ndarray],
    sums: Mapping[str, LabelSums],
    label: str,
    scale: TargetScale | None,
    layout: str,
) -> dict[str, Any]:
    """Put together what is worth knowing of a dataset.

    Args:
        samples: All samples.
        places: Those of each split.
        sums: Sums over the labels of each split.
        label: The energy among the labels.
        scale: How the run file scales the targets; None if the recipe does.
        layout: Of the files.

    Returns:
        The report, as JSON holds it.
    """
    elements = {split: set(sums[split].fits[label].elements) for split in places}
    return {
        "splits": {split: _counts(samples, chosen, elements[split]) for split, chosen in places.items()},
        "labels": None if scale is None else _labels(scale),
        "notes": [
            *_tag_notes(samples, layout),
            *_split_notes(samples, places, elements),
            *_label_notes(samples, scale),
        ],
    }


def _counts(samples: Samples, chosen: np.ndarray, elements: set[int]) -> dict[str, Any]:
    sizes = samples.metadata(chosen)
    return {
        "structures": len(chosen),
        "systems": len(np.unique(samples.sids[chosen])),
        "atoms": round(float(sizes.natoms.mean()), 2),
        "edges_per_atom": round(sizes.mean_degree, 2),
        "elements": [chemical_symbols[number] for number in sorted(elements)],
    }


def _labels(scale: TargetScale) -> dict[str, Any]:
    references = scale.references
    return {
        "energy_mean": scale.energy.mean,
        "energy_std": scale.energy.std,
        "vector_rms": scale.vector_rms,
        "references": None if references is None else references.by_symbol,
        "explained": None if references is None else references.explained,
    }


def _tag_notes(samples: Samples, layout: str) -> list[str]:
    counts = dict(zip(RULES, samples.tag_rules.tolist(), strict=True))
    notes = [f"tags of {count} structures: {rule}" for rule, count in counts.items() if count]
    if layout == "oc22":
        notes.append("nads is 1 where an atom has tag 2, else 0")
    return notes


def _split_notes(samples: Samples, places: Mapping[str, np.ndarray], elements: Mapping[str, set[int]]) -> list[str]:
    notes = []
    for split in places:
        unseen = [chemical_symbols[number] for number in sorted(elements[split] - elements["train"])]
        if unseen:
            notes.append(f"{', '.join(unseen)} of the {split} split is in no training structure")
        shared = np.intersect1d(samples.sids[places[split]], samples.sids[places["train"]])
        if split != "train" and len(shared):
            notes.append(f"{len(shared)} systems of the {split} split are in the training split too (sid {shared[0]})")
    return notes


def _label_notes(samples: Samples, scale: TargetScale | None) -> list[str]:
    notes = []
    verdict = samples.work.verdict()
    if verdict is not None:
        notes.append(f"units: {verdict}")
    references = None if scale is None else scale.references
    if references is not None and not references.is_determined:
        notes.append(
            f"element references: the training compositions tell only {references.rank} of {len(references.by_number)} "
            f"elements apart ({', '.join(references.by_symbol)}); the solution of least norm fits these compositions "
            "and means nothing for others"
        )
    return notes
