"""Which energy are these labels: total energies, or energies referenced to something, like adsorption energies?

A total energy is a sum over atoms to first order: it is some eV per atom, and one energy per element explains nearly
all of its variance over different compositions. An adsorption energy is some eV for the whole structure, however many
atoms it has, and the composition explains little of it. The rule:

* total, if the energies are over 1 eV per atom and the composition explains over 90 % of their variance;
* referenced, if they are below 0.5 eV per atom and the composition explains less than 90 %;
* undecided otherwise.

The share that composition explains counts only with at least five structures per independent composition.
"""

from __future__ import annotations

from dataclasses import dataclass

from ev2_plugin.data.references import CompositionFit, EnergySpread

STRUCTURES_PER_COMPOSITION = 5
FATAL_SHIFT, FATAL_RATIO = 10.0, 10.0
DOUBTFUL_SHIFT, DOUBTFUL_RATIO = 3.0, 5.0


@dataclass(frozen=True)
class EnergyKind:
    """What the labels look like.

    Attributes:
        name: `total`, `referenced` or `undecided`.
        per_atom: Mean size of the energy per atom [eV].
        explained: Share of the variance that the composition explains; None if it cannot be told.
    """

    name: str
    per_atom: float
    explained: float | None

    def __str__(self) -> str:
        share = "" if self.explained is None else f", composition explains {self.explained:.1%} of their variance"
        names = {"total": "total energies", "referenced": "referenced (adsorption) energies", "undecided": "undecided"}
        return f"{names[self.name]} ({self.per_atom:.3g} eV per atom{share})"


def judge_energies(fit: CompositionFit, per_atom: float) -> EnergyKind:
    """Judge energies by the rule above.

    Args:
        fit: Compositions and energies of at least two structures.
        per_atom: Mean size of the energy per atom [eV].
    """
    references = fit.solve()
    enough = fit.num_structures >= STRUCTURES_PER_COMPOSITION * references.rank
    explained = references.explained if enough and references.rank > 1 else None
    if per_atom > 1.0 and (explained is None or explained > 0.9):
        return EnergyKind("total", per_atom, explained)
    if per_atom < 0.5 and (explained is None or explained < 0.9):
        return EnergyKind("referenced", per_atom, explained)
    return EnergyKind("undecided", per_atom, explained)


def compare_with_normalizer(labels: EnergySpread, mean: float, std: float) -> tuple[bool, str] | None:
    """Set labels beside the normaliser that is meant for them.

    Args:
        labels: Mean and spread of the labels [eV], element references subtracted if there are any.
        mean: The normaliser's mean [eV].
        std: The normaliser's standard deviation [eV].

    Returns:
        None if they fit. Otherwise whether training would fail for it (means more than ten of the normaliser's
        deviations apart, or deviations that differ by more than a factor of ten; doubtful from three and five on), and
        a sentence.

    Raises:
        ValueError: If the normaliser's standard deviation is not positive.
    """
    if not std > 0:
        raise ValueError(f"the normaliser's standard deviation must be positive, not {std}")
    shift, ratio = abs(labels.mean - mean) / std, labels.std / std
    spread = max(ratio, 1 / ratio if ratio > 0 else float("inf"))
    if shift <= DOUBTFUL_SHIFT and spread <= DOUBTFUL_RATIO:
        return None
    sentence = (
        f"the labels are {labels.mean:.4g} ± {labels.std:.3g} eV and the normaliser is {mean:.4g} ± {std:.3g} eV: "
        "are both of the same energy (total, referenced)?"
    )
    return shift > FATAL_SHIFT or spread > FATAL_RATIO, sentence
