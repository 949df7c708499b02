"""Files of torch.save: what legacy checkpoints hold comes back the same, anything else is refused unexecuted."""

from __future__ import annotations

import collections
import io
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ev2_plugin.storage.allow_list import SAMPLES
from ev2_plugin.storage.torch_file import Refused, read_torch

FORMATS = {"zip": True, "legacy": False}


def saved(path: Path, content: Any, form: str = "zip", protocol: int = 2) -> Path:
    torch.save(content, path, _use_new_zipfile_serialization=FORMATS[form], pickle_protocol=protocol)
    return path


def a_checkpoint() -> dict[str, Any]:
    """What a trainer's file holds, with all that older releases put there besides."""
    base = torch.arange(12.0)
    weights = torch.nn.Linear(3, 2).state_dict()
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.ones(2))])
    return {
        "epoch": 1.5,
        "step": 300,
        "state_dict": weights,
        "shared": [base[:6].view(2, 3), base.view(3, 4).T, base[3:3]],
        "types": [
            torch.ones(2, dtype=d) for d in (torch.float64, torch.bfloat16, torch.int8, torch.bool, torch.cfloat)
        ],
        "scalar": torch.tensor(2.5),
        "parameter": torch.nn.Parameter(torch.ones(2)),
        "optimizer": optimizer.state_dict(),
        "config": {
            "path": Path("a/b"),
            "dtype": torch.float32,
            "device": torch.device("cpu"),
            "size": torch.Size([2, 3]),
            "metrics": collections.defaultdict(dict, {"a": {"b": 1}}),
            "complex": 1 + 2j,
            "set": {1, 2},
            "frozen": frozenset("ab"),
            "bytes": b"\x00\xff",
            "bytearray": bytearray(b"ab"),
            "big": 2**70,
        },
        "numpy": {
            "float": np.float64(0.1),
            "int": np.int64(3),
            "bool": np.bool_(True),
            "text": np.str_("héllo"),
            "array": np.arange(6, dtype=np.float32).reshape(2, 3),
            "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
            "big endian": np.arange(3, dtype=">i4"),
            "empty": np.zeros((0, 3)),
            "zero-dimensional": np.array(1.0),
            "texts": np.array(["a", "bcd"]),
            "objects": np.array([None, "a", np.arange(2)], dtype=object),
            "dtype": np.dtype("float32"),
        },
        "rng": np.random.RandomState(1).get_state(),  # noqa: NPY002
        "scheduler": (collections.Counter("aab"), (), None, True),
    }


def assert_same(found: Any, expected: Any) -> None:
    assert type(found) is type(expected)
    if isinstance(expected, torch.Tensor):
        assert found.dtype == expected.dtype
        assert found.stride() == expected.stride()
        assert found.requires_grad == expected.requires_grad
        assert torch.equal(found, expected)
    elif isinstance(expected, np.ndarray):
        assert found.dtype == expected.dtype
        assert found.shape == expected.shape
        assert found.flags.f_contiguous == expected.flags.f_contiguous
        for one, other in zip(found.flat, expected.flat, strict=True):
            assert_same(one, other)
    elif isinstance(expected, dict):
        assert list(found) == list(expected)
        for key in expected:
            assert_same(found[key], expected[key])
        assert getattr(found, "_metadata", None) == getattr(expected, "_metadata", None)
    elif isinstance(expected, list | tuple):
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            assert_same(one, other)
    else:
        assert found == expected


@pytest.mark.parametrize("protocol", [2, 4, 5])
@pytest.mark.parametrize("form", FORMATS)
def test_what_checkpoints_hold_comes_back_the_same(tmp_path: Path, form: str, protocol: int) -> None:
    content = a_checkpoint()
    found = read_torch(saved(tmp_path / "c.pt", content, form, protocol))
    assert_same(found, content)
    one, other = found["shared"][:2]
    assert one.untyped_storage().data_ptr() == other.untyped_storage().data_ptr(), "shared numbers stay shared"
    found["shared"][0].mul_(2)
    found["numpy"]["array"][0] = 1  # writable


@pytest.mark.parametrize("form", FORMATS)
def test_on_meta_there_are_shapes_and_no_values(tmp_path: Path, form: str) -> None:
    found = read_torch(saved(tmp_path / "c.pt", {"a": torch.ones(2, 3)}, form), map_location="meta")
    assert found["a"].is_meta
    assert found["a"].shape == (2, 3)


class Attack:
    """Makes a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, (str(self.path),)


def inside_a_storage(attack: Attack) -> Any:
    """The attack in the bytes that torch.storage._load_from_bytes opens."""

    class Holder:
        def __reduce__(self) -> Any:
            inner = io.BytesIO()
            torch.save(attack, inner, _use_new_zipfile_serialization=False)
            return torch.storage._load_from_bytes, (inner.getvalue(),)

    return Holder()


PLACES = {
    "alone": lambda attack: attack,
    "among the config": lambda attack: {"config": {"model": [attack]}, "state_dict": {}},
    "as a key": lambda attack: {("a", attack): 1},
    "inside a storage": inside_a_storage,
    "in an array of objects": lambda attack: np.array([attack], dtype=object),
}


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("form", FORMATS)
def test_a_file_that_would_execute_something_is_refused(tmp_path: Path, form: str, place: str, protocol: int) -> None:
    made = tmp_path / "made"
    path = saved(tmp_path / "c.pt", PLACES[place](Attack(made)), form, protocol)
    with pytest.raises(Refused, match=r"c\.pt is refused: it asks for posix.mkdir, .*pass --trust \(trust=True\) only"):
        read_torch(path)
    assert not made.exists()
    read_torch(path, trust=True)
    assert made.exists(), "the attack should work where nothing stops it"


DANGEROUS = [
    *(("builtins", name) for name in ("eval", "exec", "getattr", "setattr", "__import__", "open", "compile", "type")),
    ("__builtin__", "eval"),
    ("os", "system"),
    ("functools", "partial"),
    ("operator", "attrgetter"),
    ("copyreg", "_reconstructor"),
    ("pickle", "loads"),
    ("numpy", "load"),
    ("numpy.core.multiarray", "fromfile"),
    ("torch", "load"),
    ("torch._utils", "_import_dotted_name"),
    ("torch._utils", "_rebuild_wrapper_subclass"),
    ("torch.serialization", "load"),
    ("codecs", "open"),
    ("pathlib", "Path.unlink"),
    ("builtins", "list.__class__"),
    ("collections", "OrderedDict.__init__.__globals__"),
]


@pytest.mark.parametrize(("module", "name"), DANGEROUS)
def test_names_that_do_things_are_refused(tmp_path: Path, module: str, name: str) -> None:
    named = b"".join(b"\x8c" + bytes([len(part)]) + part.encode() for part in (module, name))
    pickles = [b"\x80\x04" + named + b"\x93.", b"\x80\x02c" + f"{module}\n{name}\n.".encode()]
    for data in pickles:
        path = saved(tmp_path / "c.pt", {})
        replace_pickle(path, data)
        with pytest.raises(Refused, match=f"it asks for {module}.{name}"):
            read_torch(path)


def replace_pickle(path: Path, data: bytes) -> None:
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, data if name.endswith("data.pkl") else content)


def test_a_torchscript_program_in_place_of_a_checkpoint_is_refused(tmp_path: Path) -> None:
    torch.jit.save(torch.jit.script(torch.nn.Linear(1, 1)), str(tmp_path / "c.pt"))
    with pytest.raises(Refused, match="TorchScript"):
        read_torch(tmp_path / "c.pt")


@pytest.mark.parametrize("made", SAMPLES.values(), ids=[".".join(key) for key in SAMPLES])
def test_nothing_that_a_file_may_ask_for_can_be_changed_by_it(made: Any) -> None:
    with pytest.raises((TypeError, AttributeError, ValueError)):
        made.harmless = 1
    with pytest.raises((TypeError, AttributeError, ValueError)):
        made.__dict__["harmless"] = 1


def test_tensors_of_other_layouts_are_refused(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="_rebuild_sparse_tensor"):
        read_torch(saved(tmp_path / "c.pt", torch.sparse_coo_tensor([[0]], [1.0], (3,))))


@pytest.mark.parametrize("form", FORMATS)
def test_every_cut_is_found(tmp_path: Path, form: str) -> None:
    path = saved(tmp_path / "c.pt", {"a": torch.arange(6.0), "b": {"c": np.arange(3)}}, form)
    whole = path.read_bytes()
    for length in range(0, len(whole), 7):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"c\.pt cannot be read, it is damaged or of another kind"):
            read_torch(path)


def test_a_bit_that_flipped_among_the_weights_is_found(tmp_path: Path) -> None:
    path = saved(tmp_path / "c.pt", {"a": torch.full((1000,), 1.5)})
    content = bytearray(path.read_bytes())
    content[content.index(b"\x00\x00\xc0\x3f" * 9) + 5] ^= 16
    path.write_bytes(content)
    with pytest.raises(ValueError, match="CRC"):
        read_torch(path)


LARGE = {
    "memory of the unpickler": b"\x80\x02Nr\xff\xff\xff\xff.",
    "memory in text": b"\x80\x02Np4294967295\n.",
    "text": b"\x80\x02X\xff\xff\xff\xffabc.",
    "long text": b"\x80\x04\x8d\xff\xff\xff\xff\xff\xff\xff\x7fabc.",
    "number": b"\x80\x02\x8b\xff\xff\xff\x7fabc.",
    "frame": b"\x80\x04\x95\xff\xff\xff\xff\xff\xff\xff\x7fN.",
    "bytearray of a length": b"\x80\x04\x8c\x08builtins\x8c\x09bytearray\x93J\xff\xff\xff\x7f\x85R.",
}


@pytest.mark.parametrize("what", LARGE)
def test_sizes_that_cannot_be_are_not_believed(tmp_path: Path, what: str) -> None:
    path = saved(tmp_path / "c.pt", {})
    replace_pickle(path, LARGE[what])
    with pytest.raises(ValueError, match=r"c\.pt cannot be read"):
        read_torch(path)


class Rebuilt:
    def __init__(self, *arguments: Any) -> None:
        self.arguments = arguments

    def __reduce__(self) -> Any:
        return torch._utils._rebuild_tensor_v2, self.arguments


@pytest.mark.parametrize(
    ("offset", "size", "stride"),
    [(0, (7,), (1,)), (1, (6,), (1,)), (-1, (2,), (1,)), (0, (2, 2), (5, 1)), (0, (2**62,), (0,)), (0, (2,), (2**62,))],
)
@pytest.mark.parametrize("form", FORMATS)
def test_a_tensor_cannot_reach_beyond_its_numbers(
    tmp_path: Path, form: str, offset: int, size: Any, stride: Any
) -> None:
    storage = torch.arange(6.0)._typed_storage()
    path = saved(tmp_path / "c.pt", Rebuilt(storage, offset, size, stride, False, collections.OrderedDict()), form)
    if stride == (0,):  # one number, expanded: it is not torch.save's doing, and no harm
        assert read_torch(path).shape == size
    else:
        with pytest.raises(ValueError, match="cannot be read"):
            read_torch(path)


def test_bytes_are_never_taken_for_addresses_of_objects(tmp_path: Path) -> None:
    kind = b"cnumpy\ndtype\nX\x01\x00\x00\x00O\x85R"
    array = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85C\x01b\x87R"
    state = b"(K\x01K\x01\x85" + kind + b"(K\x03X\x01\x00\x00\x00|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    path = saved(tmp_path / "c.pt", {})
    replace_pickle(path, b"\x80\x03" + array + state + b"\x89C\x08AAAAAAAAtb.")
    with pytest.raises(ValueError, match="objects that are no list"):
        read_torch(path)


def test_other_files_are_named_for_what_they_are(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="none.pt"):
        read_torch(tmp_path / "none.pt")
    with pytest.raises(ValueError, match="is no file"):
        read_torch(tmp_path)
    (tmp_path / "c.pt").write_bytes(pickle.dumps({"a": 1}))
    with pytest.raises(ValueError, match="no file of torch.save"):
        read_torch(tmp_path / "c.pt")
    with zipfile.ZipFile(tmp_path / "c.zip", "w") as archive:
        archive.writestr("a.txt", "a")
    with pytest.raises(ValueError, match="not of torch.save"):
        read_torch(tmp_path / "c.zip")


def test_lists_within_lists_do_not_overflow(tmp_path: Path) -> None:
    path = saved(tmp_path / "c.pt", {})
    replace_pickle(path, b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b".")
    with pytest.raises(ValueError, match="recursion"):
        read_torch(path)
