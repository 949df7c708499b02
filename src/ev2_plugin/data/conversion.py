"""One chunk of sources to one LMDB of checked samples and a summary; the summary's file says that it is done."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

import numpy as np
import torch
from ase.geometry import find_mic
from torch_geometric.data import Data

from ev2_plugin.data.frames import Frame, read_frames
from ev2_plugin.data.inventory import Chunk
from ev2_plugin.data.lmdb import write_lmdb
from ev2_plugin.data.metadata import count_edges
from ev2_plugin.data.plausibility import WorkBalance, check_cell, check_distances, check_labels, work_of_step
from ev2_plugin.data.qm9 import read_qm9
from ev2_plugin.data.structures import structure_to_data
from ev2_plugin.data.systems import SystemCounter
from ev2_plugin.data.tagging import RULES, assign_tags
from ev2_plugin.storage.atomic import written_atomically
from ev2_plugin.storage.plain_files import read_arrays
from ev2_plugin.storage.safe_pickle import reading

TASKS = ("s2ef", "is2re", "qm9")


@dataclass(frozen=True)
class ConversionSettings:
    """How sources become samples.

    Attributes:
        task: `s2ef` (every frame with energy and forces), `is2re` (first and last frame of each system) or `qm9`.
        cutoff: Largest length of an edge [Å], for the counts of edges.
        max_neighbors: Most edges that one atom receives.
        tags_from_constraints: Do not look at the files' tags (`tagging`).
    """

    task: str
    cutoff: float
    max_neighbors: int
    tags_from_constraints: bool = False


@dataclass(frozen=True)
class ChunkSummary:
    """What is known of the samples of one chunk, in their order.

    Attributes:
        sids: System numbers, shape [samples]; counted from 0 if `numbered`.
        fids: Frame numbers, shape [samples]; -1 where there are none.
        natoms: Atoms, shape [samples].
        neighbors: Directed edges, shape [samples].
        numbered: The sources have no numbers of their own.
        tag_rules: Structures by the rule of `tagging.RULES` that gave their tags.
        work: Energy differences beside the work of the forces.
    """

    sids: np.ndarray
    fids: np.ndarray
    natoms: np.ndarray
    neighbors: np.ndarray
    numbered: bool
    tag_rules: np.ndarray
    work: WorkBalance

    @classmethod
    def read(cls, path: Path) -> ChunkSummary:
        """Read the summary of a finished chunk."""
        stored = read_arrays(path)
        with reading(path):
            energy_work, work_work, energy_energy, pairs = stored["work"].tolist()
            return cls(
                sids=stored["sids"],
                fids=stored["fids"],
                natoms=stored["natoms"],
                neighbors=stored["neighbors"],
                numbered=bool(stored["numbered"]),
                tag_rules=stored["tag_rules"],
                work=WorkBalance(energy_work, work_work, energy_energy, int(pairs)),
            )


@dataclass
class _Tally:
    """What is noted of each sample on its way into the LMDB."""

    settings: ConversionSettings
    systems: SystemCounter = field(default_factory=SystemCounter)
    work: WorkBalance = field(default_factory=WorkBalance)
    tag_rules: list[int] = field(default_factory=lambda: [0] * len(RULES))
    rows: list[tuple[int, int, int, int]] = field(default_factory=list)
    names: dict[tuple[int, int], str] = field(default_factory=dict)

    def note(self, data: Data, name: str) -> Data:
        identity = (data.sid, data.fid if "fid" in data else -1)
        if identity in self.names:
            raise ValueError(f"{name} repeats sid {identity[0]}, fid {identity[1]} of {self.names[identity]}")
        self.names[identity] = name
        edges = count_edges(data, self.settings.cutoff, self.settings.max_neighbors)
        self.rows.append((*identity, data.natoms, edges))
        return data


def convert_chunk(chunk: Chunk, settings: ConversionSettings, target: Path) -> int:
    """Convert one chunk, unless it is done.

    Args:
        chunk: What to read.
        settings: How.
        target: The summary, `<number>.npz`, which appears when all is done; the LMDB lies beside it.

    Returns:
        The bytes of sources that are done with it.

    Raises:
        ValueError: If a source has changed, a frame has no or impossible labels, or two have the same numbers; the
            message names file and frame.
    """
    if target.exists():
        return chunk.num_bytes
    for file in chunk.files:
        file.check_unchanged()
    database = target.with_suffix(".lmdb")
    database.unlink(missing_ok=True)  # complete, but the process ended before it said so
    tally = _Tally(settings)
    samples = _samples(chunk, tally)
    first = next(samples, None)  # all rows may belong to a system that began in the chunk before
    if first is not None:
        write_lmdb(database, chain([first], samples))
    for file in chunk.files:
        file.check_unchanged()
    _write_summary(target, tally)
    return chunk.num_bytes


def _samples(chunk: Chunk, tally: _Tally) -> Iterator[Data]:
    if tally.settings.task == "qm9":
        for data, name in read_qm9(chunk):
            yield tally.note(data, name)
    elif tally.settings.task == "is2re":
        for first, last, sid in _relaxations(chunk, tally):
            yield tally.note(_relaxation(first, last, sid), first.name)
    else:
        yield from _single_points(chunk, tally)


def _single_points(chunk: Chunk, tally: _Tally) -> Iterator[Data]:
    previous: tuple[int, Frame] | None = None
    for frame in read_frames(chunk):
        _check(frame, tally, needs_forces=True)
        sid, fid = tally.systems.number(frame)
        if previous is not None and previous[0] == sid:
            _note_work(previous[1], frame, tally.work)
        previous = (sid, frame)
        data = structure_to_data(frame.atoms, sid=sid, fid=fid, energy=frame.energy, forces=frame.forces)
        yield tally.note(data, frame.name)


def _relaxations(chunk: Chunk, tally: _Tally) -> Iterator[tuple[Frame, Frame, int]]:
    """First and last frame of each system, whose frames follow one another."""
    first: Frame | None = None
    last: tuple[int, Frame] | None = None
    for frame in read_frames(chunk):
        _check(frame, tally, needs_forces=False)
        sid, _ = tally.systems.number(frame)
        if first is not None and last is not None and last[0] != sid:
            yield first, last[1], last[0]
            first = None
        first, last = first or frame, (sid, frame)
    if first is not None and last is not None:
        yield first, last[1], last[0]


def _relaxation(first: Frame, last: Frame, sid: int) -> Data:
    """Initial structure with both energies, and the relaxed positions at the end of the shortest displacements."""
    if first is last:
        raise ValueError(f"{first.name} is the only frame of its system: is2re needs initial and relaxed structure")
    if not np.allclose(first.atoms.cell.array, last.atoms.cell.array, atol=1e-4):
        raise ValueError(f"{last.name} has another cell than {first.name}: is2re is for relaxations at a fixed cell")
    if not np.array_equal(first.atoms.numbers, last.atoms.numbers):
        raise ValueError(f"{last.name} has other atoms than {first.name}, with the same sid {sid}")
    data = structure_to_data(first.atoms, sid=sid)
    difference = last.atoms.positions - first.atoms.positions
    displacements = find_mic(difference, first.atoms.cell.complete().array, first.atoms.pbc)[0]
    data.y_init, data.y_relaxed = first.energy, last.energy
    data.pos_relaxed = torch.tensor(first.atoms.positions + displacements, dtype=torch.float32)
    return data


def _check(frame: Frame, tally: _Tally, *, needs_forces: bool) -> None:
    """Refuse a frame that cannot be learnt from, by its name; set its tags."""
    missing = [name for name, label in (("energy", frame.energy), ("forces", frame.forces)) if label is None]
    if "energy" in missing or (missing and needs_forces):
        info = ", ".join([*map(str, frame.atoms.info), *frame.atoms.arrays])
        raise ValueError(f"{frame.name} has no {' and no '.join(missing)} where ASE looks for them; it has: {info}")
    try:
        structure_to_data(frame.atoms, sid=0, energy=frame.energy)
        check_labels(frame.atoms.numbers, frame.energy, frame.forces)
        check_cell(frame.atoms)
        check_distances(frame.atoms)
        tally.tag_rules[assign_tags(frame.atoms, tally.settings.tags_from_constraints)] += 1
    except ValueError as error:
        raise ValueError(f"{frame.name}: {error}") from error


def _note_work(before: Frame, after: Frame, balance: WorkBalance) -> None:
    if before.forces is None or after.forces is None or before.energy is None or after.energy is None:
        return
    if before.source != after.source or not np.array_equal(before.atoms.cell.array, after.atoms.cell.array):
        return
    step = after.atoms.positions - before.atoms.positions
    forces = (before.forces + after.forces) / 2
    work = work_of_step(step, forces, before.atoms.cell.complete().array, before.atoms.pbc)
    if work is not None:
        balance.add(work, before.energy - after.energy)


def _write_summary(target: Path, tally: _Tally) -> None:
    sids, fids, natoms, neighbors = np.array(tally.rows, dtype=np.int64).reshape(-1, 4).T
    work = tally.work
    with written_atomically(target) as file:
        np.savez(
            file,
            sids=sids,
            fids=fids,
            natoms=natoms.astype(np.int32),
            neighbors=neighbors.astype(np.int32),
            numbered=not tally.systems.given and tally.settings.task != "qm9",
            tag_rules=np.array(tally.tag_rules),
            work=np.array([work.work_energy, work.work_work, work.energy_energy, work.pairs], dtype=float),
        )
