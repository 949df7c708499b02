"""All that a file may ask for when it is read without trust: what holds data, and nothing that does anything."""

from __future__ import annotations

from collections import Counter, OrderedDict, defaultdict
from pathlib import Path, PureWindowsPath
from typing import Any

from ev2_plugin.storage.legacy_file import read_legacy
from ev2_plugin.storage.numpy_parts import NUMPY
from ev2_plugin.storage.pickle_stream import Damaged
from ev2_plugin.storage.tensor_parts import STORAGES, TENSORS
from ev2_plugin.storage.unpickler import Maker, Record


def _bytes(text: str, encoding: str = "latin1") -> bytes:
    if encoding not in ("latin1", "latin-1", "ascii", "utf-8"):
        raise Damaged(f"it has a text in {encoding!r}")
    return text.encode(encoding)


def _bytearray(content: Any = b"", encoding: str = "latin1") -> bytearray:
    """Of bytes or text, never of a number: that would be a length."""
    return bytearray(content if isinstance(content, bytes) else _bytes(content, encoding))


def _builtin_bytes(content: Any = b"") -> bytes:
    return bytes(content) if isinstance(content, list | tuple | bytes) else _bytes(content)


_BUILTINS = {
    **{kind.__name__: kind for kind in (bool, complex, dict, float, frozenset, int, list, set, tuple)},
    "str": Maker(str),
    "bytes": Maker(_builtin_bytes),
    "bytearray": Maker(_bytearray),
}
_PATHS = {
    **dict.fromkeys(("PosixPath", "PurePosixPath"), Maker(Path)),
    **dict.fromkeys(("WindowsPath", "PureWindowsPath"), Maker(PureWindowsPath)),
}
DATA: dict[tuple[str, str], Any] = {
    **{(module, name): made for module in ("builtins", "__builtin__") for name, made in _BUILTINS.items()},
    **{("pathlib", name): made for name, made in _PATHS.items()},
    ("_codecs", "encode"): Maker(_bytes),
    ("collections", "OrderedDict"): OrderedDict,
    ("collections", "defaultdict"): defaultdict,
    ("collections", "Counter"): Maker(Counter),
    **NUMPY,
    **TENSORS,
    # a storage inside an ordinary pickle: torch itself would open any file of torch.save here
    ("torch.storage", "_load_from_bytes"): Maker(lambda content: read_legacy(content, STORAGES)),
}
"""What checkpoints, tables and settings hold."""
SAMPLES = {
    **DATA,
    **{
        (f"torch_geometric.data.{module}", name): Record
        for module, names in {
            "data": "BaseData Data DataTensorAttr DataEdgeAttr",
            "storage": "BaseStorage NodeStorage EdgeStorage GlobalStorage",
        }.items()
        for name in names.split()
    },
}
"""What samples of a dataset hold besides: structures, of which only the attributes are taken."""
