"""Element references that say which elements they are for."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from ase.data import atomic_numbers, chemical_symbols
from fairchem.core.modules.normalization.element_references import LinearReferences
from torch import Tensor

LARGEST_REFERENCE = 1e4
"""eV per atom. Least-squares fits leave numbers up to 6e11 for elements that their data do not have; the total
energy of no atom that the trainers see is as large as this in pseudopotential or light-element all-electron data."""


class FittedReferences(LinearReferences):
    """The host's linear references; NaN stands for an element outside the fit, which is an error to meet.

    Sums are taken in float64: total energies of a few hundred atoms leave float32 few digits.
    """

    def _apply_refs(self, target: Tensor, batch: Any, sign: int, reshaped: bool = True) -> Tensor:
        of_atoms = self.element_references[batch.atomic_numbers.long()].double()
        outside = of_atoms.isnan()
        if outside.any():
            elements = sorted({chemical_symbols[int(z)] for z in batch.atomic_numbers[outside].unique()})
            raise ValueError(
                f"{', '.join(elements)}: no element reference (dataset.train.transforms.element_references); a "
                "structure with such an element has no referenced energy"
            )
        if reshaped:
            of_atoms = of_atoms.view(len(of_atoms), *[1] * (target.dim() - 1))
        return target.double().index_add(0, batch.batch, of_atoms, alpha=sign).to(target.dtype)


def from_elements(settings: Any) -> dict[str, Any]:
    """Rewrite `{target: {elements: {symbol: eV}}}` as the host takes it; other entries stay.

    Raises:
        ValueError: If a symbol or a value cannot be right.
    """
    if not isinstance(settings, Mapping):
        raise ValueError(f"element_references must map outputs to their references, got {settings!r}")
    return {
        target: {"state_dict": {"element_references": _table(target, entry["elements"])}}
        if isinstance(entry, Mapping) and "elements" in entry
        else entry
        for target, entry in settings.items()
    }


def _table(target: str, elements: Any) -> Tensor:
    if not isinstance(elements, Mapping):
        raise ValueError(f"element_references.{target}.elements must map symbols to eV, got {elements!r}")
    table = torch.full((len(chemical_symbols),), torch.nan, dtype=torch.float64)
    for symbol, value in elements.items():
        if symbol not in atomic_numbers:  # YAML reads a bare N or No as it is, but Y and NO may come as booleans
            raise ValueError(f"element_references.{target}.elements: {symbol!r} is no chemical symbol (quote it?)")
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise ValueError(f"element_references.{target}.elements.{symbol} must be a number in eV, got {value!r}")
        table[atomic_numbers[symbol]] = value
    return table


def only_fitted(references: Mapping[str, LinearReferences]) -> dict[str, LinearReferences]:
    """Turn the host's references into ones that refuse elements outside their fit.

    Args:
        references: By target. A table with NaN says which elements it is for; in others, a coefficient of exactly 0 is
            one that no data set.

    Raises:
        ValueError: If coefficients are too large to mean anything: such a table does not say which elements it is for.
    """
    return {target: _only_fitted(target, one) for target, one in references.items()}


def _only_fitted(target: str, references: LinearReferences) -> LinearReferences:
    table = references.element_references
    if table.isnan().any():
        return FittedReferences(table)
    meaningless = table.abs() > LARGEST_REFERENCE
    meaningless[0] = False  # no atom has number 0
    if meaningless.any():
        examples = [f"{chemical_symbols[int(z)]} {float(table[z]):.2g}" for z in meaningless.nonzero()[:3, 0]]
        raise ValueError(
            f"element references of {target!r}: {int(meaningless.sum())} coefficients have no meaning "
            f"({', '.join(examples)} eV), so others of this file may have none either. Give those of the elements in "
            "the data under `elements:`, as oc22/data/linear_reference.yml does for OC22"
        )
    return FittedReferences(torch.where(table == 0, torch.nan, table))
