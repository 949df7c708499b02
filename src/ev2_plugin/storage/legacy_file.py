"""Files of torch.save before its zip format: five pickles, then the numbers of each storage."""

from __future__ import annotations

import pickle
import struct
from typing import Any

import torch

from ev2_plugin.storage.pickle_stream import Buffer, Damaged, end_of_pickle
from ev2_plugin.storage.tensor_parts import Storage
from ev2_plugin.storage.unpickler import Names, unpickle

_HEAD = (0x1950A86A20F9469CFC6C, 1001)
_USUAL_HEAD = b"".join(pickle.dumps(number, protocol=2) for number in _HEAD)
_COUNT = struct.Struct("<q")


def read_legacy(data: Buffer, names: Names, device: str = "cpu") -> Any:
    """Read a file of torch.save that is no zip.

    Args:
        data: The bytes, or a memory map of them.
        names: All that it may ask for.
        device: Where tensors go; on `meta` their numbers are not read.

    Raises:
        Refused: If it asks for a name that is not among `names`.
        Damaged: If it is no such file, or not whole.
    """
    storages: dict[str, Storage] = {}
    claimed = 0

    def storage(saved: Any) -> Storage:
        nonlocal claimed
        if not (isinstance(saved, tuple) and len(saved) == 6 and saved[0] == "storage" and saved[5] is None):
            raise Damaged("it refers to something that is no storage")
        _, dtype, key, _, count, _ = saved
        if not isinstance(dtype, torch.dtype) or not isinstance(key, str) or type(count) is not int:
            raise Damaged("it refers to a storage of unknown kind")
        if key not in storages:
            claimed += count * dtype.itemsize
            if count < 0 or claimed > len(data):
                raise Damaged(f"it counts {count} numbers where {len(data)} bytes are")
            room = torch.empty(count * dtype.itemsize, dtype=torch.uint8, device="meta" if device == "meta" else None)
            storages[key] = Storage(room, dtype)
        return storages[key]

    place = end_of_pickle(data, _after_head(data))  # a pickle of the writer's number sizes: they are known
    content, place = unpickle(data, names, start=place, persistent_load=storage)
    keys, place = unpickle(data, {}, start=place)
    if not isinstance(keys, list) or len(set(keys)) != len(keys) or set(keys) != set(storages):
        raise Damaged("its table of storages is not that of its tensors")
    for key in keys:
        place = _fill(storages[key], data, place)
    return content


def _after_head(data: Buffer) -> int:
    if data[: len(_USUAL_HEAD)] == _USUAL_HEAD:
        return len(_USUAL_HEAD)
    place = 0
    for expected in _HEAD:
        found, place = unpickle(data, {}, start=place)
        if type(found) is not int or found != expected:
            raise Damaged("it is no file of torch.save")
    return place


def _fill(storage: Storage, data: Buffer, place: int) -> int:
    """Copy one storage's numbers; return the place after them."""
    size = storage.data.numel()
    begin = place + _COUNT.size
    if begin + size > len(data):
        raise Damaged("it is cut off")
    if _COUNT.unpack_from(data, place)[0] * storage.dtype.itemsize != size:
        raise Damaged("a storage has another size than its tensors say")
    if size and not storage.data.is_meta:
        storage.data.numpy()[:] = memoryview(data)[begin : begin + size]
    return begin + size
