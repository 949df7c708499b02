"""Files with any bytes changed, cut or put in are read, or refused by an error that names them."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from helpers.file_readers import READERS, Reader, read_or_refuse

NASTY = (b"\xff" * 8, b"\0" * 8, b"r\xff\xff\xff\xff", b"\x8e", b"1e9")
"""Large numbers, and instructions of a pickle with one."""


@st.composite
def _changes(draw: st.DrawFn) -> list[tuple[str, float, bytes]]:
    """What to do, where (as a share of the file) and with which bytes."""
    change = st.tuples(
        st.sampled_from(["overwrite", "flip", "cut", "insert", "delete"]),
        st.floats(0, 1, exclude_max=True),
        st.binary(min_size=1, max_size=8) | st.sampled_from(NASTY),
    )
    return draw(st.lists(change, min_size=1, max_size=3))


def changed(content: bytes, changes: list[tuple[str, float, bytes]]) -> bytes:
    made = bytearray(content)
    for what, share, new in changes:
        place = int(share * len(made))
        if what == "overwrite":
            made[place : place + len(new)] = new
        elif what == "flip" and made:
            made[place] ^= 1 << (new[0] % 8)
        elif what == "cut":
            del made[place:]
        elif what == "insert":
            made[place:place] = new
        else:
            del made[place : place + len(new)]
    return bytes(made)


@pytest.fixture(params=READERS.values(), ids=READERS)
def reader(request: pytest.FixtureRequest) -> Reader:
    return request.param


def test_whole_files_are_read(reader: Reader, tmp_path: Path) -> None:
    reader.write(tmp_path / reader.name)
    assert read_or_refuse(reader, tmp_path / reader.name)


def test_damaged_files_are_read_or_refused_by_name(reader: Reader, tmp_path: Path) -> None:
    path = tmp_path / reader.name
    reader.write(path)
    content = path.read_bytes()

    @settings(max_examples=60, deadline=5000, derandomize=True, database=None)
    @given(_changes())
    def check(changes: list[tuple[str, float, bytes]]) -> None:
        path.write_bytes(changed(content, changes))
        read_or_refuse(reader, path)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of NumPy's and zipfile's, about what they find
        check()


@settings(max_examples=60, deadline=5000, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=200))
def test_anything_is_refused_by_name(reader: Reader, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / reader.name
    if not path.exists():
        reader.write(path)
    path.write_bytes(content)
    read_or_refuse(reader, path)
