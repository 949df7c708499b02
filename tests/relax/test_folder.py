"""Runs that are killed and started again end with the files of a run that was left alone."""

from __future__ import annotations

import itertools
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.io import Trajectory

from ev2_plugin.potential.protocol import Prediction
from ev2_plugin.potential.structures import Structures
from ev2_plugin.relax import folder as folder_module
from ev2_plugin.relax.faults import RelaxationError
from ev2_plugin.relax.folder import Progress, read_relaxed, relax_in_folder
from ev2_plugin.relax.frames import Kept
from ev2_plugin.relax.lbfgs import LBFGS
from ev2_plugin.relax.settings import Budget, Settings
from ev2_plugin.relax.source import AtomsSource
from helpers.potentials import Wells, emt, rough_slabs, scattered

COUNT = 9
SETTINGS = Settings(fmax=0.01, max_steps=40, budget=Budget(max_structures=3))


def source(count: int = COUNT) -> AtomsSource:
    return AtomsSource(scattered(count), [f"s{number}" for number in range(count)])


def dies_after(evaluations: int) -> Callable[[Structures], None]:
    """What a potential calls before each evaluation; one too many ends the run."""
    count = itertools.count(1)

    def die(structures: Structures) -> None:
        if next(count) > evaluations:
            raise KeyboardInterrupt

    return die


def contents(folder: Path) -> dict[str, bytes]:
    """All files but the snapshot and the lock."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in ("snapshot.pt", ".lock")
    }


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[Kept, dict[str, bytes]]:
    found: dict[Kept, dict[str, bytes]] = {}
    kinds: tuple[Kept, ...] = ("none", "ends", "full")
    for kept in kinds:
        folder = tmp_path_factory.mktemp(kept)
        relax_in_folder(source(), Wells(), SETTINGS, folder, trajectories=kept)
        found[kept] = contents(folder)
    return found


@pytest.fixture
def every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """Snapshots after every evaluation, whatever they cost."""
    monkeypatch.setattr(folder_module, "SHARE_OF_TIME", 1e9)


def test_results_say_how_each_relaxation_ended(tmp_path: Path) -> None:
    seen: list[Progress] = []
    end = relax_in_folder(source(), Wells(), SETTINGS, tmp_path, on_progress=seen.append)
    assert (end.done, end.total, end.here) == (COUNT, COUNT, COUNT)
    assert [one.done for one in seen] == sorted(one.done for one in seen)
    assert seen[-1].done == COUNT
    found = list(read_relaxed(tmp_path))
    assert [one.id for one in found] == [f"s{number}" for number in range(COUNT)]
    minima = Wells()(source()[4].moved_to(source()[4].positions * 0 + found[4].positions))
    assert float(minima.energy[0]) == found[4].energy
    rows = [json.loads(line) for line in (tmp_path / "relaxed.jsonl").read_text().splitlines()]
    assert {row["id"] for row in rows} == {one.id for one in found}
    assert sum(row["natoms"] for row in rows) * 24 == (tmp_path / "relaxed.positions").stat().st_size


@pytest.mark.parametrize("kept", ["none", "ends", "full"])
@pytest.mark.usefixtures("every_step")
def test_a_run_that_dies_at_every_evaluation_ends_like_one_left_alone(
    kept: Kept, tmp_path: Path, undisturbed: dict[Kept, dict[str, bytes]]
) -> None:
    """Each start makes two evaluations and dies in the third, so the last of them is always lost."""
    starts = 0
    while True:
        starts += 1
        assert starts < 200

        try:
            relax_in_folder(source(), Wells(dies_after(2)), SETTINGS, tmp_path, trajectories=kept)
        except KeyboardInterrupt:
            continue
        break
    assert starts > 10
    assert contents(tmp_path) == undisturbed[kept]


def test_what_kills_have_left_of_snapshots_is_removed(
    tmp_path: Path, undisturbed: dict[Kept, dict[str, bytes]]
) -> None:
    (tmp_path / ".snapshot.pt.4711.partial").write_bytes(b"half of a snaps")
    relax_in_folder(source(), Wells(), SETTINGS, tmp_path)
    assert not list(tmp_path.glob(".*.partial"))
    assert contents(tmp_path) == undisturbed["none"]


class CountedWells(Wells):
    """Counts its evaluations."""

    calls = 0

    def __call__(self, structures: Structures) -> Prediction:
        self.calls += 1
        return super().__call__(structures)


@pytest.mark.parametrize("kept", ["none", "full"])
def test_a_run_that_is_stopped_after_every_third_evaluation_repeats_none(
    kept: Kept, tmp_path: Path, undisturbed: dict[Kept, dict[str, bytes]]
) -> None:
    alone, potential = CountedWells(), CountedWells()
    relax_in_folder(source(), alone, SETTINGS, tmp_path / "alone", trajectories=kept)
    starts, done = 0, 0
    while done < COUNT:
        starts += 1
        asked = iter([False, False, True])
        reached = relax_in_folder(
            source(), potential, SETTINGS, tmp_path / "run", trajectories=kept, stop=lambda asked=asked: next(asked)
        )
        done = reached.done
    assert starts > 5
    assert potential.calls == alone.calls
    assert contents(tmp_path / "run") == undisturbed[kept]


def test_what_was_written_after_the_last_snapshot_is_cut_off(
    tmp_path: Path, undisturbed: dict[Kept, dict[str, bytes]]
) -> None:
    with pytest.raises(KeyboardInterrupt):
        relax_in_folder(source(), Wells(dies_after(30)), SETTINGS, tmp_path, trajectories="full")
    for path in tmp_path.rglob("*"):
        if path.name in ("relaxed.jsonl", "relaxed.positions") or path.suffix == ".frames":
            with path.open("ab") as file:
                file.write(b'{"id": "half a li')
    relax_in_folder(source(), Wells(), SETTINGS, tmp_path, trajectories="full")
    assert contents(tmp_path) == undisturbed["full"]


SCRIPT = """
import sys, time
from pathlib import Path
sys.path.insert(0, {tests!r})
from helpers.potentials import Wells
from relax.test_folder import SETTINGS, source
from ev2_plugin.relax.folder import relax_in_folder
print("ready", flush=True)
relax_in_folder(source(), Wells(lambda structures: time.sleep(0.004)), SETTINGS, Path(sys.argv[1]), trajectories="full")
"""


def test_sigkill_at_random_moments(tmp_path: Path, undisturbed: dict[Kept, dict[str, bytes]]) -> None:
    moments = random.Random(3)
    script = SCRIPT.format(tests=str(Path(__file__).parents[1]))
    kills = 0
    while True:
        process = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE)
        with process:
            assert process.stdout is not None
            process.stdout.readline()
            if kills < 4:
                time.sleep(moments.uniform(0.0, 0.15))
                process.send_signal(signal.SIGKILL)
            kills += process.wait() == -signal.SIGKILL
        if process.returncode == 0:
            break
        assert process.returncode == -signal.SIGKILL
    assert kills > 1
    assert contents(tmp_path) == undisturbed["full"]


def test_a_complete_run_is_not_done_again(tmp_path: Path) -> None:
    relax_in_folder(source(), Wells(), SETTINGS, tmp_path, trajectories="ends")
    before, potential = contents(tmp_path), Wells()
    end = relax_in_folder(source(), potential, SETTINGS, tmp_path, trajectories="ends")
    assert (end.done, end.here, potential.batches) == (COUNT, 0, [])
    assert contents(tmp_path) == before


@pytest.mark.parametrize("kept", ["ends", "full"])
def test_trajectories_hold_what_was_seen(kept: Kept, tmp_path: Path) -> None:
    slabs = rough_slabs(3)
    relax_in_folder(AtomsSource(slabs, list("abc")), emt(), Settings(fmax=0.05), tmp_path, trajectories=kept)
    for slab, one in zip(slabs, read_relaxed(tmp_path), strict=True):
        with Trajectory(tmp_path / "trajectories" / f"{one.id}.traj") as frames:
            assert len(frames) == (2 if kept == "ends" else one.steps + 1)
            first, last = frames[0], frames[-1]
            assert np.array_equal(first.positions, slab.positions)
            assert first.get_potential_energy() == one.initial_energy
            assert np.array_equal(last.positions, one.positions)
            assert last.get_potential_energy() == one.energy
            assert np.array_equal(last.get_tags(), slab.get_tags())
            felt = last.get_forces(apply_constraint=False)
            last.calc = emt().calculator
            assert np.allclose(felt, last.get_forces(apply_constraint=False), atol=1e-12)
    assert {path.name for path in (tmp_path / "trajectories").iterdir()} == {"a.traj", "b.traj", "c.traj"}


def test_a_structure_that_is_done_at_once_has_one_frame(tmp_path: Path) -> None:
    relax_in_folder(source(2), Wells(), Settings(fmax=1e6), tmp_path, trajectories="ends")
    with Trajectory(tmp_path / "trajectories" / "s0.traj") as frames:
        assert len(frames) == 1


def test_ids_must_be_unique_before_anything_runs(tmp_path: Path) -> None:
    potential = Wells()
    twice = AtomsSource(scattered(4), ["a", "b", "a", "b"])
    with pytest.raises(ValueError, match="2 ids belong to more than one structure \\('a', 'b'\\)"):
        relax_in_folder(twice, potential, SETTINGS, tmp_path / "new")
    assert not potential.batches
    assert not (tmp_path / "new").exists()
    for name in ("a/b", "", ".hidden", "a" * 251, "é" * 126, "a\ud800"):
        with pytest.raises(ValueError, match="cannot be names of files"):
            relax_in_folder(AtomsSource(scattered(1), [name]), potential, SETTINGS, tmp_path / "new")


def test_a_folder_belongs_to_one_run(tmp_path: Path) -> None:
    relax_in_folder(source(), Wells(), SETTINGS, tmp_path, described={"checkpoint": "aa"})
    other_step = Settings(LBFGS(maxstep=0.1), fmax=0.01, max_steps=40)
    with pytest.raises(ValueError, match=r"optimizer: .*'maxstep': 0.04.* there, .*'maxstep': 0.1"):
        relax_in_folder(source(), Wells(), other_step, tmp_path, described={"checkpoint": "aa"})
    with pytest.raises(ValueError, match="checkpoint: 'aa' there, 'bb' now"):
        relax_in_folder(source(), Wells(), SETTINGS, tmp_path, described={"checkpoint": "bb"})
    with pytest.raises(ValueError, match="structures: 9 there, 8 now"):
        relax_in_folder(source(8), Wells(), SETTINGS, tmp_path, described={"checkpoint": "aa"})
    renamed = AtomsSource(scattered(COUNT), [f"other{number}" for number in range(COUNT)])
    with pytest.raises(ValueError, match=r"differs \(other ids\): remove it to begin anew"):
        relax_in_folder(renamed, Wells(), SETTINGS, tmp_path, described={"checkpoint": "aa"})
    larger = Settings(fmax=0.01, max_steps=40, budget=Budget(max_structures=5))
    assert relax_in_folder(source(), Wells(), larger, tmp_path, described={"checkpoint": "aa"}).here == 0


def test_two_processes_do_not_work_in_one_folder(tmp_path: Path) -> None:
    def start_again(structures: Structures) -> None:
        with pytest.raises(BlockingIOError, match="another process relaxes structures in"):
            relax_in_folder(source(), Wells(), SETTINGS, tmp_path)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        relax_in_folder(source(), Wells(start_again), SETTINGS, tmp_path)


@pytest.mark.usefixtures("every_step")
def test_files_that_have_lost_their_end_are_reported(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        relax_in_folder(source(), Wells(dies_after(25)), SETTINGS, tmp_path, trajectories="full")
    os.truncate(next((tmp_path / "trajectories" / ".partial").glob("*.frames")), 5)
    with pytest.raises(ValueError, match="lacks frames that its run has written"):
        relax_in_folder(source(), Wells(), SETTINGS, tmp_path, trajectories="full")
    os.truncate(tmp_path / "relaxed.positions", 8)
    with pytest.raises(ValueError, match="ends before the positions"):
        list(read_relaxed(tmp_path))


def test_results_before_an_error_are_kept(tmp_path: Path) -> None:
    def fail(structures: Structures) -> None:
        if "s8" in structures.ids:
            raise RuntimeError("no")

    with pytest.raises(RelaxationError, match="structure s8: no"):
        relax_in_folder(source(), Wells(fail), SETTINGS, tmp_path)
    assert list(read_relaxed(tmp_path))
    assert relax_in_folder(source(), Wells(), SETTINGS, tmp_path).here < COUNT


def test_the_longest_id_is_the_name_of_a_trajectory(tmp_path: Path) -> None:
    relax_in_folder(AtomsSource(scattered(1), ["é" * 125]), Wells(), SETTINGS, tmp_path, trajectories="full")
    assert (tmp_path / "trajectories" / f"{'é' * 125}.traj").exists()


def test_a_structure_without_atoms_is_named_and_leaves_no_result(tmp_path: Path) -> None:
    with pytest.raises(RelaxationError, match="structure b: it has no atoms"):
        relax_in_folder(AtomsSource([*scattered(1), Atoms()], ["a", "b"]), Wells(), SETTINGS, tmp_path)
    assert not list(read_relaxed(tmp_path))


@pytest.mark.parametrize(("before", "after"), [(Budget(), Budget(max_edges=8)), (Budget(max_edges=8), Budget())])
@pytest.mark.usefixtures("every_step")
def test_a_run_goes_on_with_batches_of_another_size_when_asked_to(
    before: Budget, after: Budget, tmp_path: Path
) -> None:
    with pytest.raises(KeyboardInterrupt):
        relax_in_folder(source(), Wells(dies_after(4)), replace(SETTINGS, budget=before), tmp_path)
    potential = Wells()
    relax_in_folder(source(), potential, replace(SETTINGS, budget=after), tmp_path)
    edges = {name: 2 * len(atoms) for name, atoms in zip(source().ids, scattered(COUNT), strict=True)}
    largest = max(sum(edges[name] for name in batch) for batch in potential.batches)
    assert largest <= 8 if after.max_edges else largest > 8
    relax_in_folder(source(), Wells(), SETTINGS, tmp_path / "undisturbed")
    for one, other in zip(read_relaxed(tmp_path), read_relaxed(tmp_path / "undisturbed"), strict=True):
        assert (one.id, one.steps, one.energy) == (other.id, other.steps, other.energy)
        assert np.array_equal(one.positions, other.positions)


@pytest.mark.usefixtures("every_step")
def test_a_run_that_goes_on_remembers_what_the_memory_holds(tmp_path: Path) -> None:
    def too_large(structures: Structures) -> None:
        if len(structures.positions) > 5:
            raise MemoryError

    settings = replace(SETTINGS, budget=Budget())

    def dies(structures: Structures) -> None:
        too_large(structures)
        die(structures)

    die = dies_after(3)
    with pytest.raises(KeyboardInterrupt):
        relax_in_folder(source(), Wells(dies), settings, tmp_path)
    potential = Wells(too_large)
    relax_in_folder(source(), potential, settings, tmp_path)
    assert len(potential.batches[0]) < COUNT
    assert [one.index for one in read_relaxed(tmp_path)] == list(range(COUNT))


def test_a_line_that_a_kill_cut_short_is_reported(tmp_path: Path) -> None:
    relax_in_folder(source(2), Wells(), SETTINGS, tmp_path)
    lines = tmp_path / "relaxed.jsonl"
    os.truncate(lines, lines.stat().st_size - 9)
    with pytest.raises(ValueError, match=r"line 2 of .*relaxed.jsonl is incomplete"):
        list(read_relaxed(tmp_path))


@pytest.mark.parametrize("left", [0, 300])
def test_a_damaged_snapshot_is_reported(left: int, tmp_path: Path) -> None:
    relax_in_folder(source(2), Wells(), SETTINGS, tmp_path)
    os.truncate(tmp_path / "snapshot.pt", left)
    with pytest.raises(ValueError, match="snapshot.pt cannot be read"):
        relax_in_folder(source(2), Wells(), SETTINGS, tmp_path)


def test_structures_are_read_once_where_no_trajectory_needs_them(tmp_path: Path) -> None:
    class Counting(AtomsSource):
        def __getitem__(self, index: int) -> Structures:
            read.append(index)
            return super().__getitem__(index)

    read: list[int] = []
    relax_in_folder(Counting(scattered(4), list("abcd")), Wells(), SETTINGS, tmp_path)
    assert read == [0, 1, 2, 3]
