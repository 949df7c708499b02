"""`optim.freeze`: part of a model keeps its weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from ev2_plugin.training.freezing import frozen_names


def frozen_part(config: Mapping[str, Any]) -> str:
    """What a config freezes; `none` if it does not say."""
    part = (config.get("optim") or {}).get("freeze")
    return "none" if part is None else part


def freeze(model: nn.Module, part: str) -> set[str]:
    """Take the weights of a part out of the training: no gradients, optimiser state, averages or decay for them.

    Args:
        model: An EquiformerV2, flat or hydra, not yet wrapped for distributed training.
        part: As `optim.freeze` has it.

    Returns:
        Names of the weights of the part.

    Raises:
        ValueError: If there is no such part, or nothing would be left to train.
    """
    parameters = dict(model.named_parameters())
    frozen = frozen_names(parameters, part)
    for name in frozen:
        parameters[name].requires_grad_(False)
    if frozen and not any(parameter.requires_grad for parameter in parameters.values()):
        raise ValueError(f"optim.freeze: {part} leaves nothing to train")
    return frozen
