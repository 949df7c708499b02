"""Parameter counts, exact, without allocating a parameter."""

import functools
from dataclasses import replace

import pytest
import torch

from ev2_plugin.model import presets
from ev2_plugin.model.config import ModelConfig
from ev2_plugin.model.equiformer_v2 import EquiformerV2
from ev2_plugin.model.presets import (
    IS2RE_36M,
    IS2RE_95M,
    OC20_31M,
    OC20_83M,
    OC20_153M,
    OC22_121M,
    ODAC23_31M,
    ODAC23_153M,
    OMAT24_31M,
    OMAT24_86M,
    OMAT24_153M,
    QM9_9M,
    QM9_11M,
)
from ev2_plugin.model.stress_head import StressHead, StressSpec


def count(config: ModelConfig, *, stress: bool = False, **options: bool) -> int:
    with torch.device("meta"):
        modules = [EquiformerV2(config, **options)]
        if stress:
            modules.append(StressHead(config, StressSpec(decompose=True, use_source_target_embedding=True)))
    return sum(parameter.numel() for module in modules for parameter in module.parameters())


gate = functools.partial(replace, OC20_83M, use_gate_act=True, use_grid_mlp=False, norm_type="layer_norm")
small = functools.partial(replace, OC20_83M, lmax=4)

TABLE_8 = {
    "no re-normalisation, gate, LN": (gate(use_attn_renorm=False), 91_056_322),
    "gate, LN": (gate(), 91_057_986),
    "S2, LN": (replace(OC20_83M, use_sep_s2_act=False, norm_type="layer_norm"), 81_458_370),
    "separable S2, LN": (replace(OC20_83M, norm_type="layer_norm"), 83_164_802),
    "base": (OC20_83M, 83_164_802),
    "lmax 4": (small(), 44_826_882),
    "lmax 8": (replace(OC20_83M, lmax=8, grid_resolution=20), 134_282_242),
    "mmax 3": (replace(OC20_83M, mmax=3), 95_105_666),
    "mmax 4": (replace(OC20_83M, mmax=4), 102_144_386),
    "mmax 6": (replace(OC20_83M, mmax=6), 106_627_202),
    "153M": (OC20_153M, 153_602_690),
    "31M": (OC20_31M, 31_058_690),
}
DERIVED = {
    "figure 4, widths x 0.75": (
        small(sphere_channels=96, attn_hidden_channels=48, ffn_hidden_channels=96, num_heads=6),
        27_126_754,
    ),
    "figure 4, widths x 0.5": (
        small(sphere_channels=64, attn_hidden_channels=32, ffn_hidden_channels=64, num_heads=4),
        14_105_282,
    ),
    "table 1e, 8 blocks": (replace(OC20_83M, num_layers=8), 57_590_402),
    "table 1e, 16 blocks": (replace(OC20_83M, num_layers=16), 108_739_202),
    "table 6, lmax 2": (replace(OC20_83M, lmax=2), 19_268_482),
    "OC22": (OC22_121M, 121_526_402),
    "ODAC 31M": (ODAC23_31M, 31_085_570),
    "ODAC 153M": (ODAC23_153M, 153_660_290),
    "OMat24 31M": (OMAT24_31M, 31_074_818),
    "OMat24 86M": (OMAT24_86M, 86_456_450),
    "OMat24 153M": (OMAT24_153M, 153_637_250),
}
FIXED_BASIS = {"distance_function": "gaussian"}


@pytest.mark.parametrize(("config", "expected"), [*TABLE_8.values(), *DERIVED.values()], ids=[*TABLE_8, *DERIVED])
def test_parameter_count(config: ModelConfig, expected: int) -> None:
    assert count(config) == expected


@pytest.mark.parametrize(
    ("config", "expected"),
    [(OMAT24_31M, 31_207_434), (OMAT24_86M, 86_589_068), (OMAT24_153M, 153_769_868)],
)
def test_parameter_count_with_stress_head(config: ModelConfig, expected: int) -> None:
    assert count(config, stress=True) == expected


def test_parameter_count_without_forces() -> None:
    assert count(ODAC23_31M, regress_forces=False) == 27_953_665


def test_linear_reference_adds_one_number_per_element() -> None:
    assert count(OC22_121M, load_energy_lin_ref=True) == 121_526_492


@pytest.mark.parametrize(
    ("config", "forces", "expected"), [(IS2RE_36M, False, 36_034_433), (IS2RE_95M, True, 95_239_170)]
)
def test_parameter_count_of_relaxed_energy_models(config: ModelConfig, forces: bool, expected: int) -> None:
    assert count(replace(config, **FIXED_BASIS), regress_forces=forces) == expected
    assert count(config, regress_forces=forces) == expected + 2 * 128 + 2  # the learnable basis


@pytest.mark.parametrize(("config", "expected"), [(QM9_11M, 11_197_825), (QM9_9M, 9_353_025)])
def test_parameter_count_of_qm9_models(config: ModelConfig, expected: int) -> None:
    assert count(replace(config, **FIXED_BASIS), regress_forces=False) == expected  # 11.20M and 9.35M in the paper


def test_presets_differ() -> None:
    configs = [value for value in vars(presets).values() if isinstance(value, ModelConfig)]
    assert len(configs) == 13
    assert len(set(configs)) == 13
