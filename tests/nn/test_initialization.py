import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from ev2_plugin.model.equiformer_v2 import EquiformerV2
from ev2_plugin.nn.initialization import initialize
from ev2_plugin.nn.linear import EquivariantLinear
from ev2_plugin.nn.radial import RadialFunction
from ev2_plugin.nn.so2_convolution import OrderPair
from helpers.structures import TINY

WIDE = replace(
    TINY,
    num_layers=1,
    sphere_channels=32,
    attn_hidden_channels=32,
    ffn_hidden_channels=32,
    attn_alpha_channels=32,
    attn_value_channels=32,
    edge_channels=64,
)


def model(weight_init: str) -> EquiformerV2:
    return EquiformerV2(replace(WIDE, weight_init=weight_init))


def radial_linears(module: nn.Module) -> list[nn.Linear]:
    functions = [m for m in module.modules() if isinstance(m, RadialFunction)]
    return [layer for function in functions for layer in function.net if isinstance(layer, nn.Linear)]


def assert_uniform(weight: torch.Tensor, bound: float) -> None:
    assert weight.abs().max() <= bound * (1 + 1e-6)
    assert weight.abs().max() > 0.9 * bound
    assert weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.1)
    assert weight.mean().item() == pytest.approx(0, abs=0.1 * bound)


def assert_normal(weight: torch.Tensor, std: float) -> None:
    assert weight.std().item() == pytest.approx(std, rel=0.1)
    assert weight.abs().max() > 2.2 * std  # beyond what a uniform distribution of this spread reaches
    assert weight.mean().item() == pytest.approx(0, abs=0.2 * std)


@pytest.mark.parametrize("weight_init", ["uniform", "normal"])
def test_linear_maps(weight_init: str) -> None:
    network = model(weight_init)
    pairs = {pair.fc for pair in network.modules() if isinstance(pair, OrderPair)}
    radial = set(radial_linears(network))
    linears = [m for m in network.modules() if isinstance(m, nn.Linear | EquivariantLinear)]
    assert len(pairs) == 4
    assert len(radial) == 9
    for layer in linears:
        if layer.weight.numel() < 500:
            continue
        bound = 1 / math.sqrt(layer.in_features)
        if weight_init == "normal" and layer not in radial:
            assert_normal(layer.weight, bound)  # the pairs' 1/sqrt(2) is overwritten
        else:
            assert_uniform(layer.weight, bound / math.sqrt(2) if layer in pairs else bound)


@pytest.mark.parametrize("weight_init", ["uniform", "normal"])
def test_biases_and_norms(weight_init: str) -> None:
    network = model(weight_init)
    initialize(network, weight_init)
    for module in network.modules():
        if isinstance(module, nn.Linear | EquivariantLinear | nn.LayerNorm) and module.bias is not None:
            assert (module.bias == 0).all()
        if isinstance(module, nn.LayerNorm):
            assert (module.weight == 1).all()
    assert (network.norm.affine_weight == 1).all()


def test_embeddings() -> None:
    network = model("uniform")
    assert network.sphere_embedding.weight.std().item() == pytest.approx(1, rel=0.05)
    assert_uniform(network.edge_degree_embedding.source_embedding.weight, 0.001)
    assert_uniform(network.blocks[0].ga.target_embedding.weight, 0.001)


def test_attention_vectors() -> None:
    assert_uniform(model("normal").blocks[0].ga.alpha_dot, 1 / math.sqrt(32))


def test_unknown_initialisation() -> None:
    unchecked = getattr(initialize, "__wrapped__", initialize)  # annotations would refuse it first
    with pytest.raises(ValueError, match="weight_init must be 'uniform' or 'normal', got 'xavier'"):
        unchecked(nn.Linear(1, 1), "xavier")
