"""Which parameters weight decay leaves alone."""

from __future__ import annotations

from torch import nn

from ev2_plugin.nn.linear import EquivariantLinear
from ev2_plugin.nn.norm import DegreeLayerNorm, RMSNorm, SeparableLayerNorm
from ev2_plugin.nn.radial import LearnableGaussianBasis

UNDECAYED = (nn.LayerNorm, DegreeLayerNorm, SeparableLayerNorm, RMSNorm, LearnableGaussianBasis)


def no_weight_decay(model: nn.Module) -> set[str]:
    """Names of biases and of all parameters of norms and learnable bases.

    Embeddings and the attention vectors are decayed. Source: official code (`no_weight_decay`).
    """
    names = set()
    for module_name, module in model.named_modules():
        for name, _ in module.named_parameters(recurse=isinstance(module, UNDECAYED)):
            if isinstance(module, UNDECAYED) or (name == "bias" and isinstance(module, nn.Linear | EquivariantLinear)):
                names.add(f"{module_name}.{name}" if module_name else name)
    return names
