"""One model, two layouts: backbone and heads in one module (flat), or apart (hydra)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, get_args

from torch import Tensor

from ev2_plugin.model.state_dict import HYDRA_PREFIX

Layout = Literal["flat", "hydra"]
Settings = Mapping[str, Any]
Weights = Mapping[str, Tensor]

_FLAT = ("ev2_plugin.EquiformerV2", "ev2")
_ENERGY, _FORCES = ("ev2_plugin.EnergyHead", "ev2_energy_head"), ("ev2_plugin.ForceHead", "ev2_force_head")
_HEADS = {"energy_block.": "output_heads.energy.", "force_block.": "output_heads.forces."}


def layout_of(settings: Settings) -> Layout:
    """The layout of a model section of the plugin's."""
    return "hydra" if settings["name"] == "hydra" else "flat"


def in_layout(settings: Settings, weights: Weights, layout: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """A model section and its weights in a layout.

    Args:
        settings: Of a model of the plugin.
        weights: Its state dict.
        layout: `flat` or `hydra`.

    Raises:
        ValueError: If the layout is unknown, or the model predicts what a flat one cannot.
    """
    if layout not in get_args(Layout):
        raise ValueError(f"the layout must be flat or hydra, got {layout!r}")
    if layout == layout_of(settings):
        return dict(settings), dict(weights)
    return _to_flat(settings, weights) if layout == "flat" else _to_hydra(settings, weights)


def _to_hydra(settings: Settings, weights: Weights) -> tuple[dict[str, Any], dict[str, Tensor]]:
    network = {key: value for key, value in settings.items() if key not in ("name", "regress_forces")}
    forces = {"forces": {"module": _FORCES[0]}} if settings.get("regress_forces", True) else {}
    hydra = {
        "name": "hydra",
        "pass_through_head_outputs": True,
        "otf_graph": True,
        "backbone": {"model": "ev2_plugin.EquiformerV2Backbone", **network},
        "heads": {"energy": {"module": _ENERGY[0]}, **forces},
    }
    return hydra, {_in_hydra(name): value for name, value in weights.items()}


def _in_hydra(name: str) -> str:
    return next((prefix for block, prefix in _HEADS.items() if name.startswith(block)), "backbone.") + name


def _to_flat(settings: Settings, weights: Weights) -> tuple[dict[str, Any], dict[str, Tensor]]:
    heads = settings["heads"]
    energy = [name for name, head in heads.items() if head["module"] in _ENERGY and _says(head, "energy")]
    forces = [name for name, head in heads.items() if head["module"] in _FORCES and _says(head, "forces")]
    others = [name for name in heads if name not in (*energy, *forces)]
    if others or len(energy) != 1 or len(forces) > 1:
        raise ValueError(
            "a flat model has one head for the sum of atomic energies and at most one for forces; this one has "
            f"{', '.join(heads)}: only hydra takes it"
        )
    network = {key: value for key, value in settings["backbone"].items() if key != "model"}
    flat = {"name": _FLAT[0], **network, "regress_forces": bool(forces)}
    return flat, {HYDRA_PREFIX.sub("", name): value for name, value in weights.items()}


def _says(head: Settings, name: str) -> bool:
    return head.get("output_name", name) == name and head.get("reduce", "sum") == "sum"
