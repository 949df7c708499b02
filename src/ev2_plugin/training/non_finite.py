"""Steps with a non-finite loss or gradient: how many may follow one another, and where they come from."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


@dataclass
class SkippedSteps:
    """Counts steps that were skipped.

    Attributes:
        limit: Most skipped steps in a row.
        in_a_row: Skipped since the last step that was taken.
        total: Skipped since the start.
    """

    limit: int
    in_a_row: int = 0
    total: int = 0

    def skip(self) -> bool:
        """Count one more; True if it is one too many."""
        self.in_a_row += 1
        self.total += 1
        return self.in_a_row >= self.limit

    def take(self) -> None:
        """A step was taken."""
        self.in_a_row = 0


NOWHERE = "nowhere when the step is run again"


def first_non_finite_module(model: nn.Module, compute_loss: Callable[[], Tensor], backward: bool = True) -> str:
    """Run a step again and say where the first non-finite value appears.

    Args:
        model: The model; its gradients are overwritten.
        compute_loss: Forward pass and loss.
        backward: Look at the backward pass too, if there is nothing before it.

    Returns:
        A phrase for a message: the first module whose output is not finite, or whose backward pass makes gradients
        that are not, or the first parameter with such a gradient; `NOWHERE` if there is none.
    """
    found: list[str] = []
    handles = []
    for name, module in model.named_modules():
        label = f"{name or 'the model'} ({type(module).__name__})"
        handles.append(module.register_forward_hook(_watch(found, f"in the forward pass, {label}", forward=True)))
        handles.append(module.register_full_backward_hook(_watch(found, f"in the backward pass, {label}")))
    try:
        model.zero_grad()
        with warnings.catch_warnings():
            # modules that return dictionaries have no backward hook: those inside them do
            warnings.filterwarnings("ignore", message="For backward hooks to be called")
            loss = compute_loss()
        if not found and not torch.isfinite(loss).all():
            return "in the loss, of finite predictions: look at the labels of these samples"
        if not found and backward:
            loss.backward()
    finally:
        for handle in handles:
            handle.remove()
    if found:
        return found[0]
    for name, parameter in model.named_parameters():
        if parameter.grad is not None and not torch.isfinite(parameter.grad).all():
            return f"in the backward pass, gradient of {name}"
    return NOWHERE


def _watch(found: list[str], label: str, forward: bool = False) -> Callable[..., None]:
    def hook(module: nn.Module, inputs: Any, outputs: Any) -> None:
        # forward: what came out; backward (grad_input, grad_output): what is passed on
        if not all(torch.isfinite(tensor).all() for tensor in _tensors(outputs if forward else inputs)):
            found.append(label)

    return hook


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        if value.is_floating_point():
            yield value
    elif isinstance(value, dict):
        for one in value.values():
            yield from _tensors(one)
    elif isinstance(value, list | tuple):
        for one in value:
            yield from _tensors(one)
