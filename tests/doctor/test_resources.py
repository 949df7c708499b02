"""Disk, memory, shared memory and cores, on folders that are really full or read-only."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from ev2_plugin.doctor import resources
from ev2_plugin.doctor.resources import (
    disk_finding,
    memory_finding,
    shared_memory_finding,
    temporary_finding,
    threads_finding,
)
from ev2_plugin.machine.processors import usable_cores


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 kB."""
    folder = tmp_path / "small"
    folder.mkdir()
    if os.geteuid() or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", folder]).returncode:
        pytest.skip("only root, and not in every container, may mount a small file system")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_a_full_disk_is_an_error(small_disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert disk_finding(small_disk).severity == "error"
    assert "No space left on device" in disk_finding(small_disk).found
    monkeypatch.setenv("TMPDIR", str(small_disk))
    assert temporary_finding().severity == "error"
    assert str(temporary_finding().mend).startswith("export TMPDIR=")
    shared = shared_memory_finding(small_disk)
    assert (shared.severity, str(shared.mend).split()[:2]) == ("error", ["sudo", "mount"])


def test_a_read_only_disk_is_an_error(small_disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    finding = disk_finding(small_disk)
    assert (finding.severity, finding.mend) == ("error", "cd ~")
    assert "Read-only file system" in finding.found


def test_a_disk_that_fills_soon_is_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resources, "_LITTLE_DISK", 10**18)
    assert disk_finding(tmp_path).severity == "warning"
    assert list(tmp_path.iterdir()) == []


def test_little_shared_memory_is_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert shared_memory_finding(tmp_path).severity == "ok"
    monkeypatch.setattr(resources, "_LITTLE_SHARED", 10**18)
    finding = shared_memory_finding(tmp_path)
    assert finding.severity == "warning"
    assert "--shm-size" in finding.found


@pytest.mark.parametrize(("free", "severity"), [(None, "ok"), (10**11, "ok"), (10**9, "warning")])
def test_memory(free: int | None, severity: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resources, "free_main_memory", lambda: free)
    assert memory_finding().severity == severity


@pytest.mark.parametrize(
    ("cores", "wanted", "severity", "said"),
    [
        (4, None, "ok", "as many as cores: 4"),
        (4, "4", "ok", "OMP_NUM_THREADS is 4, of 4"),
        (4, "5", "warning", "threads wait for each other"),
        (4, "many", "warning", "no number of threads"),
        (4, "0", "warning", "no number of threads"),
        (2, None, "warning", "grants 2 of 4 cores"),
    ],
)
def test_threads_beside_cores(
    cores: int, wanted: str | None, severity: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resources, "usable_cores", lambda: cores)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: range(4))
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if wanted is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", wanted)
    finding = threads_finding()
    assert finding.severity == severity
    assert said in finding.found
    assert finding.mend == (f"export OMP_NUM_THREADS={cores}" if severity == "warning" else None)


def test_cores_are_those_that_the_control_group_grants(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: range(64))
    assert usable_cores(tmp_path) == 64
    (tmp_path / "cpu.max").write_text("max 100000\n")
    assert usable_cores(tmp_path) == 64
    (tmp_path / "cpu.max").write_text("250000 100000\n")
    assert usable_cores(tmp_path) == 3
    (tmp_path / "cpu.max").unlink()
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu/cpu.cfs_quota_us").write_text("200000\n")
    (tmp_path / "cpu/cpu.cfs_period_us").write_text("100000\n")
    assert usable_cores(tmp_path) == 2
    (tmp_path / "cpu/cpu.cfs_quota_us").write_text("-1\n")
    assert usable_cores(tmp_path) == 64
