"""Labels beside their normaliser: do they fit, and which energy do they look like?

Rule: after element references and normaliser, labels of structures must have a mean within 5 of 0 and, from 10
structures on, a standard deviation between 0.1 and 10. Wide enough for a small or odd sample; raw total energies miss
it by an order of magnitude (OC20: mean -104). Two misfits are only warned about: labels of atoms, as the paper divides
forces by the spread of energies, and references without a normaliser, as the paper trains on QM9's energies.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ev2_plugin.integration.check.survey import Survey
from ev2_plugin.integration.loss_terms import counted_atoms
from ev2_plugin.integration.trainer import Trainer

LARGEST_MEAN = 5.0
SMALLEST_STD, LARGEST_STD = 0.1, 10.0
ENOUGH_FOR_STD = 10
ENERGY = "energy"

_ALL_ELECTRONS = 50.0  # eV per atom: no pseudopotential energy of the datasets is as large for a whole structure
_TOTAL = 1.0  # eV per atom: energies of reactions and adsorption, shared among all atoms, are smaller
_ADSORBATE_TAG = 2


@dataclass(frozen=True)
class Spread:
    """Mean and standard deviation of a sample."""

    mean: float
    std: float

    @classmethod
    def of(cls, values: Tensor) -> Spread:
        """Of all entries."""
        values = values.double()
        return cls(float(values.mean()), float(values.std(correction=0)))

    def __str__(self) -> str:
        decimals = max(0, 2 - math.floor(math.log10(self.std))) if self.std > 0 else 3
        return f"{round(self.mean, decimals) + 0.0:.{decimals}f} ± {self.std:.{decimals}f}"  # + 0.0: no -0


@dataclass(frozen=True)
class LabelFacts:
    """Labels of one target in a sample of the training split.

    Attributes:
        target: Name of the output.
        level: `system` or `atom`.
        structures: In the sample.
        raw: As the data have them; of atoms, those that count in the loss.
        referenced: Less the element references; None without.
        normalizer: Mean and rmsd of the normaliser; None without.
        normalised: What the model is to predict.
    """

    target: str
    level: str
    structures: int
    raw: Spread
    referenced: Spread | None
    normalizer: Spread | None
    normalised: Spread

    @property
    def fits(self) -> bool:
        """Whether mean and spread are what a network can start from."""
        std_fits = SMALLEST_STD <= self.normalised.std <= LARGEST_STD or self.structures < ENOUGH_FOR_STD
        return abs(self.normalised.mean) <= LARGEST_MEAN and std_fits

    @property
    def refused(self) -> bool:
        """Whether labels that do not fit are a mistake beyond doubt."""
        as_they_are = self.normalizer is None and self.referenced is not None
        return self.level == "system" and not self.fits and not as_they_are

    @property
    def is_narrow(self) -> bool:
        """Whether all that is wrong is that they vary little for their normaliser."""
        return abs(self.normalised.mean) <= LARGEST_MEAN and self.normalised.std < SMALLEST_STD

    @property
    def advice(self) -> str:
        """What is wrong with labels that do not fit, and what would be right."""
        normalizer = f"mean {self.normalizer.mean:.4g}, rmsd {self.normalizer.std:.4g}" if self.normalizer else "none"
        present = self.referenced or self.raw
        return (
            f"the labels of {self.target!r} do not fit their normaliser ({normalizer}): after it, "
            f"{self.structures} training structures have mean {self.normalised.mean:.4g} and standard deviation "
            f"{self.normalised.std:.4g}, where at most ±{LARGEST_MEAN:g} and {SMALLEST_STD:g} to {LARGEST_STD:g} are "
            f"expected; dataset.train.transforms.normalizer.{self.target} {{mean: {present.mean:.4g}, rmsd: "
            f"{present.std:.4g}}} would fit these labels"
        )


def label_facts(trainer: Any, sample: Survey) -> list[LabelFacts]:
    """Put the labels of a sample through references and normalisers as the trainer does.

    Targets without any label that counts are left out: Noisy Nodes may move no atom of a small sample.

    Args:
        trainer: The host's or ours.
        sample: Of the training split.
    """
    batch = trainer.collater([one.clone() for one in sample.samples]).to(trainer.device)
    if isinstance(trainer, Trainer):
        trainer.position_labels.add_to(batch, training=True, seed=(0, 0))
    targets = dict.fromkeys(target for loss in trainer.config["loss_functions"] for target in loss)
    facts = (_facts(trainer, target, batch, len(sample.samples)) for target in targets)
    return [one for one in facts if one is not None]


def _facts(trainer: Any, target: str, batch: Any, structures: int) -> LabelFacts | None:
    output = trainer.output_targets[target]
    atoms = output["level"] == "atom"
    raw = batch[target].reshape(len(batch.pos) if atoms else structures, -1)
    counted = counted_atoms(batch, target, output) if atoms else torch.ones(structures, dtype=torch.bool)
    if not counted.any():
        return None
    references, normalizer = trainer.elementrefs.get(target), trainer.normalizers.get(target)
    referenced = references.dereference(raw, batch) if references is not None else raw
    normalised = normalizer.norm(referenced) if normalizer is not None else referenced
    return LabelFacts(
        target=target,
        level=output["level"],
        structures=structures,
        raw=Spread.of(raw[counted]),
        referenced=Spread.of(referenced[counted]) if references is not None else None,
        normalizer=Spread(float(normalizer.mean), float(normalizer.rmsd)) if normalizer is not None else None,
        normalised=Spread.of(normalised[counted]),
    )


def energy_kind(sample: Survey, referenced: bool) -> str | None:
    """Say which energy the labels look like: a guess from their size, for a human to compare with what is meant.

    Args:
        sample: Of the training split.
        referenced: Whether the config takes element references off.
    """
    if not sample.samples or ENERGY not in sample.samples[0]:
        return None
    energies = np.array([float(one[ENERGY]) for one in sample.samples])
    per_atom = float(np.median(energies / np.array(sample.natoms)))
    if abs(per_atom) > _ALL_ELECTRONS:
        kind = f"total energies of all electrons ({per_atom:.4g} eV per atom)"
    elif abs(per_atom) > _TOTAL:
        kind = f"total or atomisation energies ({per_atom:.3g} eV per atom)"
    elif _has_adsorbates(sample.samples):
        kind = f"adsorption energies ({float(np.median(energies)):.3g} eV per structure with adsorbate)"
    else:
        kind = f"referenced energies ({per_atom:.3g} eV per atom)"
    return f"{kind}; element references are taken off" if referenced else kind


def _has_adsorbates(samples: Sequence[Any]) -> bool:
    return all("tags" in one and bool(torch.any(one.tags == _ADSORBATE_TAG)) for one in samples)
