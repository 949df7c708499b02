"""How much memory a computation holds, and how that grows with atoms and edges.

Every operation is seen as it is dispatched. A storage counts from the operation that makes it until nothing refers to
it, views of it count no further. What a storage grows with is read from its size: atoms and edges are traced in
numbers that divide nothing else, so a size that such a number divides is that many rows. Live memory at a moment is
then `fixed + per atom * atoms + per edge * edges`, and the peak, for any numbers, is the largest of the moments.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch._library.custom_ops import OPDEFS
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

_QUESTION = torch.ops.prim.device.default  # asked of tensors without data at every turn; makes nothing


@dataclass(frozen=True)
class MemoryProfile:
    """Live memory at each moment.

    Attributes:
        moments: Rows of bytes: fixed, per atom, per edge; float64 [moments, 3].
    """

    moments: np.ndarray

    def at_peak(self, atoms: int | float, edges: int | float) -> tuple[float, float, float]:
        """Bytes fixed, per atom and per edge at the moment when so many atoms and edges take most."""
        fixed, per_atom, per_edge = self.moments[np.argmax(self._live(atoms, edges))].tolist()
        return fixed, per_atom, per_edge

    def peak(self, atoms: int | float, edges: int | float) -> int:
        """Most bytes that live at a time."""
        return round(float(self._live(atoms, edges).max()))

    def plus(self, num_bytes: int, *peaks: int) -> MemoryProfile:
        """With bytes that live all the time, and moments of another origin at which only so many bytes live."""
        moments = np.concatenate((self.moments, [[peak, 0, 0] for peak in peaks])) if peaks else self.moments
        return MemoryProfile(moments + np.array([num_bytes, 0, 0]))

    def largest_multiple(self, memory: int, atoms: int | float, edges: int | float) -> int:
        """How many times so many atoms and edges fit into memory, in bytes; 0 if not once."""
        free = memory - self.moments[:, 0]
        one = self.moments[:, 1] * atoms + self.moments[:, 2] * edges
        if (free < 0).any():
            return 0
        return math.floor(float((free[one > 0] / one[one > 0]).min()))

    def _live(self, atoms: int | float, edges: int | float) -> np.ndarray:
        return self.moments @ np.array([1.0, atoms, edges])


class StorageTrace(TorchDispatchMode):
    """Counts the storages that operations inside the block make.

    Custom operations written in Python are followed inside, so that their workspaces count.

    Args:
        held: Tensors made before that do not count: parameters and buffers.
        units: Numbers of atoms and of edges that are traced, none of which divides a size of anything else.
    """

    def __init__(self, held: Iterable[Tensor] = (), units: Sequence[int] = ()) -> None:
        super().__init__()
        self._units = tuple(units)
        self._held = {tensor.untyped_storage()._cdata: tensor for tensor in held}
        self._storages: dict[int, tuple[weakref.ref[Any], int, int]] = {}
        self._live = [0] * (1 + len(self._units))
        self._moments: set[tuple[int, ...]] = {tuple(self._live)}

    @property
    def live(self) -> int:
        """Bytes that live now."""
        return sum(self._live)

    @property
    def peak(self) -> int:
        """Most bytes that lived at a time."""
        return max(map(sum, self._moments))

    @property
    def profile(self) -> MemoryProfile:
        """How live memory grows with the units, which are atoms and edges."""
        return MemoryProfile(np.array(sorted(self._moments)) / np.array([1, *self._units]))

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation and count what it makes."""
        if func is _QUESTION:
            return func(*args)
        python_form = _python_form(func)
        if python_form is None:
            out = func(*args, **(kwargs or {}))
        else:
            with self:
                out = python_form(*args, **(kwargs or {}))
        new = [self._add(leaf) for leaf in tree_leaves(out) if isinstance(leaf, Tensor)]
        if any(new):
            self._moments.add(tuple(self._live))
        return out

    def _add(self, tensor: Tensor) -> bool:
        """Count a tensor's storage, unless it is known; whether it was not."""
        storage = tensor.untyped_storage()
        key, num_bytes = storage._cdata, storage.nbytes()
        if key in self._storages or key in self._held:
            return False
        kind = next((i for i, unit in enumerate(self._units, 1) if num_bytes % unit == 0), 0) if num_bytes else 0
        self._storages[key] = weakref.ref(storage, lambda _: self._drop(key)), kind, num_bytes
        self._live[kind] += num_bytes
        return True

    def _drop(self, key: int) -> None:
        _, kind, num_bytes = self._storages.pop(key)
        self._live[kind] -= num_bytes


def _python_form(func: Any) -> Callable[..., Any] | None:
    """The function that a custom operation was made of; None for torch's own operations."""
    definition = OPDEFS.get(func.name())
    return None if definition is None else definition._init_fn


def unit_at_least(number: int, module: torch.nn.Module, *others: int) -> int:
    """The smallest prime from `number` on that divides no dimension of a module's tensors and is none of `others`."""
    dimensions = {size for tensor in (*module.parameters(), *module.buffers()) for size in tensor.shape}
    candidate = max(number, 2)
    while not _is_prime(candidate) or candidate in others or any(size % candidate == 0 for size in dimensions if size):
        candidate += 1
    return candidate


def _is_prime(number: int) -> bool:
    return all(number % divisor for divisor in range(2, math.isqrt(number) + 1))
