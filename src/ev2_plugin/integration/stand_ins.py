"""The plugin's classes in the place of the host's EquiformerV2: same settings, same weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

FLAT_MODELS = {"equiformer_v2": "ev2_plugin.EquiformerV2"}

HYDRA_MODULES = {
    "equiformer_v2_backbone": "ev2_plugin.EquiformerV2Backbone",
    "equiformerV2_scalar_head": "ev2_plugin.EnergyHead",
    "equiformerV2_vector_head": "ev2_plugin.ForceHead",
    "rank2_symmetric_head": "ev2_plugin.StressHead",
    "equiformer_v2_energy_head": "ev2_plugin.EnergyHead",  # the last two are older names of the first two heads
    "equiformer_v2_force_head": "ev2_plugin.ForceHead",
}
"""The host's registered names and what stands in for them."""


def our_hydra_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The same hydra section with our modules in place of the host's.

    Raises:
        KeyError: If nothing stands in for one of them.
    """
    backbone = {**settings["backbone"], "model": HYDRA_MODULES[settings["backbone"]["model"]]}
    heads = {name: {**head, "module": HYDRA_MODULES[head["module"]]} for name, head in settings["heads"].items()}
    return {**settings, "backbone": backbone, "heads": heads}


def with_stand_ins(settings: Mapping[str, Any]) -> dict[str, Any]:
    """A model section with the host's EquiformerV2 replaced; one with anything else in it stays as it is.

    Args:
        settings: With `name`.
    """
    if settings["name"] in FLAT_MODELS:
        return {**settings, "name": FLAT_MODELS[settings["name"]]}
    backbone, heads = settings.get("backbone") or {}, settings.get("heads") or {}
    named = [backbone.get("model"), *(head.get("module") for head in heads.values())]
    if settings["name"] == "hydra" and heads and all(name in HYDRA_MODULES for name in named):
        return our_hydra_settings(settings)
    return dict(settings)
