"""The checkpoints of a run: the last few stay, and the newest whole one is found."""

import errno
import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import pytest
import torch

from ev2_plugin.storage.checkpoint_file import write_checkpoint
from ev2_plugin.storage.checkpoint_folder import NEWEST, CheckpointFolder


def content(step: int) -> dict[str, Any]:
    return {"step": step, "state_dict": {"weight": torch.full((4000,), float(step))}}


@pytest.fixture
def folder(tmp_path: Path) -> CheckpointFolder:
    folder = CheckpointFolder(tmp_path / "run", keep=2)
    for step in (10, 20, 30):
        folder.save(content(step), step)
    return folder


def names(folder: CheckpointFolder) -> list[str]:
    return sorted(path.name for path in folder.path.iterdir())


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:1000])


def test_the_last_ones_are_kept_and_the_newest_has_its_own_name(folder: CheckpointFolder) -> None:
    assert names(folder) == [NEWEST, "checkpoint_000000020.pt", "checkpoint_000000030.pt"]
    assert (folder.path / NEWEST).samefile(folder.path / "checkpoint_000000030.pt")
    assert torch.load(folder.path / NEWEST, weights_only=True)["step"] == 30


def test_the_best_stays(folder: CheckpointFolder) -> None:
    folder.write("best_checkpoint.pt", content(10))
    for step in (40, 50, 60):
        folder.save(content(step), step)
    assert torch.load(folder.path / "best_checkpoint.pt", weights_only=True)["step"] == 10
    found = folder.newest_whole()
    assert found is not None
    assert found[1]["step"] == 60


def test_a_step_may_be_saved_twice(folder: CheckpointFolder) -> None:
    folder.save({**content(30), "validated": True}, 30)
    found = folder.newest_whole()
    assert found is not None
    assert found[1]["validated"]
    assert torch.load(folder.path / NEWEST, weights_only=True)["validated"]
    assert names(folder) == [NEWEST, "checkpoint_000000020.pt", "checkpoint_000000030.pt"]


@pytest.mark.parametrize("damage", [cut, lambda path: path.write_bytes(b""), lambda path: path.write_bytes(b"x" * 99)])
def test_the_one_before_a_damaged_one_is_used(
    damage: Any, folder: CheckpointFolder, caplog: pytest.LogCaptureFixture
) -> None:
    damage(folder.path / "checkpoint_000000030.pt")
    found = folder.newest_whole()
    assert found is not None
    assert found[0].name == "checkpoint_000000020.pt"
    assert found[1]["step"] == 20
    (record,) = caplog.records
    assert "checkpoint_000000030.pt" in record.message
    assert "going on from the checkpoint before it" in record.message


def test_when_all_are_damaged_the_run_does_not_begin_anew(folder: CheckpointFolder) -> None:
    for path in folder.numbered():
        cut(path)
    with pytest.raises(ValueError, match=r"no checkpoint in .*run can be read \(checkpoint_000000030\.pt, c"):
        folder.newest_whole()


def test_a_folder_without_checkpoints_has_none(tmp_path: Path) -> None:
    assert CheckpointFolder(tmp_path).newest_whole() is None
    assert CheckpointFolder(tmp_path / "none").newest_whole() is None
    (tmp_path / "best_checkpoint.pt").write_bytes(b"not of the series")
    assert CheckpointFolder(tmp_path).newest_whole() is None


def test_a_checkpoint_of_the_host_is_found(tmp_path: Path) -> None:
    torch.save(content(7), tmp_path / NEWEST)
    found = CheckpointFolder(tmp_path).newest_whole()
    assert found is not None
    assert found[1]["step"] == 7


def test_a_process_killed_before_the_newest_had_its_name_loses_nothing(folder: CheckpointFolder) -> None:
    write_checkpoint(folder.path / "checkpoint_000000040.pt", content(40))
    found = folder.newest_whole()
    assert found is not None
    assert found[1]["step"] == 40


def test_a_full_disk_keeps_what_is_there(folder: CheckpointFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {path.name: path.read_bytes() for path in folder.path.iterdir()}

    def full(state: object, file: BinaryIO) -> None:
        file.write(b"the first half of the n")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match=r"no space left .*what was there is kept: '.*checkpoint_000000040\.pt'"):
        folder.save(content(40), 40)
    assert {path.name: path.read_bytes() for path in folder.path.iterdir()} == before


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 kB."""
    path = tmp_path / "small"
    path.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"a small file system cannot be mounted here: {done.stderr.strip()}")
    yield path
    subprocess.run(["umount", str(path)], check=True)


def test_a_disk_that_really_fills_up_keeps_what_is_there(small_disk: Path) -> None:
    folder = CheckpointFolder(small_disk / "run", keep=2)
    big = {"state_dict": {"weight": torch.rand(25_000)}}  # 100 kB: two fit, a third does not
    folder.save({**big, "step": 1}, 1)
    folder.save({**big, "step": 2}, 2)
    with pytest.raises(OSError, match=r"no space left \(\d+ MB free"):
        folder.save({**big, "step": 3}, 3)
    found = folder.newest_whole()
    assert found is not None
    assert found[1]["step"] == 2
    assert names(folder) == [NEWEST, "checkpoint_000000001.pt", "checkpoint_000000002.pt"]


def test_kills_at_any_moment_leave_a_whole_checkpoint(tmp_path: Path) -> None:
    folder, rng, newest = CheckpointFolder(tmp_path / "run", keep=2), random.Random(0), 0
    for _ in range(12):
        process = os.fork()
        if process == 0:
            for step in range(newest + 1, newest + 1000):
                folder.save(content(step), step)
            os._exit(0)
        time.sleep(rng.uniform(0.01, 0.1))
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)
        found = folder.newest_whole()
        if found is not None:
            assert found[1]["step"] >= newest
            assert found[1]["state_dict"]["weight"].unique().tolist() == [found[1]["step"]]
            newest = found[1]["step"]
    assert newest > 12
    folder.save(content(newest + 1), newest + 1)
    assert not [name for name in names(folder) if "partial" in name or "link" in name]
