"""Our model sections as the host's: read back, they are the same network."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ev2_plugin.integration.bench import PRESETS
from ev2_plugin.integration.config import parse_model_settings
from ev2_plugin.integration.host_settings import host_settings
from ev2_plugin.model import presets

OF_THE_HOST = [name for name in PRESETS if getattr(presets, name).distance_function == "gaussian"]


@pytest.mark.parametrize("name", OF_THE_HOST)
def test_a_preset_goes_to_the_host_and_back(name: str) -> None:
    config = replace(getattr(presets, name), precision="high", edge_memory_mb=64)
    theirs, own = host_settings({"name": "ev2_plugin.EquiformerV2", **vars(config)})
    assert theirs["lmax_list"] == [config.lmax]
    assert not {"precision", "backend", "lmax", "num_radial_basis"} & theirs.keys()
    assert parse_model_settings({**theirs, **own})[0] == config


def test_heads_and_backbone_go_by_their_names_of_the_host() -> None:
    config = replace(presets.OC20_31M, activation_checkpoint="block")
    heads = {
        "energy": {"module": "ev2_plugin.EnergyHead", "reduce": "mean"},
        "stress": {"module": "ev2_plugin.StressHead", "decompose": True},
    }
    backbone = {"model": "ev2_plugin.EquiformerV2Backbone", **vars(config)}
    theirs, _ = host_settings({"name": "hydra", "backbone": backbone, "heads": heads})
    assert theirs["backbone"]["model"] == "equiformer_v2_backbone"
    assert theirs["backbone"]["activation_checkpoint"] is True
    assert theirs["heads"] == {
        "energy": {"module": "equiformerV2_scalar_head", "reduce": "mean"},
        "stress": {"module": "rank2_symmetric_head", "decompose": True},
    }


def test_what_the_host_does_not_have_is_said() -> None:
    with pytest.raises(ValueError, match="this model has 128 basis functions of kind learnable_gaussian"):
        host_settings({"name": "ev2_plugin.EquiformerV2", **vars(presets.IS2RE_36M)})
    backbone = {"model": "ev2_plugin.EquiformerV2Backbone", **vars(presets.OC20_31M)}
    with pytest.raises(ValueError, match="the host has no head like ev2_plugin.VectorHead of 'noise'"):
        host_settings({"name": "hydra", "backbone": backbone, "heads": {"noise": {"module": "ev2_plugin.VectorHead"}}})
