"""Do the labels mean the energies that the model predicts, and what to do if they do not.

The model is asked about training structures as it is. What its predictions miss of the labels, the residual, is fitted
by one energy per element. Energies fit if the residual is below 1 eV per atom and its mean within 5 of the energy
normaliser's deviations of 0; the model then keeps its references. Total energies of another origin (functional,
pseudopotentials, code) miss by far more, in a way that the composition explains: then the references are moved by what
was fitted, so that the training starts with what the model knows. Total energies and adsorption energies are two
things, and nobody but the user can say that the one is to become the other.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from ev2_plugin.data.energy_kind import EnergyKind, judge_energies
from ev2_plugin.data.references import CompositionFit, ElementReferences, EnergySpread

LARGEST_PER_ATOM = 1.0
"""eV: more than another functional makes of the same kind of energy, less than any total energy."""
LARGEST_MEAN = 5.0
"""Of the normaliser's deviations, as the dry run has it."""
_WORTH_SAYING = 0.05  # eV per atom


@dataclass(frozen=True)
class ZeroShot:
    """Labels beside what a model predicts before any tuning.

    Attributes:
        structures: How many were asked about.
        labels: What the labels look like.
        residual: Labels minus predictions, eV per structure.
        per_atom: Mean size of the residual per atom, eV.
        shift: One energy per element that explains the residual best.
        per_atom_left: Mean size per atom of what that leaves, eV.
    """

    structures: int
    labels: EnergyKind
    residual: EnergySpread
    per_atom: float
    shift: ElementReferences
    per_atom_left: float

    def __str__(self) -> str:
        return (
            f"labels of {self.structures} training structures minus zero-shot predictions: {self.residual.mean:+.4g} ± "
            f"{self.residual.std:.3g} eV, {self.per_atom:.3g} eV per atom; fitted references would leave "
            f"{self.per_atom_left:.3g} eV per atom"
        )


@dataclass(frozen=True)
class Decision:
    """Which element references a tuning uses.

    Attributes:
        references: eV per atom by symbol; None for none.
        fitted: Whether they are not the checkpoint's.
        kind: What the tuned model's energies are: `total`, ...; None if nobody knows.
        reason: In a sentence.
    """

    references: Mapping[str, float] | None
    fitted: bool
    kind: str | None
    reason: str


def compare(rows: Iterable[tuple[np.ndarray, float, float]]) -> ZeroShot:
    """Set labels beside predictions.

    Args:
        rows: Atomic numbers, label and prediction [eV] of each structure; at least two.

    Raises:
        ValueError: If there are fewer than two.
    """
    seen = list(rows)
    labels, misses = CompositionFit(), CompositionFit()
    for numbers, label, predicted in seen:
        labels.add(numbers, label)
        misses.add(numbers, label - predicted)
    sizes = np.array([len(numbers) for numbers, *_ in seen])
    residual = np.array([label - predicted for _, label, predicted in seen])
    shift = misses.solve()
    explained = np.array([sum(shift.by_number[int(z)] for z in numbers) for numbers, *_ in seen])
    kind = judge_energies(labels, float(np.mean([abs(label) for _, label, _ in seen] / sizes)))
    return ZeroShot(
        structures=len(seen),
        labels=kind,
        residual=misses.spread(),
        per_atom=float(np.abs(residual / sizes).mean()),
        shift=shift,
        per_atom_left=float(np.abs((residual - explained) / sizes).mean()),
    )


def decide(
    wish: str, zero_shot: ZeroShot, kind: str, rmsd: float, references: Mapping[str, float] | None, source: object
) -> Decision:
    """Choose the element references.

    Args:
        wish: `auto`, `keep` or `fit`.
        zero_shot: What the model misses.
        kind: What the model's energies are: `total`, `referenced`, `adsorption` or `unknown`.
        rmsd: Deviation of its energy normaliser, eV.
        references: The checkpoint's, by symbol.
        source: What to call the checkpoint in messages.

    Raises:
        ValueError: If the labels are of another kind than the model's energies and `wish` does not say what to do, or
            references are to be kept and elements have none.
    """
    fits = zero_shot.per_atom <= LARGEST_PER_ATOM and abs(zero_shot.residual.mean) <= LARGEST_MEAN * rmsd
    known = references or {}
    missing = [] if references is None else [one for one in zero_shot.shift.by_symbol if one not in references]
    if wish == "fit" or (wish == "auto" and kind == "total" and (missing or not fits)):
        reason = "the labels are total energies of another origin"
        if wish == "fit":
            reason = "asked for"
        elif missing:
            reason = f"{source} has none for {', '.join(missing)}"
        moved = {symbol: known.get(symbol, 0.0) + energy for symbol, energy in zero_shot.shift.by_symbol.items()}
        return Decision(moved, True, "total", f"fitted anew ({reason})")
    if wish == "auto" and not fits:
        raise ValueError(
            f"the energies do not fit {source}, whose energies are of the kind {kind!r}, while the labels look like "
            f"{zero_shot.labels}: {zero_shot}. If these labels are what the model is to learn, --references fit gives "
            "it new element references; --references keep trains on as it is"
        )
    if missing:
        raise ValueError(f"{source} has no element reference for {', '.join(missing)}: --references fit makes new ones")
    better = zero_shot.per_atom > _WORTH_SAYING and zero_shot.per_atom > 3 * zero_shot.per_atom_left
    hint = "; --references fit would start nearer to the labels" if better else ""
    kept = "kept" if references is not None else "none, as before"
    why = "the energies fit" if fits else "asked for, although the energies do not fit"
    return Decision(references, False, None if kind == "unknown" else kind, f"{kept}: {why}{hint}")
