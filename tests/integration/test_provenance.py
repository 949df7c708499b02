"""Versions, commit, scheduler and devices of a run."""

import subprocess
import time
from pathlib import Path

import pytest
import torch

from ev2_plugin.integration import provenance


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """The package's folder in a checkout with one commit."""
    package = tmp_path / "src" / "ev2_plugin"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-q", "-m", "first")
    return package


def git(folder: Path, *arguments: str) -> str:
    named = ("-c", "user.name=a", "-c", "user.email=a@b")
    return subprocess.run(
        ["git", "-C", str(folder), *named, *arguments], capture_output=True, text=True, check=True
    ).stdout.strip()


def test_a_checkout_tells_its_commit_and_whether_it_is_changed(checkout: Path) -> None:
    head = git(checkout, "rev-parse", "HEAD")
    assert provenance.commit(checkout) == {"id": head, "changed": False}
    (checkout / "new.py").write_text("not tracked")
    assert provenance.commit(checkout) == {"id": head, "changed": False}
    (checkout / "__init__.py").write_text("x = 1")
    assert provenance.commit(checkout) == {"id": head, "changed": True}


def test_an_installed_package_has_no_commit(tmp_path: Path) -> None:
    package = tmp_path / "site-packages" / "ev2_plugin"
    package.mkdir(parents=True)
    assert provenance.commit(package) is None


def test_without_git_there_is_no_commit(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert provenance.commit(checkout) is None


def test_slurm_is_asked_through_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SLURM_JOB_ID", "SLURM_RESTART_COUNT", "SLURM_ARRAY_JOB_ID", "SLURM_ARRAY_TASK_ID"):
        monkeypatch.delenv(name, raising=False)
    assert provenance.slurm_job() is None
    monkeypatch.setenv("SLURM_JOB_ID", "12")
    monkeypatch.setenv("SLURM_RESTART_COUNT", "2")
    told = provenance.slurm_job()
    assert told is not None
    assert (told["job_id"], told["restart_count"]) == ("12", "2")


def test_a_package_that_is_missing_has_no_version(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provenance, "_PACKAGES", ("numpy", "no-such-package"))
    told = provenance.versions()
    assert told["numpy"]
    assert told["no-such-package"] is None


def test_the_processor_is_named() -> None:
    assert provenance.place(torch.device("cpu"))["device"].startswith("CPU: ")


def test_asking_is_quick() -> None:
    start = time.perf_counter()
    provenance.versions(), provenance.place(torch.device("cpu")), provenance.slurm_job()
    assert time.perf_counter() - start < 1
