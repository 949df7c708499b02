"""The plugin's classes in the place of the host's EquiformerV2: same settings, same weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ev2_plugin.integration.registration import SHORT_NAMES

FLAT_MODELS = {
    "equiformer_v2": "ev2_plugin.EquiformerV2",
    "equiformer_v2s": "ev2_plugin.EquiformerV2",  # name in the first release of the OC20 checkpoints
    "equiformer_v2_dens": "ev2_plugin.EquiformerV2",
}

HYDRA_MODULES = {
    "equiformer_v2_backbone": "ev2_plugin.EquiformerV2Backbone",
    "equiformerV2_scalar_head": "ev2_plugin.EnergyHead",
    "equiformerV2_vector_head": "ev2_plugin.ForceHead",
    "rank2_symmetric_head": "ev2_plugin.StressHead",
    "equiformer_v2_energy_head": "ev2_plugin.EnergyHead",  # these two are older names of the first two heads
    "equiformer_v2_force_head": "ev2_plugin.ForceHead",
    "equiformer_v2_dens_backbone": "ev2_plugin.EquiformerV2Backbone",  # these four for prediction, see `dens`
    "eqV2_DeNS_scalar_head": "ev2_plugin.EnergyHead",
    "eqV2_DeNS_vector_head": "ev2_plugin.ForceHead",
    "dens_rank2_symmetric_head": "ev2_plugin.StressHead",
}
"""The host's registered names and what stands in for them."""

_PACKAGE = "fairchem.core.models.equiformer_v2."
_NAMES_OF_CLASSES = {
    "EquiformerV2": "equiformer_v2",
    "EquiformerV2Backbone": "equiformer_v2_backbone",
    "EqV2ScalarHead": "equiformerV2_scalar_head",
    "EqV2VectorHead": "equiformerV2_vector_head",
    "Rank2SymmetricTensorHead": "rank2_symmetric_head",
    "EquiformerV2EnergyHead": "equiformer_v2_energy_head",
    "EquiformerV2ForceHead": "equiformer_v2_force_head",
    "EqV2DeNSBackbone": "equiformer_v2_dens_backbone",
    "DeNSScalarHead": "eqV2_DeNS_scalar_head",
    "DeNSVectorHead": "eqV2_DeNS_vector_head",
    "DeNSRank2Head": "dens_rank2_symmetric_head",
}

OLD_STATISTICS = {"norm_scale_nodes": "avg_num_nodes", "norm_scale_degree": "avg_degree"}
"""Names of two settings in ODAC23's checkpoints, which no released code of the host reads."""

_DENS_KEYS = (
    *("use_force_encoding", "use_noise_schedule_sigma_encoding"),  # backbone
    *("use_denoising", "use_denoising_energy"),  # heads; flat model
)
_INERT_KEYS = ("use_tp_reparam",)  # false in every file known; true would give weights of other names


def registered_name(name: Any) -> Any:
    """The host's short name where a config gives the path of its class (OMat24's DeNS files do)."""
    if isinstance(name, str) and name.startswith(_PACKAGE):
        return _NAMES_OF_CLASSES.get(name.rpartition(".")[2], name)
    return name


def our_hydra_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The same hydra section with our modules in place of the host's.

    Raises:
        KeyError: If nothing stands in for one of them.
    """
    heads = {
        name: {**_known(head), "module": HYDRA_MODULES[registered_name(head["module"])]}
        for name, head in settings["heads"].items()
    }
    backbone = settings["backbone"]
    return {
        **settings,
        "backbone": {**_known(backbone), "model": HYDRA_MODULES[registered_name(backbone["model"])]},
        "heads": heads,
    }


def with_stand_ins(settings: Mapping[str, Any]) -> dict[str, Any]:
    """A model section with the host's EquiformerV2 replaced; one with anything else in it stays as it is.

    Args:
        settings: With `name`.
    """
    if (name := registered_name(settings["name"])) in FLAT_MODELS:
        return {**_known(settings), "name": FLAT_MODELS[name]}
    backbone, heads = settings.get("backbone") or {}, settings.get("heads") or {}
    named = [backbone.get("model"), *(head.get("module") for head in heads.values())]
    if settings["name"] == "hydra" and heads and all(registered_name(name) in HYDRA_MODULES for name in named):
        return our_hydra_settings(settings)
    return dict(settings)


def names_our_model(settings: Mapping[str, Any]) -> bool:
    """Whether a model section is of the plugin alone: flat, or backbone and all heads."""
    ours = {
        name for (kind, short), path in SHORT_NAMES.items() if kind == "model" for name in (short, f"ev2_plugin.{path}")
    }
    backbone, heads = settings.get("backbone"), settings.get("heads")
    if settings["name"] != "hydra":
        return settings["name"] in ours
    if not isinstance(backbone, Mapping) or not isinstance(heads, Mapping):
        return False
    return backbone.get("model") in ours and all(head.get("module") in ours for head in heads.values())


def _known(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Without the keys that only denoising reads; statistics under their names of today."""
    renamed = {OLD_STATISTICS.get(key, key): value for key, value in settings.items()}
    unused = [*_DENS_KEYS, *(key for key in _INERT_KEYS if not settings.get(key))]
    return {key: value for key, value in renamed.items() if key not in unused}
