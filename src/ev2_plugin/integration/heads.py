"""The heads for the host's hydra model, over `EquiformerV2Backbone`."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from fairchem.core.models.base import HeadInterface
from torch import Tensor

from ev2_plugin.integration.backbone import EquiformerV2Backbone
from ev2_plugin.integration.config import unknown_key_message
from ev2_plugin.model import heads
from ev2_plugin.model.equiformer_v2 import add_linear_reference
from ev2_plugin.model.stress_head import StressHead as StressNetwork
from ev2_plugin.model.stress_head import StressSpec


class EnergyHead(heads.EnergyHead, HeadInterface):
    """Energy per structure, plus its linear reference if the backbone was told `use_energy_lin_ref`.

    Args:
        backbone: The backbone the head is for.
        output_name: Name of the prediction.
        reduce: `sum` or `mean` over atoms.
    """

    def __init__(
        self, backbone: EquiformerV2Backbone, output_name: str = "energy", reduce: heads.Reduce = "sum"
    ) -> None:
        _check_backbone(self, backbone)
        super().__init__(backbone.config, reduce)
        self.output_name = output_name

    def forward(self, data: Any, emb: dict[str, Any]) -> dict[str, Tensor]:
        """Normalised energies, [structures]."""
        energy = self.predict(emb["embedding"])
        if (reference := emb["linear_reference"]) is not None:
            energy = add_linear_reference(energy, reference, emb["embedding"].atoms)
        return {self.output_name: energy}


class ForceHead(heads.ForceHead, HeadInterface):
    """Force on every atom.

    Args:
        backbone: The backbone the head is for.
        output_name: Name of the prediction.
    """

    def __init__(self, backbone: EquiformerV2Backbone, output_name: str = "forces") -> None:
        _check_backbone(self, backbone)
        super().__init__(backbone.config)
        self.output_name = output_name

    def forward(self, data: Any, emb: dict[str, Any]) -> dict[str, Tensor]:
        """Normalised forces, [atoms, 3]."""
        return {self.output_name: self.predict(emb["embedding"])}


class VectorHead(ForceHead):
    """Another vector on every atom: one graph attention of its own, read at degree 1.

    Predicts the `displacement` to the relaxed structure (IS2RS) or the `noise` of Noisy Nodes.

    Args:
        backbone: The backbone the head is for.
        output_name: Name of the prediction.
    """

    def __init__(self, backbone: EquiformerV2Backbone, output_name: str) -> None:
        super().__init__(backbone, output_name)


class StressHead(StressNetwork, HeadInterface):
    """Stress per structure.

    Args:
        backbone: The backbone the head is for.
        output_name: Name of the prediction; its parts are `<name>_isotropic` and `<name>_anisotropic`.
        **switches: Fields of `StressSpec`.

    Raises:
        ValueError: If a switch is unknown or of another kind.
    """

    def __init__(self, backbone: EquiformerV2Backbone, output_name: str = "stress", **switches: Any) -> None:
        _check_backbone(self, backbone)
        switches.pop("default_norm_type", None)  # the host's fallback for backbones without a norm type; ours has one
        known = {field.name for field in fields(StressSpec)}
        for key in switches:
            if key not in known:
                raise ValueError(f"stress head: {unknown_key_message(key, known)}")
        super().__init__(backbone.config, StressSpec(**switches))
        self.output_name = output_name

    def forward(self, data: Any, emb: dict[str, Any]) -> dict[str, Tensor]:
        """Isotropic [structures, 1] and anisotropic [structures, 5] parts, or the whole [3 structures, 3]."""
        stress = self.predict(emb["embedding"])
        if isinstance(stress, Tensor):
            return {self.output_name: stress}
        isotropic, anisotropic = stress
        return {f"{self.output_name}_isotropic": isotropic, f"{self.output_name}_anisotropic": anisotropic}


def _check_backbone(head: Any, backbone: Any) -> None:
    if not isinstance(backbone, EquiformerV2Backbone):
        raise ValueError(
            f"{type(head).__name__} reads the features of ev2_plugin.EquiformerV2Backbone, "
            f"but the backbone is {type(backbone).__module__}.{type(backbone).__qualname__}"
        )
