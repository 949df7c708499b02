"""Mistakes and interruptions that take processes of their own to meet; the others are in tests/errors."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import ase.io
import pytest
from ase import Atoms
from ase.build import bulk, fcc111
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator

from helpers import tiny_s2ef
from helpers.error_table import Case, Row
from helpers.trainers import config as training_config
from helpers.trainers import make_trainer

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("restored_process_state")]

PATIENCE = 300.0
SMALL_DISK = "2m"


class Bench:
    """A folder, and commands in processes of their own.

    Args:
        folder: Where.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def start(self, *arguments: object, address_space: int | None = None) -> subprocess.Popen[str]:
        """Start `ev2` in a session of its own, as a terminal does."""

        def limit() -> None:
            if address_space is not None:
                resource.setrlimit(resource.RLIMIT_AS, (address_space, address_space))

        return subprocess.Popen(
            [sys.executable, "-m", "ev2_plugin", *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
            preexec_fn=limit,  # noqa: PLW1509  no threads here
        )

    def run(self, *arguments: object, address_space: int | None = None) -> tuple[int, str]:
        """Exit status and everything printed."""
        process = self.start(*arguments, address_space=address_space)
        said, _ = process.communicate(timeout=PATIENCE)
        return process.returncode, said

    def interrupted(self, ready: Callable[[], bool], *arguments: object) -> tuple[int, str]:
        """The same with Ctrl-C, which all processes of a terminal get, once `ready` says so; none may be left."""
        process = self.start(*arguments)
        deadline = time.monotonic() + PATIENCE
        while not ready():
            assert process.poll() is None, process.communicate()[0]
            assert time.monotonic() < deadline
            time.sleep(0.02)
        os.killpg(process.pid, signal.SIGINT)
        said, _ = process.communicate(timeout=PATIENCE)
        assert not _session(process.pid)
        return process.returncode, said


def _session(number: int) -> list[str]:
    """Processes of a session that still live."""
    return subprocess.run(["ps", "-o", "pid=", "-s", str(number)], capture_output=True, text=True).stdout.split()


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system that is soon full."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={SMALL_DISK}", "tmpfs", str(disk)], capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"needs root to mount a small file system: {mounted.stderr.strip()}")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def labelled(count: int) -> Iterator[Atoms]:
    for seed in range(count):
        atoms = fcc111("Cu", (3, 3, 4), vacuum=6.0)
        atoms.rattle(0.05, seed=seed)
        atoms.set_tags([1] * len(atoms))
        atoms.calc = EMT()
        energy, forces = atoms.get_potential_energy(), atoms.get_forces()
        atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=forces)
        yield atoms


def stopped_relaxation(bench: Bench) -> tuple[int, str]:
    ase.io.write(bench.folder / "start.traj", list(labelled(3)))
    out = bench.folder / "out.traj"
    command = [
        "relax",
        bench.folder / "start.traj",
        "--calculator",
        "emt",
        "--fmax",
        1e-9,
        "--steps",
        150,
        "--out",
        out,
    ]
    ended = bench.interrupted((bench.folder / "out.traj.work/snapshot.pt").exists, *command)
    assert not out.exists()
    status, said = bench.run(*command)  # and it goes on
    assert status in (0, 3), said
    assert out.exists()
    return ended


def stopped_preparation(bench: Bench) -> tuple[int, str]:
    (bench.folder / "source").mkdir()
    structures = list(labelled(60))
    for number in range(12):
        ase.io.write(bench.folder / f"source/{number}.traj", structures[5 * number : 5 * number + 5])
    command = ["data", "prepare", bench.folder / "source", "--out", bench.folder / "data", "--split", "0.8,0.1,0.1"]
    ended = bench.interrupted((bench.folder / ".data.partial/chunks").is_dir, *command, "--workers", 2)
    assert not (bench.folder / "data").exists()
    status, said = bench.run(*command)
    assert status == 0, said
    assert (bench.folder / "data/train").is_dir()
    return ended


def stopped_training(bench: Bench) -> tuple[int, str]:
    config = training_config(tiny_s2ef.write_dataset("lmdb", bench.folder / "data"), max_epochs=400, checkpoint_every=5)
    config["optim"]["eval_every"] = 1000
    run_file = tiny_s2ef.write_config(bench.folder / "run.yml", config)
    flags = ["--config-yml", run_file, "--run-dir", bench.folder, "--timestamp-id", "run", "--cpu"]
    saved = (bench.folder / "checkpoints/run/checkpoint.pt").exists
    return bench.interrupted(saved, "fairchem", "--mode", "train", *flags)


def _checkpoint(folder: Path) -> Path:
    dataset = tiny_s2ef.write_dataset("lmdb", folder / "data")
    return Path(make_trainer(training_config(dataset), folder / "trained").save())


def hundred_thousand_atoms(bench: Bench) -> tuple[int, str]:
    atoms = bulk("Cu", cubic=True).repeat((30, 30, 28))
    assert len(atoms) == 100_800
    atoms.rattle(0.02, seed=0)
    ase.io.write(bench.folder / "large.traj", atoms)
    flags = ["--checkpoint", _checkpoint(bench.folder), "--device", "cpu", "--steps", 0]
    command = ["relax", bench.folder / "large.traj", *flags, "--out", bench.folder / "out.traj"]
    return bench.run(*command, address_space=6 * 10**9)


ROWS = (
    Row(
        "stopped with … of … structures relaxed; all work is kept in …: the same command goes on from there",
        {"Ctrl-C": Case(stopped_relaxation, "of 3 structures", 130)},
    ),
    Row(
        "stopped; what is done is kept in …: the same command goes on from there",
        {"Ctrl-C": Case(stopped_preparation, ".data.partial", 130)},
    ),
    Row(
        "stopped at step …, saved to …; the same command with --timestamp-id … goes on from there",
        {"Ctrl-C": Case(stopped_training, "--timestamp-id run goes on", 130)},
    ),
    Row(
        "structure … (… atoms, … edges) does not fit into the memory by itself: …",
        {"100,800 atoms": Case(hundred_thousand_atoms, "(100800 atoms, 1209600 edges)", 1)},
    ),
)


@pytest.mark.parametrize(
    ("row", "case"),
    [pytest.param(row, case, id=f"{row.message}-{name}") for row in ROWS for name, case in row.cases.items()],
)
def test_it_ends_as_the_page_says(row: Row, case: Case, bench: Bench) -> None:
    status, said = case.how(bench)
    assert status == case.ends, said
    assert row.matches(said), said
    assert case.said in said
    assert "Traceback" not in said


def test_a_full_disk_leaves_what_was_there(bench: Bench, small_disk: Path) -> None:
    ase.io.write(bench.folder / "start.traj", list(labelled(40)))
    out = small_disk / "out.traj"
    flags = ["--calculator", "emt", "--steps", 40, "--fmax", 1e-9, "--trajectories", small_disk / "frames"]
    status, said = bench.run("relax", bench.folder / "start.traj", *flags, "--out", out)
    assert status == 1, said
    assert "No space left on device" in said or "no space left" in said
    assert "Traceback" not in said
    assert not out.exists()
