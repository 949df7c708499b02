"""A preparation that is killed anywhere goes on where it was, and ends as if it had never stopped."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase.build import molecule
from ase.calculators.singlepoint import SinglePointCalculator

from ev2_plugin.data import inventory, lmdb, manifest
from ev2_plugin.data.manifest import exclusive
from ev2_plugin.data.metadata import read_metadata
from ev2_plugin.data.prepare import Preparation, prepare
from ev2_plugin.data.recipe import Recipe
from ev2_plugin.data.stored import dataset_files, read_samples

RECIPE = Recipe("tiny.yml", {"trainer": "ev2_plugin.Trainer", "model": {"max_radius": 3.0, "max_neighbors": 8}})


@pytest.fixture
def sources(tmp_path, monkeypatch) -> Path:
    """Six trajectories of molecules, each a chunk of its own."""
    monkeypatch.setattr(inventory, "CHUNK_BYTES", 1)
    folder = tmp_path / "sources"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number, name in enumerate(("H2O", "CH4", "NH3", "CO", "HCN", "CH3OH")):
        frames = []
        for _ in range(3):
            atoms = molecule(name)
            atoms.rattle(0.05, rng=rng)
            forces = rng.normal(size=(len(atoms), 3))
            atoms.calc = SinglePointCalculator(atoms, energy=-4.0 * len(atoms) + rng.normal(), forces=forces)
            frames.append(atoms)
        ase.io.write(folder / f"{number}.extxyz", frames)
    return folder


def wanted(sources: Path, out: Path, **changes: object) -> Preparation:
    plain = Preparation(out, (sources,), RECIPE, shares=(0.5, 0.25, 0.25), fit_references=False, samples_per_file=4)
    return replace(plain, **changes)


def content(out: Path) -> list[tuple[object, ...]]:
    """Every sample and every size of a dataset, and the run file."""
    run_file = (out / "run.yml").read_text()
    found: list[tuple[object, ...]] = [(run_file.replace(str(out), "OUT"),)]
    for split in ("train", "val", "test"):
        found += [
            (split, file.name, data.sid, data.fid, data.y, data.pos.numpy().tobytes(), data.force.numpy().tobytes())
            for file in dataset_files(out / split)
            for _, data in read_samples([file])
        ]
        sizes = read_metadata(out / split)
        found.append((split, sizes.natoms.tolist(), sizes.neighbors.tolist()))
    return found


def in_child(work: Callable[[], None]) -> int:
    """Run a function in a copy of this process; return the signal that ended it, or 0."""
    child = os.fork()
    if child == 0:
        try:
            work()
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def dying_at(count: int, monkeypatch: pytest.MonkeyPatch, owner: object, name: str, *, before: bool) -> None:
    """Kill this process at the given call of a function, before or after what it does."""
    original, calls = getattr(owner, name), iter(range(1, count + 1))

    def wrapper(*arguments: object) -> object:
        dying = next(calls, None) == count
        if dying and before:
            os.kill(os.getpid(), signal.SIGKILL)
        result = original(*arguments)
        if dying:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    monkeypatch.setattr(owner, name, wrapper)


@pytest.mark.parametrize(("owner", "name"), [(Path, "replace"), (lmdb, "_put")], ids=["renaming", "writing"])
def test_killed_again_and_again_it_ends_with_every_sample_once(sources, tmp_path, owner, name):
    """Attempt after attempt is killed, each after a few more steps of renaming a file or writing a value."""
    expected = prepare(wanted(sources, tmp_path / "whole"))
    out = tmp_path / "out"
    kills = 0
    for steps in (1, 3, 5, 6, 8, 9):

        def attempt(steps: int = steps) -> None:
            with pytest.MonkeyPatch.context() as patch:
                dying_at(steps, patch, owner, name, before=False)
                prepare(wanted(sources, out))

        kills += in_child(attempt) == -signal.SIGKILL
    assert kills >= 4
    outcome = prepare(wanted(sources, out))
    assert outcome.report == expected.report
    assert content(out) == content(tmp_path / "whole")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "sources", "whole"]
    assert not [path for path in out.rglob("*") if path.name.startswith(".")]


def test_half_a_file_of_the_result_does_not_stay_in_it(sources, tmp_path):
    out = tmp_path / "out"

    def attempt() -> None:
        with pytest.MonkeyPatch.context() as patch:
            dying_at(6 * 4 + 2, patch, lmdb, "_put", before=False)  # six chunks of three samples, then the first shard
            prepare(wanted(sources, out))

    assert in_child(attempt) == -signal.SIGKILL
    assert [path.name for path in (tmp_path / ".out.partial" / "result").rglob(".*")]
    prepare(wanted(sources, out))
    assert not list(out.rglob(".*"))


@pytest.mark.parametrize("step", range(1, 38))
def test_killed_once_at_any_step_it_goes_on(sources, tmp_path, step):
    out = tmp_path / "out"

    def attempt() -> None:
        with pytest.MonkeyPatch.context() as patch:
            dying_at(step, patch, Path, "replace", before=step % 2 == 0)
            prepare(wanted(sources, out))

    assert in_child(attempt) in (-signal.SIGKILL, 0)
    prepare(wanted(sources, out))
    samples = [row for row in content(out) if len(row) == 7]
    assert len(samples) == len({row[2:4] for row in samples}) == 18
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "sources"]


def test_finished_chunks_are_not_read_again(sources, tmp_path, monkeypatch):
    out = tmp_path / "out"

    def attempt() -> None:
        with pytest.MonkeyPatch.context() as patch:
            dying_at(9, patch, Path, "replace", before=False)  # the manifest, then two files for each chunk
            prepare(wanted(sources, out))

    assert in_child(attempt) == -signal.SIGKILL
    done = sorted((tmp_path / ".out.partial" / "chunks").glob("*.npz"))
    assert len(done) == 4
    dates = [path.stat().st_mtime_ns for path in done]
    seen = []
    prepare(
        wanted(sources, out), lambda stage, done, total: seen.append([p.stat().st_mtime_ns for p in _chunks(tmp_path)])
    )
    assert seen[-1][:4] == dates


def _chunks(folder: Path) -> list[Path]:
    return sorted((folder / ".out.partial" / "chunks").glob("*.npz"))


def interrupted(sources: Path, out: Path) -> None:
    def attempt() -> None:
        with pytest.MonkeyPatch.context() as patch:
            dying_at(7, patch, Path, "replace", before=False)
            prepare(wanted(sources, out))

    assert in_child(attempt) == -signal.SIGKILL


def test_a_source_that_changed_is_named(sources, tmp_path):
    out = tmp_path / "out"
    interrupted(sources, out)
    with (sources / "4.extxyz").open("a") as file:
        file.write("\n")
    with pytest.raises(ValueError, match=r"4.extxyz has changed since .*partial was begun: remove"):
        prepare(wanted(sources, out))


def test_sources_that_come_or_go_are_named(sources, tmp_path):
    out = tmp_path / "out"
    interrupted(sources, out)
    (sources / "3.extxyz").rename(sources / "8.extxyz")
    with pytest.raises(ValueError, match=r"was begun with .*3.extxyz, which is not among the sources"):
        prepare(wanted(sources, out))
    (sources / "8.extxyz").rename(sources / "3.extxyz")
    (sources / "9.extxyz").write_bytes((sources / "1.extxyz").read_bytes())
    with pytest.raises(ValueError, match=r"was begun without .*9.extxyz"):
        prepare(wanted(sources, out))


def test_another_cutoff_is_refused_and_another_split_goes_on_from_the_samples(sources, tmp_path):
    out = tmp_path / "out"
    interrupted(sources, out)
    wide = Recipe("tiny.yml", {**RECIPE.config, "model": {"max_radius": 4.0, "max_neighbors": 8}})
    with pytest.raises(ValueError, match=r"was begun with cutoff 3.0, not 4.0: remove"):
        prepare(wanted(sources, out, recipe=wide))
    prepare(wanted(sources, out, seed=5))
    prepare(wanted(sources, tmp_path / "whole", seed=5))
    assert content(out)[1:] == content(tmp_path / "whole")[1:]


def test_a_source_that_changes_meanwhile_is_noticed(sources, tmp_path, monkeypatch):
    original = manifest.Manifest.write

    def write_and_touch(self: manifest.Manifest, folder: Path) -> None:
        original(self, folder)
        os.utime(sources / "2.extxyz", ns=(1, 1))

    monkeypatch.setattr(manifest.Manifest, "write", write_and_touch)
    with pytest.raises(ValueError, match=r"2.extxyz has changed since the preparation began"):
        prepare(wanted(sources, tmp_path / "out"))


def test_two_at_once_are_refused(sources, tmp_path):
    with (
        exclusive(tmp_path / ".out.partial"),
        pytest.raises(RuntimeError, match=r"another process is at work in .*out.partial"),
    ):
        prepare(wanted(sources, tmp_path / "out"))


def test_processes_end_with_the_one_that_started_them(sources, tmp_path):
    """Killed with its helpers at work, it leaves none of them behind."""
    code = (
        "import time\nfrom functools import partial\nfrom ev2_plugin.workers import run_jobs\n"
        "if __name__ == '__main__':\n    print('up', flush=True)\n"
        "    list(run_jobs([partial(time.sleep, 600)] * 2, 2))\n"
    )
    script = tmp_path / "script.py"
    script.write_text(code)
    process = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        process.stdout.readline()
        helpers = _wait_for(lambda: _children(process.pid), at_least=2)
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and any(Path(f"/proc/{pid}").exists() for pid in helpers):
        time.sleep(0.1)
    assert not [pid for pid in helpers if Path(f"/proc/{pid}").exists()]


def _children(parent: int) -> list[int]:
    return [int(pid) for pid in Path(f"/proc/{parent}/task/{parent}/children").read_text().split()]


def _wait_for(find: Callable[[], list[int]], at_least: int) -> list[int]:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        found = find()
        if len(found) >= at_least:
            time.sleep(3)  # for the last of them to have begun its work
            return find()
        time.sleep(0.1)
    raise AssertionError(f"{len(find())} processes after a minute")
