"""What pickles of torch's tensors call, rebuilt with a look at the sizes: no tensor reaches beyond its bytes."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import torch
from torch import Tensor

from ev2_plugin.storage.pickle_stream import Damaged
from ev2_plugin.storage.unpickler import Maker

_STORED_AS = {
    "Double": torch.float64,
    "Float": torch.float32,
    "Half": torch.float16,
    "BFloat16": torch.bfloat16,
    "Long": torch.int64,
    "Int": torch.int32,
    "Short": torch.int16,
    "Char": torch.int8,
    "Byte": torch.uint8,
    "Bool": torch.bool,
    "ComplexFloat": torch.complex64,
    "ComplexDouble": torch.complex128,
}
_DTYPES = {str(value).removeprefix("torch."): value for value in vars(torch).values() if isinstance(value, torch.dtype)}


class Storage:
    """The numbers of one or several tensors, in a row."""

    __slots__ = ("data", "dtype")

    def __init__(self, data: Tensor, dtype: torch.dtype) -> None:
        """`data` is a row of bytes."""
        self.data = data
        self.dtype = dtype

    def tensor(self, dtype: torch.dtype, offset: Any, size: Any, stride: Any) -> Tensor:
        """A tensor over these numbers.

        Raises:
            Damaged: If it has negative or too many of them.
        """
        numbers = (offset, *size, *stride)
        if len(size) != len(stride) or any(type(number) is not int or number < 0 for number in numbers):
            raise Damaged(f"it has a tensor of size {tuple(size)}, strides {tuple(stride)}, offset {offset}")
        last = offset + sum((length - 1) * step for length, step in zip(size, stride, strict=True))
        if 0 not in size and (last + 1) * dtype.itemsize > self.data.numel():
            raise Damaged(f"it has a tensor of size {tuple(size)} over {self.data.numel()} bytes")
        return torch.empty(0, dtype=dtype, device=self.data.device).set_(
            self.data.untyped_storage(), offset if 0 not in size else 0, size, stride
        )


def _tensor(storage: Storage, offset: int, size: Any, stride: Any, requires_grad: bool = False, *_: Any) -> Tensor:
    """Hooks and metadata, the rest of the arguments, are left out: they would be code."""
    made = storage.tensor(storage.dtype, offset, size, stride)
    return made.requires_grad_() if requires_grad else made


def _tensor_of_dtype(
    storage: Storage, offset: int, size: Any, stride: Any, requires_grad: bool, _hooks: Any, dtype: torch.dtype, *_: Any
) -> Tensor:
    made = storage.tensor(dtype, offset, size, stride)
    return made.requires_grad_() if requires_grad else made


def _parameter(data: Tensor, requires_grad: bool, *_: Any) -> torch.nn.Parameter:
    return torch.nn.Parameter(data, requires_grad)


def _with_attributes(make: Any, kind: Any, arguments: Any, _attributes: Any) -> Tensor:
    """A tensor that somebody gave attributes of his own, which nobody here reads."""
    if not isinstance(make, Maker):
        raise Damaged("it has a tensor that no function of torch makes")
    made: Tensor = make(*arguments)
    return made


STORAGES: dict[tuple[str, str], Any] = {
    **{("torch", f"{name}Storage"): dtype for name, dtype in _STORED_AS.items()},
    **{("torch.cuda", f"{name}Storage"): dtype for name, dtype in _STORED_AS.items()},
    ("torch.storage", "UntypedStorage"): torch.uint8,
    ("torch.storage", "_UntypedStorage"): torch.uint8,
}
"""Kinds of storages, by what their numbers are."""
TENSORS = {
    **STORAGES,
    **{("torch", name): dtype for name, dtype in _DTYPES.items()},
    ("torch", "Size"): torch.Size,
    ("torch", "device"): torch.device,
    ("torch", "Tensor"): Maker(_tensor),
    ("torch._utils", "_rebuild_tensor"): Maker(_tensor),
    ("torch._utils", "_rebuild_tensor_v2"): Maker(_tensor),
    ("torch._utils", "_rebuild_tensor_v3"): Maker(_tensor_of_dtype),
    ("torch._utils", "_rebuild_parameter"): Maker(_parameter),
    ("torch._utils", "_rebuild_parameter_with_state"): Maker(_parameter),
    ("torch._tensor", "_rebuild_from_type_v2"): Maker(_with_attributes),
    ("torch.nn.parameter", "Parameter"): Maker(_parameter),
    ("collections", "OrderedDict"): OrderedDict,
}
"""torch's part of the allow-list."""
