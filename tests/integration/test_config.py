"""The model section of the official files."""

import logging
from dataclasses import fields
from typing import Any

import pytest

from ev2_plugin.integration.config import HostOptions, parse_model_settings
from ev2_plugin.model import presets
from ev2_plugin.model.config import ModelConfig, check_kinds
from helpers.settings import settings_of
from helpers.structures import GATE, TINY

OFFICIAL_31M = {
    "use_pbc": True,
    "regress_forces": True,
    "otf_graph": True,
    "max_neighbors": 20,
    "max_radius": 12.0,
    "max_num_elements": 90,
    "num_layers": 8,
    "sphere_channels": 128,
    "attn_hidden_channels": 64,
    "num_heads": 8,
    "attn_alpha_channels": 64,
    "attn_value_channels": 16,
    "ffn_hidden_channels": 128,
    "norm_type": "layer_norm_sh",
    "lmax_list": [4],
    "mmax_list": [2],
    "grid_resolution": 18,
    "num_sphere_samples": 128,
    "edge_channels": 128,
    "use_atom_edge_embedding": True,
    "distance_function": "gaussian",
    "num_distance_basis": 512,
    "attn_activation": "silu",
    "use_s2_act_attn": False,
    "ffn_activation": "silu",
    "use_gate_act": False,
    "use_grid_mlp": True,
    "alpha_drop": 0.1,
    "drop_path_rate": 0.1,
    "proj_drop": 0.0,
    "weight_init": "uniform",
}
"""Every key of the 31M model's published file."""

INERT_IN_31M = {"num_sphere_samples", "num_distance_basis", "attn_activation", "ffn_activation"}


def test_official_file_is_the_preset() -> None:
    config, options = parse_model_settings(OFFICIAL_31M)
    assert config == presets.OC20_31M
    assert options == HostOptions()


def test_keys_without_effect_get_one_warning(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        parse_model_settings(OFFICIAL_31M)
    (record,) = caplog.records
    assert all(key in record.getMessage() for key in INERT_IN_31M)
    assert "max_radius" not in record.getMessage()


def test_keys_without_effect_have_none() -> None:
    without = {key: value for key, value in OFFICIAL_31M.items() if key not in INERT_IN_31M}
    assert parse_model_settings(without) == parse_model_settings(OFFICIAL_31M)
    assert parse_model_settings({**without, "use_pbc_single": True}) == parse_model_settings(without)


def test_no_warning_without_such_keys(caplog: pytest.LogCaptureFixture) -> None:
    parse_model_settings({"lmax": 4, "mmax": 2})
    assert not caplog.records


def test_omat24_file_is_the_preset() -> None:
    changes = {
        "use_pbc_single": True, "enforce_max_neighbors_strictly": False, "max_num_elements": 96,
        "avg_num_nodes": 31.17, "avg_degree": 61.95, "num_layers": 10, "lmax_list": [6], "mmax_list": [4],
        "share_atom_edge_embedding": False, "use_m_share_rad": False, "use_attn_renorm": True, "use_sep_s2_act": True,
    }  # fmt: skip
    assert parse_model_settings(OFFICIAL_31M | changes)[0] == presets.OMAT24_86M


def test_missing_keys_take_the_official_defaults() -> None:
    config, _ = parse_model_settings({})
    assert config == ModelConfig(avg_num_nodes=77.81317, avg_degree=23.395238876342773)
    assert (config.lmax, config.mmax, config.max_neighbors, config.max_radius) == (6, 2, 500, 5.0)
    assert (config.norm_type, config.use_grid_mlp, config.weight_init) == ("rms_norm_sh", False, "normal")


def test_null_means_the_default() -> None:
    config, _ = parse_model_settings({"grid_resolution": None, "avg_degree": None, "max_radius": None})
    assert config == parse_model_settings({})[0]


@pytest.mark.parametrize("config", [TINY, GATE, presets.OC22_121M, presets.IS2RE_36M])
def test_settings_are_read_back(config: ModelConfig) -> None:
    assert parse_model_settings(settings_of(config))[0] == config


@pytest.mark.parametrize("name", [field.name for field in fields(HostOptions)])
def test_every_option_is_read(name: str) -> None:
    value = 5 if name in ("gauge_seed", "cuda_graph_atoms") else not getattr(HostOptions(), name)
    assert getattr(parse_model_settings({name: value})[1], name) == value


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"lmaxlist": [4]}, "unknown model key 'lmaxlist'; did you mean 'lmax_list'?"),
        ({"use_grid_mpl": True}, "unknown model key 'use_grid_mpl'; did you mean 'use_grid_mlp'?"),
        ({"otf_grap": True}, "did you mean 'otf_graph'?"),
        ({"zzz": 1}, "unknown model key 'zzz'; known keys: .*lmax"),
        ({"use_s2_act_attn": True}, "use_s2_act_attn must be false"),
        ({"lmax": 4, "lmax_list": [4]}, "either lmax or lmax_list, not both"),
        ({"mmax": 2, "mmax_list": [2]}, "either mmax or mmax_list, not both"),
        ({"lmax_list": [4, 6]}, r"lmax_list must be a list of one integer .* got \[4, 6\]"),
        ({"mmax_list": 2}, "mmax_list must be a list of one integer .* got 2"),
        ({"lmax_list": []}, r"got \[\]"),
        ({"lmax_list": [2], "mmax_list": [3]}, "mmax=3 with lmax=2"),
        ({"grid_resolution": 17}, "even .* got 17"),
        ({"max_radius": float("inf")}, r"cutoff \(max_radius\) must be a positive distance in Å, got inf"),
    ],
)
def test_wrong_settings(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_model_settings(settings)


def test_settings_are_left_alone() -> None:
    settings = dict(OFFICIAL_31M)
    parse_model_settings(settings)
    assert settings == OFFICIAL_31M


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("use_pbc", "no", "use_pbc must be true or false, got 'no'"),
        ("regress_forces", 0, "regress_forces must be true or false, got 0"),
        ("gauge_seed", 1.5, "gauge_seed must be an integer or null, got 1.5"),
    ],
)
def test_options_of_another_kind(name: str, value: Any, message: str) -> None:
    options = HostOptions()
    object.__setattr__(options, name, value)  # the annotation checks of the tests would refuse it first
    with pytest.raises(ValueError, match=message):
        check_kinds(options)
