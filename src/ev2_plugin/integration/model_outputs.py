"""From what a model says to eV and Å: the way the host's trainer takes, without a trainer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from fairchem.core.common.utils import cg_change_mat, irreps_sum
from fairchem.core.modules.normalization.element_references import LinearReferences
from fairchem.core.modules.normalization.normalizer import Normalizer
from torch import Tensor

OF_ATOMS, OF_STRUCTURES = "atom", "system"


@dataclass(frozen=True)
class ModelOutputs:
    """What a model predicts, and how its predictions become physical.

    Attributes:
        targets: The config's `outputs`, parts of decomposed ones included, by name.
        normalizers: By target; those of forces have no mean in any file known.
        references: Element references by target.
    """

    targets: Mapping[str, Mapping[str, Any]]
    normalizers: Mapping[str, Normalizer]
    references: Mapping[str, LinearReferences]

    def physical(self, said: Mapping[str, Any], atoms: Any, names: tuple[str, ...]) -> dict[str, Tensor]:
        """Predictions in eV, eV/Å and eV/Å^3, summed up in float64.

        Args:
            said: What the model returned: tensors by target, or by head and property.
            atoms: The batch: `atomic_numbers`, `natoms` and `batch`.
            names: Targets to return.

        Returns:
            By name: [atoms, width] or [structures, width].

        Raises:
            ValueError: If the model does not predict one of them, or an atom's element has no reference.
        """
        return {name: self._physical(name, self._normalised(name, said, atoms), atoms) for name in names}

    def _normalised(self, name: str, said: Mapping[str, Any], atoms: Any) -> Tensor:
        target = self.targets[name]
        rows = len(atoms.atomic_numbers) if target["level"] == OF_ATOMS else len(atoms.natoms)
        if name in said:
            value = said[name]
            if isinstance(value, Mapping):
                value = value[self._property(name, value)]
            return value.reshape(rows, -1).double()
        if "decomposition" in target:
            return self._composed(target["decomposition"], said, atoms, rows)
        raise ValueError(f"the model does not predict {name!r}; it predicts {', '.join(map(str, said))}")

    def _property(self, name: str, value: Mapping[str, Tensor]) -> str:
        chosen = self.targets[name].get("property")
        if not isinstance(chosen, str) or chosen not in value:
            raise ValueError(f"outputs.{name}.property must be one of {', '.join(value)}, got {chosen!r}")
        return chosen

    def _composed(self, parts: Mapping[str, Any], said: Mapping[str, Any], atoms: Any, rows: int) -> Tensor:
        """A tensor from its irreducible parts, in the host's basis."""
        rank = max(part["irrep_dim"] for part in parts.values())
        irreps = torch.zeros(rows, irreps_sum(rank), dtype=torch.float64, device=atoms.natoms.device)
        for name, part in parts.items():
            degree = part["irrep_dim"]
            first = irreps_sum(degree - 1) if degree else 0
            irreps[:, first : irreps_sum(degree)] = self._physical(name, self._normalised(name, said, atoms), atoms)
        return irreps @ cg_change_mat(rank, device=irreps.device).double()

    def _physical(self, name: str, value: Tensor, atoms: Any) -> Tensor:
        if name in self.normalizers:
            value = self.normalizers[name].denorm(value)
        if name in self.references:
            value = self.references[name](value, atoms)
        return value


def with_parts(outputs: Mapping[str, Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """A config's outputs with the parts of decomposed ones beside them, as the host's trainer keeps them."""
    targets = dict(outputs)
    for settings in outputs.values():
        for name, part in settings.get("decomposition", {}).items():
            targets[name] = {"level": settings.get("level", OF_STRUCTURES), **part}
    return targets
