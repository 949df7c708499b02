"""Files are there as a whole or as they were before."""

import errno
import os
from pathlib import Path

import pytest

from ev2_plugin.storage.atomic import written_atomically


def fail_halfway(path: Path, error: BaseException) -> None:
    with written_atomically(path) as file:
        file.write(b"half of the n")
        raise error


def test_the_new_content_takes_the_place_of_the_old(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with written_atomically(path) as file:
        file.write(b"new")
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, ValueError, SystemExit])
def test_what_fails_leaves_what_was_there(interruption: type[BaseException], tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with pytest.raises(interruption):
        fail_halfway(path, interruption())
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_named(code: int, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with pytest.raises(OSError, match=r"no space left \(\d+ MB free.*what was there is kept") as error:
        fail_halfway(path, OSError(code, "full"))
    assert error.value.errno == code
    assert error.value.filename == str(path)
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


def test_other_errors_keep_their_words(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="No such file"), written_atomically(tmp_path / "none" / "file"):
        pass
