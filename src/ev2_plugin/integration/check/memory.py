"""Memory of training: counted where it can be, scaled where it grows with the batch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.optim import Optimizer


class ActivationMeter:
    """Counts the bytes that the backward pass keeps, each storage once and only while something keeps it.

    Args:
        ignored: Tensors that live anyway: parameters and buffers.

    Attributes:
        peak: Most bytes kept at a time.
    """

    def __init__(self, ignored: Iterable[Tensor]) -> None:
        self._ignored = {tensor.untyped_storage().data_ptr() for tensor in ignored}
        self._holders: Counter[int] = Counter()
        self._kept = 0
        self.peak = 0

    @contextmanager
    def watch(self) -> Iterator[None]:
        """Count what autograd saves inside the block."""
        with saved_tensors_hooks(self._hold, lambda held: held.tensor):
            yield

    def _hold(self, tensor: Tensor) -> _Held:
        return _Held(tensor, self)

    def add(self, address: int, num_bytes: int) -> None:
        """One more keeps the storage at an address."""
        if address in self._ignored:
            return
        self._holders[address] += 1
        if self._holders[address] == 1:
            self._kept += num_bytes
            self.peak = max(self.peak, self._kept)

    def drop(self, address: int, num_bytes: int) -> None:
        """One less keeps it."""
        if address in self._ignored:
            return
        self._holders[address] -= 1
        if not self._holders[address]:
            self._kept -= num_bytes


class _Held:
    """A saved tensor; autograd lets it go when the backward pass has used it."""

    def __init__(self, tensor: Tensor, meter: ActivationMeter) -> None:
        storage = tensor.untyped_storage()
        self.tensor, self._meter = tensor, meter
        self._storage = storage.data_ptr(), storage.nbytes()
        meter.add(*self._storage)

    def __del__(self) -> None:
        self._meter.drop(*self._storage)


@dataclass(frozen=True)
class TrainingMemory:
    """Bytes on one device while it trains.

    Attributes:
        weights: Parameters and buffers.
        gradients: Of the trained parameters, and once more for the buckets in which processes exchange them.
        moments: State of the optimiser.
        averaged: Averaged weights (EMA).
        activations: What the backward pass keeps of a batch of the configured size.
        structures: In such a batch.
    """

    weights: int
    gradients: int
    moments: int
    averaged: int
    activations: int
    structures: int

    @property
    def total(self) -> int:
        """All of it."""
        return self.weights + self.gradients + self.moments + self.averaged + self.activations

    @property
    def per_structure(self) -> int:
        """What one more structure in the batch takes."""
        return self.activations // self.structures


def training_memory(
    model: nn.Module, optimizer: Optimizer, averaged: Iterable[Tensor], activations: int, structures: int
) -> TrainingMemory:
    """Add up what training holds.

    Args:
        model: The model.
        optimizer: After a step. If that step was left out, as happens when half-precision gradients overflow, Adam's
            two moments are counted for optimisers that have `betas`.
        averaged: Averaged weights; empty without.
        activations: Bytes kept for the backward pass of a batch.
        structures: In that batch.
    """
    trained = sum(_size(parameter) for parameter in model.parameters() if parameter.requires_grad)
    state = [value for entry in optimizer.state.values() for value in entry.values() if isinstance(value, Tensor)]
    return TrainingMemory(
        weights=sum(map(_size, (*model.parameters(), *model.buffers()))),
        gradients=2 * trained,
        moments=sum(map(_size, state)) if state else 2 * trained * ("betas" in optimizer.defaults),
        averaged=sum(map(_size, averaged)),
        activations=activations,
        structures=structures,
    )


def _size(tensor: Any) -> int:
    return tensor.numel() * tensor.element_size()
