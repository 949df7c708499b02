"""What a run holds whatever its batches are: parameters, gradients, the optimiser's state, averages."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ev2_plugin.model.memory_trace import StorageTrace

_PROBE = 4096


@dataclass(frozen=True)
class HeldMemory:
    """Bytes on one device.

    Attributes:
        parameters: Parameters and buffers.
        gradients: Gradients of the trained parameters. They come and go: not in `total`.
        exchanged: Buckets in which processes exchange gradients; the host makes them for one process too.
        moments: State of the optimiser.
        averaged: Averaged parameters (EMA), in predictions with those that they stand in for.
        step: What the optimiser makes for a moment.
    """

    parameters: int
    gradients: int
    exchanged: int
    moments: int
    averaged: int
    step: int

    @property
    def total(self) -> int:
        """What lives all the time."""
        return self.parameters + self.exchanged + self.moments + self.averaged

    @property
    def at_step(self) -> int:
        """What lives besides while the optimiser works."""
        return self.gradients + self.step


def held_memory(
    model: nn.Module, config: Mapping[str, Any], training: bool, device_type: str, *, alone: bool = False
) -> HeldMemory:
    """Add up what a run holds.

    Args:
        model: The model.
        config: The run's config.
        training: Train, otherwise predict.
        device_type: `cpu` or `cuda`; on GPUs optimisers take all parameters at a time.
        alone: The model stands alone, without the host's wrapper for several processes.
    """
    optim = config.get("optim") or {}
    everything = sum(_size(tensor) for tensor in (*model.parameters(), *model.buffers()))
    trained = [_size(parameter) for parameter in model.parameters() if parameter.requires_grad]
    averaged = sum(trained) if optim.get("ema_decay") else 0
    exchanged = 0 if alone else sum(trained)
    if not training:
        return HeldMemory(everything, 0, exchanged, 0, 2 * averaged, 0)
    at_once = device_type == "cuda"
    state, temporary = _of_optimizer(optim.get("optimizer", "AdamW"), optim.get("optimizer_params") or {}, at_once)
    return HeldMemory(
        parameters=everything,
        gradients=sum(trained),
        exchanged=exchanged,
        moments=round(state * sum(trained)),
        averaged=averaged,
        step=round(temporary * (sum(trained) if at_once else max(trained, default=0))),
    )


def _of_optimizer(name: str, params: Mapping[str, Any], at_once: bool) -> tuple[float, float]:
    """State and most temporaries of an optimiser, in units of the parameters' memory: measured on a small one."""
    kind = getattr(torch.optim, name, None)
    if kind is None:
        raise ValueError(f"optim.optimizer: torch.optim has no {name!r}")
    switch = {"foreach": at_once} if "foreach" in inspect.signature(kind).parameters else {}
    parameter = nn.Parameter(torch.zeros(_PROBE))
    parameter.grad = torch.zeros(_PROBE)
    optimizer = kind([parameter], lr=1e-3, **{**switch, **params})
    optimizer.step()
    state = [value for value in optimizer.state[parameter].values() if isinstance(value, Tensor)]
    with StorageTrace((parameter, parameter.grad, *state)) as trace:
        optimizer.step()
    own = [value for value in state if value.numel() == _PROBE]
    return sum(map(_size, own)) / _size(parameter), trace.peak / _size(parameter)


def _size(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()
