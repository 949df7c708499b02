"""Weights of a checkpoint beside the model they are meant for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from ev2_plugin.integration.frozen_weights import frozen_part
from ev2_plugin.integration.misfit import likely_reason
from ev2_plugin.model.architecture import shapes_of_weights
from ev2_plugin.model.state_dict import strip_module_prefix
from ev2_plugin.training.freezing import frozen_names

_SHOWN = 5


def check_weights(model: nn.Module, state_dict: Mapping[str, Tensor], source: object) -> None:
    """Compare a state dict with a model by name and shape; tables that follow from the settings may be there or not.

    Args:
        model: The model.
        state_dict: Weights, with any number of `module.` in front of their names.
        source: What to call the weights in the message.

    Raises:
        ValueError: Naming the first weights that are missing, left over or of another shape, and the likely reason.
    """
    expected = {strip_module_prefix(name): tuple(value.shape) for name, value in model.state_dict().items()}
    given = {strip_module_prefix(name): tuple(value.shape) for name, value in state_dict.items()}
    weights = shapes_of_weights(given.items())
    problems = {
        "not in the checkpoint": [name for name in expected if name not in given],
        "not in the model": [name for name in weights if name not in expected],
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
        reason = likely_reason(shapes_of_weights(expected.items()), weights)
        raise ValueError(
            f"checkpoint {source} does not fit the model of this config. Weights {'; '.join(found)}."
            + (f" Likely reason: {reason}" if reason else "")
        )


def load_weights(model: nn.Module, checkpoint: Mapping[str, Any], source: object) -> None:
    """Give a model all weights of a checkpoint, averaged ones where the file has them.

    Args:
        model: The model.
        checkpoint: `state_dict`, and perhaps `ema`.
        source: What to call the checkpoint in messages.

    Raises:
        ValueError: If a weight is missing, left over or of another shape.
    """
    model.load_state_dict(chosen_weights(model, checkpoint, source), strict=False)


def chosen_weights(
    model: nn.Module, checkpoint: Mapping[str, Any], source: object, *, averaged: bool = True
) -> dict[str, Tensor]:
    """The weights of a checkpoint under the names and in the order of the model they are for.

    Args:
        model: It may be on the meta device: only its names and shapes are looked at.
        checkpoint: `state_dict`, and perhaps `ema` and `config`.
        source: What to call the checkpoint in messages.
        averaged: Take the averaged weights where the file has them.

    Raises:
        ValueError: If a weight is missing, left over or of another shape.
    """
    given = {strip_module_prefix(name): value for name, value in checkpoint["state_dict"].items()}
    check_weights(model, given, source)
    weights = {name: given[name] for name in map(strip_module_prefix, model.state_dict())}
    averages = checkpoint.get("ema") if averaged else None
    if averages is None:
        return weights
    shadows = averages["shadow_params"]
    trained = _averaged_parameters(model, len(shadows), frozen_part(checkpoint.get("config") or {}))
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
        weights[name] = shadow
    return weights


def _averaged_parameters(model: nn.Module, count: int, part: str) -> list[tuple[str, nn.Parameter]]:
    """The trained parameters, which a frozen part has none of; all if averages are as many, as some write them."""
    parameters = list(model.named_parameters())
    frozen = frozen_names(dict(parameters), part)
    trained = [(name, weight) for name, weight in parameters if weight.requires_grad and name not in frozen]
    return parameters if len(parameters) == count else trained
