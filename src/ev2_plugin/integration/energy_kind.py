"""Which energy does a model predict: a total, a referenced or an adsorption energy?

The rule, first that applies:

1. what the config says under `task.energy`;
2. the model's own linear reference (`use_energy_lin_ref`) is added, or element references are: total;
3. the model holds a linear reference that is not added: referenced;
4. the energy's normaliser is that of OC20 (mean -0.755 and deviation 2.887 eV, or -1.526 and 2.279 eV for relaxed
   energies, to 1 %): adsorption;
5. the data are OC22's and no `lin_ref` is named: total;
6. otherwise it is unknown.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from fairchem.core.modules.normalization.element_references import LinearReferences
from fairchem.core.modules.normalization.normalizer import Normalizer

Kind = Literal["total", "referenced", "adsorption", "unknown"]

MEANINGS: Mapping[Kind, str] = {
    "total": "total energy of the structure",
    "referenced": "energy relative to a sum of element references that is not added",
    "adsorption": "adsorption energy, relative to the clean surface and gas-phase references",
    "unknown": "energy of a kind that the checkpoint does not tell",
}

OC20_NORMALIZERS = ((-0.7554450631141663, 2.887317180633545), (-1.525913953781128, 2.279365062713623))
"""Mean and deviation (eV) of OC20's adsorption energies: S2EF, IS2RE."""


@dataclass(frozen=True)
class EnergyKind:
    """What a model's energies are.

    Attributes:
        name: `total`, `referenced`, `adsorption` or `unknown`.
        reason: Where this is known from.
    """

    name: Kind
    reason: str

    def __str__(self) -> str:
        return f"{MEANINGS[self.name]} ({self.reason})"


def energy_kind(
    config: Mapping[str, Any], normalizers: Mapping[str, Normalizer], references: Mapping[str, LinearReferences]
) -> EnergyKind:
    """Judge by the rule above.

    Args:
        config: Of a trainer or a checkpoint.
        normalizers: By target.
        references: Element references by target.

    Raises:
        ValueError: If `task.energy` is no kind of energy.
    """
    stated = (config.get("task") or {}).get("energy")
    if stated is not None:
        kinds = [kind for kind in get_args(Kind) if kind != "unknown"]
        if stated not in kinds:
            raise ValueError(f"task.energy must be one of {', '.join(kinds)}, got {stated!r}")
        return EnergyKind(stated, "stated by task.energy")
    model, dataset = config.get("model") or {}, config.get("dataset") or {}
    network = model.get("backbone") or model
    if network.get("use_energy_lin_ref"):
        return EnergyKind("total", "the model adds its linear reference")
    if "energy" in references:
        return EnergyKind("total", "element references are added")
    if network.get("load_energy_lin_ref"):
        return EnergyKind("referenced", "the model holds a linear reference and does not add it")
    if "energy" in normalizers and _is_of_oc20(normalizers["energy"]):
        return EnergyKind("adsorption", "normalised as OC20's adsorption energies")
    if dataset.get("format") == "oc22_lmdb" and "lin_ref" not in dataset:
        return EnergyKind("total", "trained on OC22's total energies")
    return EnergyKind("unknown", "task.energy can state it: adsorption, total or referenced")


def _is_of_oc20(normalizer: Normalizer) -> bool:
    mean, deviation = float(normalizer.mean), float(normalizer.rmsd)
    return any(
        math.isclose(mean, known_mean, rel_tol=0.01) and math.isclose(deviation, known, rel_tol=0.01)
        for known_mean, known in OC20_NORMALIZERS
    )
