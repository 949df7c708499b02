"""Relaxations that end with the same files however often they are killed on the way.

Results are appended to files, and from time to time a snapshot of the whole run says how long each file was. A run that
starts again in the folder cuts the files to that length and goes on from the snapshot; what it repeats gives the same
numbers, because it evaluates the same batches.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from ev2_plugin.potential.protocol import Potential, Prediction
from ev2_plugin.potential.structures import to_atoms
from ev2_plugin.relax.frames import Frames, Kept
from ev2_plugin.relax.group import Group, Relaxed
from ev2_plugin.relax.relaxation import Relaxation
from ev2_plugin.relax.results import Results, read_results
from ev2_plugin.relax.settings import Settings
from ev2_plugin.relax.snapshot import read_state, remove_unfinished, restore, take_snapshot, write_state
from ev2_plugin.relax.source import Source, check_ids
from ev2_plugin.storage.plain_files import read_json

SNAPSHOT, RUN, LOCK, TRAJECTORIES = "snapshot.pt", "run.json", ".lock", "trajectories"

_DIGEST = re.compile("[0-9a-f]{64}")

SHARE_OF_TIME = 0.02
"""Of a run's time that snapshots may take; the work between two of them is what a kill costs."""


@dataclass(frozen=True)
class Progress:
    """How far a run is.

    Attributes:
        done: Structures done, those of earlier starts included.
        total: All structures.
        active: Structures in the batch.
        here: Structures done since this start.
        seconds: Since this start.
    """

    done: int
    total: int
    active: int
    here: int
    seconds: float

    @property
    def structures_per_second(self) -> float:
        """Rate since this start."""
        return self.here / self.seconds if self.seconds > 0 else 0.0


def relax_in_folder(
    source: Source,
    potential: Potential,
    settings: Settings,
    folder: Path,
    *,
    trajectories: Kept = "none",
    described: Mapping[str, str] | None = None,
    on_progress: Callable[[Progress], None] = lambda progress: None,
    stop: Callable[[], bool] = lambda: False,
) -> Progress:
    """Relax all structures of a source, or what of it an earlier start left to do.

    Args:
        source: Structures with their ids.
        potential: Energies and forces.
        settings: Optimiser, convergence, budget.
        folder: Where the results go, `relaxed.jsonl` and `relaxed.positions` (see `results`), and `trajectories/`.
        trajectories: Frames kept of each structure: none, the first and the last, or all.
        described: What else must be the same when the run is started again, such as a digest of the checkpoint.
        on_progress: Called after every evaluation of a batch.
        stop: Asked then whether to leave off; everything is saved, nothing is done again when the run goes on.

    Returns:
        How far the run is: at its end, unless it was stopped.

    Raises:
        BlockingIOError: If another process works in the folder.
        RelaxationError: If a structure cannot be evaluated. What was done is kept.
        ValueError: If ids are not unique, or the folder holds a run of other structures or settings.
    """
    check_ids(source.ids)
    folder.mkdir(parents=True, exist_ok=True)
    with _locked(folder):
        _check_same_run(folder, _description(source, settings, trajectories, described or {}))
        return _relax(source, potential, settings, folder, trajectories, on_progress, stop)


def read_relaxed(folder: Path) -> Iterator[Relaxed]:
    """Read the results of a folder in the order of its source.

    Raises:
        FileNotFoundError: If the folder holds no results.
    """
    return iter(sorted(read_results(folder), key=lambda one: one.index))


def _relax(
    source: Source,
    potential: Potential,
    settings: Settings,
    folder: Path,
    trajectories: Kept,
    on_progress: Callable[[Progress], None],
    stop: Callable[[], bool],
) -> Progress:
    start = last = time.perf_counter()
    frames = Frames(folder / TRAJECTORIES, trajectories)

    def keep(group: Group, prediction: Prediction) -> None:
        if trajectories != "none":
            _keep_frames(frames, group, prediction)

    relaxation = Relaxation(source, potential, settings, keep)
    done, lengths = _go_on(relaxation, frames, folder)
    results = Results(folder, lengths)
    before, cost = done, 0.0
    try:
        while not relaxation.done:
            for one in relaxation.advance():
                if trajectories != "none":
                    frames.finish(one.index, one.id, to_atoms(source[one.index])[0])
                results.add(one)
                done += 1
            now, stopped = time.perf_counter(), stop()
            if relaxation.done or stopped or cost <= SHARE_OF_TIME * (now - last):
                _save(relaxation, frames, results, done, folder)
                last = time.perf_counter()
                cost = last - now
            active = 0 if relaxation.active is None else len(relaxation.active.members)
            on_progress(Progress(done, len(source), active, done - before, now - start))
            if stopped:
                break
    finally:
        results.close()
    if relaxation.done:
        frames.close()
    return Progress(done, len(source), 0, done - before, time.perf_counter() - start)


def _go_on(relaxation: Relaxation, frames: Frames, folder: Path) -> tuple[int, tuple[int, int]]:
    """Take up an earlier start's snapshot; how many structures are done and how long the results are."""
    path = folder / SNAPSHOT
    remove_unfinished(path)
    state = read_state(path) if path.exists() else None
    if state is not None:
        restore(relaxation, state["relaxation"])
    groups = [group for group in (relaxation.active, *relaxation.aside) if group is not None]
    natoms = {
        member.index: int(count)
        for group in groups
        for member, count in zip(group.members, group.structures.natoms, strict=True)
    }
    frames.restore(state["frames"] if state is not None else {}, natoms)
    return (state["done"], state["lengths"]) if state is not None else (0, (0, 0))


def _save(relaxation: Relaxation, frames: Frames, results: Results, done: int, folder: Path) -> None:
    """The snapshot comes last: it says what of the other files counts."""
    counts, lengths = frames.flush(), results.flush()
    state = {"relaxation": take_snapshot(relaxation), "frames": counts, "lengths": lengths, "done": done}
    write_state(folder / SNAPSHOT, state)
    frames.discard_ended()


def _keep_frames(frames: Frames, group: Group, prediction: Prediction) -> None:
    natoms = group.structures.natoms.tolist()
    positions = group.structures.positions.double().cpu().split(natoms)
    forces = prediction.forces.double().cpu().split(natoms)
    for place, (member, energy) in enumerate(zip(group.members, prediction.energy.tolist(), strict=True)):
        frames.add(member.index, member.steps, energy, positions[place].numpy(), forces[place].numpy())


def _description(
    source: Source, settings: Settings, trajectories: Kept, described: Mapping[str, str]
) -> dict[str, object]:
    without_budget = asdict(settings)
    del without_budget["budget"]  # batches may be of another size on another machine
    return {
        "structures": len(source),
        "ids": hashlib.sha256("\n".join(source.ids).encode()).hexdigest(),
        "optimizer_name": type(settings.optimizer).__name__,
        **without_budget,
        "trajectories": trajectories,
        **described,
    }


def _check_same_run(folder: Path, description: dict[str, object]) -> None:
    path = folder / RUN
    if not path.exists():
        partial = path.with_name(f"{RUN}.partial")
        partial.write_text(json.dumps(description, indent=1), encoding="utf-8")
        partial.replace(path)
        return
    before = read_json(path)
    other = [key for key in {**before, **description} if before.get(key) != description.get(key)]
    if other:
        changes = "; ".join(_change(key, before.get(key), description.get(key)) for key in sorted(other))
        raise ValueError(
            f"{folder} holds a run of its own, which differs ({changes}): remove it to begin anew, or choose "
            "another folder"
        )


def _change(key: str, before: object, now: object) -> str:
    """What is different, without digests, which say nothing to people."""
    if any(isinstance(one, str) and _DIGEST.fullmatch(one) for one in (before, now)):
        return f"other {key}"
    return f"{key}: {before!r} there, {now!r} now"


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    with (folder / LOCK).open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise BlockingIOError(error.errno, f"another process relaxes structures in {folder}") from error
        yield
