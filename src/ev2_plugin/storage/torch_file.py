"""Files of torch.save, read without executing anything in them.

torch's own `weights_only=True` is not enough in torch 2.4: it runs TorchScript programs that stand in a checkpoint's
place (CVE-2025-32434), and believes the sizes that a file states, so that damage can be read as memory of the process.
"""

from __future__ import annotations

import errno
import mmap
import zipfile
from pathlib import Path
from typing import Any, BinaryIO, cast

import torch

from ev2_plugin.storage.allow_list import DATA
from ev2_plugin.storage.legacy_file import read_legacy
from ev2_plugin.storage.pickle_stream import Damaged
from ev2_plugin.storage.safe_pickle import plain, reading
from ev2_plugin.storage.tensor_parts import Storage
from ev2_plugin.storage.unpickler import Names, Refused, unpickle

__all__ = ["Refused", "read_torch"]

_PIECE = 2**24


def read_torch(path: Path, *, trust: bool = False, map_location: str = "cpu", names: Names = DATA) -> Any:
    """Read a file of torch.save, of any format since torch 0.4.

    Args:
        path: The file.
        trust: Whether it comes from somebody trusted: then it may hold, and execute, anything.
        map_location: `cpu`, or `meta`: then tensors have no values, and none are read.
        names: All that it may ask for without trust.

    Returns:
        Its content: tensors, arrays, numbers, texts, paths, and containers of them; of tensors, hooks and attributes
        of their own are left out.

    Raises:
        FileNotFoundError: If there is no such file.
        Refused: If it asks for anything else. Nothing was executed.
        ValueError: If it is damaged, or of another kind.
    """
    if map_location not in ("cpu", "meta"):
        raise ValueError(f"map_location must be cpu or meta, got {map_location!r}")
    if not path.exists():
        raise FileNotFoundError(errno.ENOENT, "no such file", str(path))
    if not path.is_file():
        raise ValueError(f"{path} is no file")
    with reading(path):
        if trust:
            return torch.load(path, map_location=map_location, weights_only=False)
        with path.open("rb") as file:
            is_zip = file.read(4) == b"PK\x03\x04"
            content = (_read_zip if is_zip else _read_legacy)(file, path, map_location, names)
        return plain(content)


def _read_legacy(file: BinaryIO, path: Path, device: str, names: Names) -> Any:
    if path.stat().st_size == 0:
        raise Damaged("it is empty")
    return read_legacy(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), names, device)


def _read_zip(file: BinaryIO, path: Path, device: str, names: Names) -> Any:
    with zipfile.ZipFile(file) as archive:
        members = {info.filename: info for info in archive.infolist()}
        if sum(info.file_size for info in members.values()) > path.stat().st_size:
            raise Damaged("its parts are larger than itself")
        roots = [
            name.removesuffix("data.pkl") for name in members if name.count("/") == 1 and name.endswith("/data.pkl")
        ]
        if len(roots) != 1:
            raise Damaged("it is a zip archive, but not of torch.save")
        root = roots[0]
        if f"{root}constants.pkl" in members:
            raise Refused("it is a TorchScript program")
        if f"{root}byteorder" in members and archive.read(f"{root}byteorder") != b"little":
            raise Damaged("it was written on a machine of another byte order")
        storages: dict[str, Storage] = {}

        def storage(saved: Any) -> Storage:
            if not (isinstance(saved, tuple) and len(saved) == 5 and saved[0] == "storage"):
                raise Damaged("it refers to something that is no storage")
            _, dtype, key, _, count = saved
            if not isinstance(dtype, torch.dtype) or not isinstance(key, str) or type(count) is not int:
                raise Damaged("it refers to a storage of unknown kind")
            if key not in storages:
                info = members.get(f"{root}data/{key}")
                if info is None or info.file_size != count * dtype.itemsize:
                    raise Damaged(
                        f"it counts {count} numbers of {dtype} where {info.file_size if info else 0} bytes are"
                    )
                storages[key] = Storage(_row(archive, info, device), dtype)
            return storages[key]

        return unpickle(archive.read(f"{root}data.pkl"), names, persistent_load=storage)[0]


def _row(archive: zipfile.ZipFile, info: zipfile.ZipInfo, device: str) -> torch.Tensor:
    """The bytes of a member; the archive's check sum of them is compared."""
    if device == "meta":
        return torch.empty(info.file_size, dtype=torch.uint8, device="meta")
    row = torch.empty(info.file_size, dtype=torch.uint8)
    room, place = memoryview(cast(Any, row.numpy())), 0
    with archive.open(info) as member:
        while place < len(room):
            piece = member.read(min(_PIECE, len(room) - place))
            if not piece:
                raise Damaged("it is cut off")
            room[place : place + len(piece)] = piece
            place += len(piece)
        member.read(1)  # the check sum is compared where the end is met
    return row
