"""Pickles of plain data, of any protocol; what is no data is refused."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

from ev2_plugin.storage.safe_pickle import load_pickle


@pytest.mark.parametrize("name", ["eval", "exec", "getattr", "__import__", "open"])
def test_functions_of_python_itself_are_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / "some.pkl"
    path.write_bytes(b"c" + f"builtins\n{name}\n".encode() + b".")
    with pytest.raises(ValueError, match=f"builtins.{name}"):
        load_pickle(path)


def test_names_with_dots_do_not_get_around(tmp_path: Path) -> None:
    path = tmp_path / "some.pkl"
    path.write_bytes(b"\x80\x04\x8c\x08builtins\x8c\x0elist.__class__\x93.")
    with pytest.raises(ValueError, match="refused"):
        load_pickle(path)


def test_arrays_are_read(tmp_path: Path) -> None:
    path = tmp_path / "some.pkl"
    array = np.arange(6.0).reshape(2, 3)
    path.write_bytes(pickle.dumps({"a": array, "b": [np.float32(0.5), True, None]}))
    found = load_pickle(path)
    np.testing.assert_array_equal(found["a"], array)
    assert found["b"] == [0.5, True, None]


@pytest.mark.parametrize("protocol", range(6))
def test_every_protocol_is_read(tmp_path: Path, protocol: int) -> None:
    content = {"a": [1, -2, 2**40, 2**900, 0.5, "tëxt\n", None, True], ("b", 1): (b"", b"\n" * 300, {1, 2}, 1j), 3: []}
    content["long"] = "x" * 70_000
    path = tmp_path / "some.pkl"
    path.write_bytes(pickle.dumps(content, protocol=protocol))
    assert load_pickle(path) == content


def test_many_references_to_one_list_do_not_take_long(tmp_path: Path) -> None:
    one: tuple = ([],)
    for _ in range(60):
        one = (one, one)
    path = tmp_path / "some.pkl"
    path.write_bytes(pickle.dumps(one))
    assert type(load_pickle(path)) is tuple


def test_a_list_that_holds_itself_is_read(tmp_path: Path) -> None:
    one: list = [np.arange(2)]
    one.append((one,))
    path = tmp_path / "some.pkl"
    path.write_bytes(pickle.dumps(one))
    found = load_pickle(path)
    assert found[1][0] is found
    np.testing.assert_array_equal(found[0], [0, 1])
