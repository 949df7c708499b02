"""The plugin's model section -> that of the host's EquiformerV2, for running both."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from ev2_plugin.integration.config import parse_model_settings
from ev2_plugin.integration.stand_ins import HYDRA_MODULES

_OURS_ALONE = ("activation_checkpoint", "edge_memory_mb", "backend", "precision")
"""How the network is run; its function does not depend on them."""
_HOST_BASIS = ("gaussian", 600)
_HOST_MODULES = {ours: host for host, ours in reversed(HYDRA_MODULES.items())}  # of several names the first


def host_settings(settings: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The host's model section, edges taken from the data, and what only ours has.

    Args:
        settings: A model section of the plugin, flat or hydra, with `name`.

    Returns:
        The host's section as `pairing.contenders` takes it, and keys of our own for `pairing.Setting`.

    Raises:
        ValueError: If the host's model cannot be what the section says.
    """
    if settings["name"] != "hydra":
        flat, own = _network({key: value for key, value in settings.items() if key != "name"}, heads=False)
        return flat, own
    backbone, own = _network({key: value for key, value in settings["backbone"].items() if key != "model"}, heads=True)
    heads = {}
    for name, head in settings["heads"].items():
        if head["module"] not in _HOST_MODULES:
            raise ValueError(f"the host has no head like {head['module']} of {name!r}")
        heads[name] = {**head, "module": _HOST_MODULES[head["module"]]}
    return {"backbone": {**backbone, "model": "equiformer_v2_backbone"}, "heads": heads, "otf_graph": False}, own


def _network(settings: Mapping[str, Any], *, heads: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    config, options = parse_model_settings(settings)
    if (config.distance_function, config.num_radial_basis) != _HOST_BASIS:
        basis = f"{config.num_radial_basis} basis functions of kind {config.distance_function}"
        raise ValueError(f"there is nothing to set beside it: this model has {basis}, the host's 600 of kind gaussian")
    network = {key: value for key, value in asdict(config).items() if key not in _OURS_ALONE}
    for key in ("distance_function", "num_radial_basis"):
        del network[key]
    network["lmax_list"], network["mmax_list"] = [network.pop("lmax")], [network.pop("mmax")]
    if heads:
        network["activation_checkpoint"] = config.activation_checkpoint == "block"
    else:
        network["regress_forces"] = options.regress_forces
    own = {key: getattr(config, key) for key in _OURS_ALONE}
    return {**network, "use_pbc": True, "otf_graph": False}, own
