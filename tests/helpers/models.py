"""Models far from their initialisation, the same numbers under the same parameter names."""

from __future__ import annotations

import zlib

import torch
from torch import Tensor, nn

from ev2_plugin.model.config import ModelConfig
from ev2_plugin.model.equiformer_v2 import EquiformerV2


def fill_by_name(module: nn.Module, scale: float = 1.0) -> nn.Module:
    """Draw every parameter from a generator seeded by its name, about as large as its initialisation."""
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            if name.endswith("alpha_dot"):
                noise *= 2
            elif parameter.dim() > 1 and "embedding" not in name and "affine" not in name:
                noise *= scale * parameter.shape[-1] ** -0.5
            elif parameter.dim() == 1 or "affine" in name:
                noise = 0.3 * noise + (1.0 if "weight" in name else 0.0)
            parameter.copy_(noise)
    return module


def filled_model(config: ModelConfig, dtype: torch.dtype = torch.float64, **options: bool) -> EquiformerV2:
    """A flat model in evaluation mode whose activations are far from linear."""
    return fill_by_name(EquiformerV2(config, **options)).to(dtype).eval()


def predict(model: EquiformerV2, *args: object) -> tuple[Tensor, Tensor]:
    """Energy and forces."""
    out = model.predict(*args)
    return out["energy"], out["forces"]
