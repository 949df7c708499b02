"""Weights of a checkpoint beside the model they are meant for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fairchem.core.common.utils import match_state_dict
from fairchem.core.modules.exponential_moving_average import ExponentialMovingAverage
from torch import Tensor, nn

from ev2_plugin.model.state_dict import DERIVED

_SHOWN = 5


def check_weights(model: nn.Module, state_dict: Mapping[str, Tensor], source: object) -> None:
    """Compare a state dict with a model by name and shape; tables that follow from the settings may be there or not.

    Args:
        model: The model.
        state_dict: Weights, with any number of `module.` in front of their names.
        source: What to call the weights in the message.

    Raises:
        ValueError: Naming the first weights that are missing, left over or of another shape.
    """
    own = model.state_dict()
    expected = {name: tuple(value.shape) for name, value in own.items()}
    given = (
        {name: tuple(value.shape) for name, value in match_state_dict(own, state_dict).items()} if state_dict else {}
    )
    problems = {
        "not in the checkpoint": [name for name in expected if name not in given],
        "not in the model": [name for name in given if name not in expected and not DERIVED.search(name)],
        "of another shape": [
            f"{name} {given[name]} instead of {shape}"
            for name, shape in expected.items()
            if name in given and given[name] != shape
        ],
    }
    found = [
        f"{len(names)} {kind}: {', '.join(names[:_SHOWN])}{', ...' if len(names) > _SHOWN else ''}"
        for kind, names in problems.items()
        if names
    ]
    if found:
        raise ValueError(f"checkpoint {source} does not fit the model of this config. Weights {'; '.join(found)}")


def load_weights(model: nn.Module, checkpoint: Mapping[str, Any], source: object) -> None:
    """Give a model all weights of a checkpoint, averaged ones where the file has them.

    Args:
        model: The model.
        checkpoint: `state_dict`, and perhaps `ema`.
        source: What to call the checkpoint in messages.

    Raises:
        ValueError: If a weight is missing, left over or of another shape.
    """
    weights = checkpoint["state_dict"]
    check_weights(model, weights, source)
    model.load_state_dict(match_state_dict(model.state_dict(), weights), strict=False)
    if (averages := checkpoint.get("ema")) is None:
        return
    trained = [(name, weight) for name, weight in model.named_parameters() if weight.requires_grad]
    shadows = averages["shadow_params"]
    if len(shadows) != len(trained):
        raise ValueError(
            f"checkpoint {source} has {len(shadows)} averaged weights, the model {len(trained)} trained ones"
        )
    for (name, weight), shadow in zip(trained, shadows, strict=True):
        if weight.shape != shadow.shape:
            raise ValueError(
                f"checkpoint {source}: averaged weight {name} has shape {tuple(shadow.shape)} instead of "
                f"{tuple(weight.shape)}"
            )
    ema = ExponentialMovingAverage(model.parameters(), averages["decay"])
    ema.load_state_dict(averages)
    ema.copy_to()
