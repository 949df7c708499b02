import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from ev2_plugin.nn.norm import EPS, NORMS, make_norm
from helpers.equivariance import randomize

LMAX, CHANNELS = 3, 5


def parts(x: Tensor) -> list[Tensor]:
    return list(x.split([2 * l + 1 for l in range(x.shape[1]) if l <= math.isqrt(x.shape[1]) - 1], dim=1))


def expected_layer_norm(x: Tensor, norm: torch.nn.Module) -> Tensor:
    """Each degree of each node by itself."""
    out = []
    for l, part in enumerate(parts(x)):
        centred = part - part.mean(dim=2, keepdim=True) if l == 0 else part
        out.append(centred / (centred.square().mean(dim=(1, 2), keepdim=True) + EPS).sqrt() * norm.affine_weight[l])
    out[0] = out[0] + norm.affine_bias
    return torch.cat(out, dim=1)


def expected_separable_layer_norm(x: Tensor, norm: torch.nn.Module) -> Tensor:
    """Degree 0 by layer norm; the others by the mean over degrees of the mean over orders and channels."""
    scalars, *higher = parts(x)
    mean_square = torch.stack([part.square().mean(dim=(1, 2)) for part in higher]).mean(dim=0)
    scale = 1 / (mean_square + EPS).sqrt()
    out = [F.layer_norm(scalars, [x.shape[2]], norm.norm_l0.weight, norm.norm_l0.bias, EPS)]
    out += [part * scale[:, None, None] * weight for part, weight in zip(higher, norm.affine_weight, strict=True)]
    return torch.cat(out, dim=1)


def expected_rms_norm(x: Tensor, norm: torch.nn.Module) -> Tensor:
    """All degrees by one root mean square, degree 0 centred."""
    scalars, *higher = parts(x)
    every = [scalars - scalars.mean(dim=2, keepdim=True), *higher]
    mean_square = torch.stack([part.square().mean(dim=(1, 2)) for part in every]).mean(dim=0)
    scale = 1 / (mean_square + EPS).sqrt()
    out = [part * scale[:, None, None] * weight for part, weight in zip(every, norm.affine_weight, strict=True)]
    out[0] = out[0] + norm.affine_bias
    return torch.cat(out, dim=1)


EXPECTED = {
    "layer_norm": expected_layer_norm,
    "layer_norm_sh": expected_separable_layer_norm,
    "rms_norm_sh": expected_rms_norm,
}


@pytest.mark.parametrize("lmax", [1, LMAX])
@pytest.mark.parametrize("name", NORMS)
def test_by_definition(name: str, lmax: int) -> None:
    norm = randomize(make_norm(name, lmax, CHANNELS).double())
    x = 4 * torch.randn(6, (lmax + 1) ** 2, CHANNELS, dtype=torch.float64) + 1
    torch.testing.assert_close(norm(x), EXPECTED[name](x, norm))


@pytest.mark.parametrize("name", NORMS)
def test_degree_zero_alone(name: str) -> None:
    norm = randomize(make_norm(name, 0, CHANNELS).double())
    x = 4 * torch.randn(6, 1, CHANNELS, dtype=torch.float64) + 1
    weight, bias = (
        (norm.norm_l0.weight, norm.norm_l0.bias)
        if name == "layer_norm_sh"
        else (norm.affine_weight[0], norm.affine_bias)
    )
    torch.testing.assert_close(norm(x), F.layer_norm(x, [CHANNELS], weight, bias, EPS))


@pytest.mark.parametrize("name", NORMS)
def test_zero_features(name: str) -> None:
    out = make_norm(name, LMAX, CHANNELS)(torch.zeros(2, 16, CHANNELS))
    assert (out == 0).all()


@pytest.mark.parametrize("name", NORMS)
@pytest.mark.parametrize("half", [torch.float16, torch.bfloat16])
def test_statistics_of_half_precision_are_taken_in_single(name: str, half: torch.dtype) -> None:
    x = (200 * torch.randn(3, 16, CHANNELS)).to(half)  # its squares overflow float16
    norm = make_norm(name, LMAX, CHANNELS)
    out = norm(x)
    assert out.dtype == torch.float32
    assert torch.equal(out, norm(x.float()))


def test_separable_and_plain_layer_norm_have_equally_many_parameters() -> None:
    counts = {name: sum(p.numel() for p in make_norm(name, LMAX, CHANNELS).parameters()) for name in NORMS}
    assert counts["layer_norm"] == counts["layer_norm_sh"] == (LMAX + 1) * CHANNELS + CHANNELS


def test_unknown_norm() -> None:
    unchecked = getattr(make_norm, "__wrapped__", make_norm)  # annotations would refuse it first
    with pytest.raises(ValueError, match=r"norm_type must be one of \[.*\], got 'batch_norm'"):
        unchecked("batch_norm", 2, 3)
