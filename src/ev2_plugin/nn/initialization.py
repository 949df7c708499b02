"""The two weight initialisations of the official code.

`uniform` leaves every linear map at U(+-1/sqrt(fan_in)), so the 1/sqrt(2) of the SO(2) pairs survives; `normal`
overwrites linear maps with N(0, 1/fan_in), the pairs' factor included, except in radial functions, which are
always uniform. Biases become 0 in both.
"""

from __future__ import annotations

import math
from typing import Literal

from torch import nn

from ev2_plugin.nn.linear import EquivariantLinear
from ev2_plugin.nn.radial import RadialFunction

WeightInit = Literal["uniform", "normal"]


def initialize(model: nn.Module, weight_init: WeightInit) -> None:
    """Initialise all linear maps and layer norms of `model` in place.

    Raises:
        ValueError: If there is no initialisation of that name.
    """
    if weight_init not in ("uniform", "normal"):
        raise ValueError(f"weight_init must be 'uniform' or 'normal', got {weight_init!r}")
    for module in model.modules():
        if isinstance(module, nn.Linear | EquivariantLinear):
            if module.bias is not None:
                nn.init.zeros_(module.bias)
            if weight_init == "normal":
                nn.init.normal_(module.weight, 0, 1 / math.sqrt(module.in_features))
        elif isinstance(module, nn.LayerNorm):
            nn.init.zeros_(module.bias)
            nn.init.ones_(module.weight)
    for module in model.modules():
        if isinstance(module, RadialFunction):
            for layer in module.net:
                if isinstance(layer, nn.Linear):
                    bound = 1 / math.sqrt(layer.in_features)
                    nn.init.uniform_(layer.weight, -bound, bound)
