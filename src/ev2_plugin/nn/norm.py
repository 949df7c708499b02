"""Normalisation of features of several degrees. Statistics are taken in at least float32.

`layer_norm_sh` is the paper's separable layer norm (section 4.3): statistics of degree 0 apart from those of all
degrees > 0 together. `layer_norm` normalises every degree by itself; `rms_norm_sh` all degrees together.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from ev2_plugin.nn.specs import NormType
from ev2_plugin.so3.layout import CoefficientLayout
from ev2_plugin.so3.tables import float_table, index_table

EPS = 1e-5


def _mean_square(x: Tensor, degrees: tuple[int, ...]) -> Tensor:
    """Mean over channels and degrees of the mean square of each degree, [nodes, 1, 1]."""
    present = set(degrees)
    weights = tuple(1 / ((2 * l + 1) * len(present)) for l in degrees)
    per_coefficient = x.square().mean(dim=-1, keepdim=True)
    return (per_coefficient * float_table(weights, x.dtype, x.device).unsqueeze(-1)).sum(dim=1, keepdim=True)


def full_precision(x: Tensor) -> Tensor:
    """`x` in at least float32, in which statistics are taken."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


class DegreeLayerNorm(nn.Module):
    """Layer norm of each degree by itself; degree 0 is centred and has a bias."""

    def __init__(self, lmax: int, channels: int) -> None:
        super().__init__()
        self.layout = CoefficientLayout(lmax, lmax)
        self.affine_weight = nn.Parameter(torch.ones(lmax + 1, channels))
        self.affine_bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Float[Tensor, "nodes coefficients channels"]) -> Float[Tensor, "nodes coefficients channels"]:
        """Normalise."""
        x = full_precision(x)
        x = torch.cat((x[:, :1] - x[:, :1].mean(dim=-1, keepdim=True), x[:, 1:]), dim=1)
        sizes = [2 * l + 1 for l in range(self.layout.lmax + 1)]
        square = x.square().mean(dim=-1)
        variance = torch.stack([part.mean(dim=1) for part in square.split(sizes, dim=1)], dim=1)  # [N, degrees]
        scale = (variance + EPS).rsqrt().unsqueeze(-1) * self.affine_weight
        out = x * scale[:, index_table(self.layout.degrees, x.device)]
        return torch.cat((out[:, :1] + self.affine_bias, out[:, 1:]), dim=1)


class SeparableLayerNorm(nn.Module):
    """Ordinary layer norm of degree 0; all higher degrees divided by one root mean square.

    Source: paper, section 4.3.
    """

    def __init__(self, lmax: int, channels: int) -> None:
        super().__init__()
        self.higher_degrees = CoefficientLayout(lmax, lmax).degrees[1:]
        self.affine_weight = nn.Parameter(torch.ones(lmax, channels))
        self.norm_l0 = nn.LayerNorm(channels, eps=EPS)

    def forward(self, x: Float[Tensor, "nodes coefficients channels"]) -> Float[Tensor, "nodes coefficients channels"]:
        """Normalise."""
        x = full_precision(x)
        scalars = F.layer_norm(
            x[:, :1], self.norm_l0.normalized_shape, self.norm_l0.weight, self.norm_l0.bias, self.norm_l0.eps
        )
        if not self.higher_degrees:
            return scalars
        higher = x[:, 1:]
        degree = index_table(tuple(l - 1 for l in self.higher_degrees), x.device)
        scale = (_mean_square(higher, self.higher_degrees) + EPS).rsqrt() * self.affine_weight[degree]
        return torch.cat((scalars, higher * scale), dim=1)


class RMSNorm(nn.Module):
    """All degrees divided by one root mean square; degree 0 is centred and has a bias. Not the paper's."""

    def __init__(self, lmax: int, channels: int) -> None:
        super().__init__()
        self.degrees = CoefficientLayout(lmax, lmax).degrees
        self.affine_weight = nn.Parameter(torch.ones(lmax + 1, channels))
        self.affine_bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Float[Tensor, "nodes coefficients channels"]) -> Float[Tensor, "nodes coefficients channels"]:
        """Normalise."""
        x = full_precision(x)
        x = torch.cat((x[:, :1] - x[:, :1].mean(dim=-1, keepdim=True), x[:, 1:]), dim=1)
        scale = (_mean_square(x, self.degrees) + EPS).rsqrt()
        out = x * (scale * self.affine_weight[index_table(self.degrees, x.device)])
        return torch.cat((out[:, :1] + self.affine_bias, out[:, 1:]), dim=1)


NORMS: dict[NormType, type[nn.Module]] = {
    "layer_norm": DegreeLayerNorm,
    "layer_norm_sh": SeparableLayerNorm,
    "rms_norm_sh": RMSNorm,
}


def make_norm(norm_type: NormType, lmax: int, channels: int) -> nn.Module:
    """The norm of that name.

    Raises:
        ValueError: If there is none.
    """
    if norm_type not in NORMS:
        raise ValueError(f"norm_type must be one of {sorted(NORMS)}, got {norm_type!r}")
    return NORMS[norm_type](lmax, channels)
