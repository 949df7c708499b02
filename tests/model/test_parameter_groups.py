from dataclasses import replace

import pytest

from ev2_plugin.model.equiformer_v2 import EquiformerV2
from ev2_plugin.model.parameter_groups import no_weight_decay
from helpers.structures import TINY


@pytest.mark.parametrize("norm_type", ["layer_norm", "layer_norm_sh", "rms_norm_sh"])
def test_biases_and_norms_are_not_decayed(norm_type: str) -> None:
    model = EquiformerV2(replace(TINY, norm_type=norm_type, distance_function="learnable_gaussian"))
    undecayed = no_weight_decay(model)
    norms = ("norm", "norm_l0", "norm_1", "norm_2", "alpha_norm", "distance_expansion")
    in_radial_functions = ("rad_func.net.1", "rad_func.net.4")
    expected = set()
    for name, _ in model.named_parameters():
        owner, _, kind = name.rpartition(".")
        if kind in ("bias", "affine_bias") or owner.split(".")[-1] in norms or owner.endswith(in_radial_functions):
            expected.add(name)
    assert undecayed == expected


def test_what_is_decayed() -> None:
    model = EquiformerV2(TINY)
    names, undecayed = {name for name, _ in model.named_parameters()}, no_weight_decay(model)
    assert undecayed < names
    for name in (
        "sphere_embedding.weight",
        "blocks.0.ga.source_embedding.weight",
        "blocks.1.ga.alpha_dot",
        "blocks.0.ga.so2_conv_1.fc_m0.weight",
        "blocks.0.ffn.so3_linear_1.weight",
        "energy_block.so3_linear_2.weight",
    ):
        assert name in names - undecayed
    for name in (
        "norm.affine_weight",
        "norm.norm_l0.weight",
        "blocks.0.ga.so2_conv_1.fc_m0.bias",
        "blocks.0.ga.alpha_norm.weight",
        "blocks.0.ffn.so3_linear_1.bias",
    ):
        assert name in undecayed
