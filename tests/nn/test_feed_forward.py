from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from ev2_plugin.model.config import ModelConfig
from ev2_plugin.nn.feed_forward import FeedForward
from helpers.equivariance import randomize
from helpers.structures import TINY

KINDS = {
    "gate": {"use_gate_act": True, "use_grid_mlp": False},
    "S2": {"use_sep_s2_act": False, "use_grid_mlp": False},
    "separable S2": {"use_grid_mlp": False},
    "grid MLP": {"use_sep_s2_act": False, "use_grid_mlp": True},
    "separable grid MLP": {"use_grid_mlp": True},
}


def layer_of(config: ModelConfig) -> FeedForward:
    return randomize(FeedForward(config.feed_forward, config.sphere, out_channels=3).double())


@pytest.mark.parametrize("lmax", [0, 1, 2])
@pytest.mark.parametrize("kind", KINDS)
def test_scalars_are_degree_zero_of_the_whole(kind: str, lmax: int) -> None:
    layer = layer_of(replace(TINY, **KINDS[kind], lmax=lmax, mmax=0))
    x = torch.randn(4, (lmax + 1) ** 2, TINY.sphere_channels, dtype=torch.float64, requires_grad=True)
    results = []
    for scalars in (layer.scalars(x), layer(x)[:, 0]):
        gradients = torch.autograd.grad(scalars.sin().sum(), [x, *layer.parameters()])
        results.append((scalars, *gradients))
    for ours, expected in zip(*results, strict=True):
        torch.testing.assert_close(ours, expected, atol=1e-12, rtol=1e-10)


@pytest.mark.parametrize("kind", KINDS)
def test_backends_agree(kind: str) -> None:
    x = torch.randn(4, 9, TINY.sphere_channels, dtype=torch.float64)
    outs = []
    for backend in ("auto", "reference"):
        torch.manual_seed(0)
        outs.append(layer_of(replace(TINY, **KINDS[kind], backend=backend))(x))
    torch.testing.assert_close(*outs)


def test_separable_grid_mlp_step_by_step() -> None:
    layer = layer_of(TINY)
    x = torch.randn(4, 9, TINY.sphere_channels, dtype=torch.float64)
    to_grid, from_grid = TINY.sphere.node_grid.matrices(x.dtype, x.device)
    hidden = from_grid @ layer.grid_mlp(to_grid @ layer.so3_linear_1(x))
    hidden = torch.cat((layer.scalar_mlp(x[:, :1]), hidden[:, 1:]), dim=1)
    torch.testing.assert_close(layer(x), layer.so3_linear_2(hidden))


def test_gate_step_by_step() -> None:
    layer = layer_of(replace(TINY, **KINDS["gate"]))
    x = torch.randn(4, 9, TINY.sphere_channels, dtype=torch.float64)
    first, second = layer.gating_linear(x[:, 0]).sigmoid().unsqueeze(1).chunk(2, dim=2)
    hidden = layer.so3_linear_1(x)
    parts = F.silu(hidden[:, :1]), hidden[:, 1:4] * first, hidden[:, 4:] * second
    torch.testing.assert_close(layer(x), layer.so3_linear_2(torch.cat(parts, dim=1)))
