import pickle
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from ev2_plugin.submission.archive import open_archive, write_archive

ARRAYS = {"ids": np.array(["a", "bc"]), "energy": np.array([[1.5], [-2.0]], dtype=np.float32), "none": np.zeros((0, 3))}


class Bomb:
    """Says so when it is unpickled."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return pytest.fail, ("a pickle was opened",)


def test_it_is_what_numpy_writes(tmp_path: Path) -> None:
    path, reference = tmp_path / "a.npz", tmp_path / "b.npz"
    write_archive(path, ARRAYS.items())
    np.savez_compressed(reference, **ARRAYS)
    with zipfile.ZipFile(path) as mine, zipfile.ZipFile(reference) as numpys:
        assert mine.namelist() == numpys.namelist()
        for name in mine.namelist():
            assert mine.read(name) == numpys.read(name)
            assert mine.getinfo(name).compress_type == zipfile.ZIP_DEFLATED
    with open_archive(path) as archive:
        assert archive.names == list(ARRAYS)
        for name, array in ARRAYS.items():
            np.testing.assert_array_equal(archive.read(name), array)


def test_what_fails_late_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    write_archive(path, ARRAYS.items())
    before = path.read_bytes()

    def failing() -> Iterator[tuple[str, np.ndarray]]:
        yield "energy", np.zeros(1000)
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_archive(path, failing())
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["a.npz"]
    with pytest.raises(ValueError, match="Object arrays"):
        write_archive(path, [("ids", np.array(["a", None]))])
    assert path.read_bytes() == before


def test_an_array_with_a_flag_that_nobody_knows_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", ids=np.arange(3))
    content = bytearray((tmp_path / "a.npz").read_bytes())
    for mark, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(mark) + flags] |= 1 << 5
    (tmp_path / "a.npz").write_bytes(content)
    with open_archive(tmp_path / "a.npz") as archive, pytest.raises(ValueError, match=r"a.npz: ids cannot be read"):
        archive.read("ids")


def test_pickles_are_never_opened(tmp_path: Path) -> None:
    np.savez(tmp_path / "object.npz", ids=np.array([Bomb()], dtype=object))
    with open_archive(tmp_path / "object.npz") as archive, pytest.raises(ValueError, match="ids cannot be read"):
        archive.read("ids")
    (tmp_path / "pickle.npz").write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(ValueError, match="is no .npz archive"), open_archive(tmp_path / "pickle.npz"):
        pass
    with zipfile.ZipFile(tmp_path / "text.npz", "w") as file:
        file.writestr("ids", pickle.dumps(Bomb()))
    with open_archive(tmp_path / "text.npz") as archive, pytest.raises(ValueError, match="ids is no array"):
        archive.read("ids")


def test_cut_off_files(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    write_archive(path, {"energy": np.random.default_rng(0).normal(size=5000)}.items())
    whole = path.read_bytes()
    for length in (0, 1, 30, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match="is no .npz archive, or is cut off"), open_archive(path):
            pass
    spoilt = bytearray(whole)
    spoilt[len(whole) // 2] ^= 255
    path.write_bytes(bytes(spoilt))
    with open_archive(path) as archive, pytest.raises(ValueError, match="energy cannot be read"):
        archive.read("energy")


def test_what_is_no_archive(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros(3))
    with pytest.raises(ValueError, match="is a single array"), open_archive(tmp_path / "a.npy"):
        pass
    with pytest.raises(FileNotFoundError, match="there is no file"), open_archive(tmp_path / "b.npz"):
        pass
