"""One pass over a stored dataset: what it holds, and what in it would break training."""

from __future__ import annotations

from array import array
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from ase.data import chemical_symbols
from torch_geometric.data import Data

from ev2_plugin.data.dataset_report import Expectation, Finding, Inspection, Range
from ev2_plugin.data.energy_kind import compare_with_normalizer, judge_energies
from ev2_plugin.data.lmdb import PER_ATOM_KEYS, REQUIRED_KEYS
from ev2_plugin.data.metadata import FILE_NAME, count_edges, read_metadata
from ev2_plugin.data.plausibility import check_cell, check_distances
from ev2_plugin.data.stored import count_samples, dataset_files, read_samples
from ev2_plugin.data.structures import data_to_structure, periodicity

ENERGIES = ("energy", "y", "y_relaxed")
FORCES = ("forces", "force")
MAX_EDGE_SAMPLES = 1000
_NO_LABELS = ("natoms", "sid", "fid", "id", "oc22", "nads")


def inspect_dataset(
    path: Path,
    expected: Expectation,
    follow: Callable[[str, int, int], None] = lambda stage, done, total: None,
    *,
    trust: bool = False,
) -> Inspection:
    """Look at every sample of a dataset.

    Args:
        path: A file, or a folder of files of one split.
        expected: What it is to be trained with.
        follow: Told of the progress.
        trust: Whether it comes from somebody trusted: then what its samples ask for is executed.

    Returns:
        What was found.

    Raises:
        FileNotFoundError: If there is no such dataset.
        Refused: If a sample holds more than data. Nothing was executed.
        ValueError: If a file cannot be read to its end, or the dataset is empty.
    """
    files = dataset_files(path)
    total = count_samples(files)
    if total == 0:
        raise ValueError(f"{path} has no samples")
    found, pass_ = Inspection(files), _Pass(expected, every=-(-total // MAX_EDGE_SAMPLES))
    for number, (name, data) in enumerate(read_samples(files, trust=trust)):
        pass_.look(found, name, data, measure=number % pass_.every == 0)
        follow("inspect", number + 1, total)
    pass_.conclude(found)
    found.findings += _metadata_findings(files, pass_.natoms)
    return found


@dataclass
class _Pass:
    """What is remembered from sample to sample besides the counts: 12 bytes each, and the first of every problem."""

    expected: Expectation
    every: int
    natoms: array[int] = field(default_factory=lambda: array("i"))
    identities: array[int] = field(default_factory=lambda: array("q"))
    problems: dict[tuple[bool, str], tuple[int, str]] = field(default_factory=dict)

    def look(self, found: Inspection, name: str, data: Data, *, measure: bool) -> None:
        """Take in one sample."""
        found.structures += 1
        found.keys.update(data.keys())
        self.natoms.append(int(data.natoms) if "natoms" in data else -1)
        self.identities.append(hash((_plain(data, "sid"), _plain(data, "fid"))))
        missing = [key for key in REQUIRED_KEYS if key not in data]
        for key in missing:
            self.note(name, f"have no {key}")
        if missing or not self._is_sound(name, data):
            return
        self._count_atoms(found, data)
        self._look_at_labels(found, name, data)
        structure = data_to_structure(data)
        try:
            check_cell(structure)
        except ValueError:
            self.note(name, "have a cell that is singular for its periodic directions")
            return
        try:
            check_distances(structure)
        except ValueError as error:
            self.note(name, f"have atoms in the same place ({error})")
        if measure:
            edges = count_edges(data, self.expected.cutoff, self.expected.max_neighbors)
            found.edges.add(np.array([edges], dtype=float))
            found.degrees.add(np.array([edges / int(data.natoms)]))

    def note(self, name: str, text: str, *, fatal: bool = True) -> None:
        """Remember a problem of a sample; equal ones are counted."""
        count, first = self.problems.get((fatal, text), (0, name))
        self.problems[fatal, text] = (count + 1, first)

    def conclude(self, found: Inspection) -> None:
        """Judge what only the whole can tell."""
        for (fatal, text), (count, first) in self.problems.items():
            found.findings.append(Finding(fatal, f"{count} of {found.structures} structures {text}; first: {first}"))
        hashes = np.sort(np.frombuffer(self.identities, dtype=np.int64))
        repeated = int((np.diff(hashes) == 0).sum())
        if repeated:
            text = f"{repeated} structures repeat the sid and fid of another: predictions of one of them would be lost"
            found.findings.append(Finding(False, text))
        for label in (*ENERGIES, *FORCES):
            if 0 < found.keys[label] < found.structures:
                count = found.structures - found.keys[label]
                found.findings.append(Finding(True, f"{count} of {found.structures} structures have no {label}"))
        if not found.labels:
            found.findings.append(
                Finding(False, "there are no labels: the dataset is for prediction or relaxation only")
            )
        unknown = [chemical_symbols[number] for number in found.elements if number >= self.expected.max_num_elements]
        if unknown:
            text = f"{', '.join(unknown)}: the model knows atomic numbers below {self.expected.max_num_elements} only"
            found.findings.append(Finding(True, text))
        self._judge_energies(found)

    def _is_sound(self, name: str, data: Data) -> bool:
        """Whether arrays have the right lengths and hold numbers."""
        sound = True
        for key, value in data.to_dict().items():
            if key in PER_ATOM_KEYS and len(value) != int(data.natoms):
                self.note(name, f"have {key} of another length than natoms")
                sound = False
            values = torch.as_tensor(value) if isinstance(value, float | torch.Tensor) else None
            if values is not None and values.is_floating_point() and not torch.isfinite(values).all():
                self.note(name, f"have values of {key} that are not finite")
                sound = False
        numbers = data.atomic_numbers.int()
        if ((numbers < 1) | (numbers >= len(chemical_symbols))).any():
            self.note(name, f"have atomic numbers that are no elements (1 to {len(chemical_symbols) - 1})")
            sound = False
        return sound

    def _count_atoms(self, found: Inspection, data: Data) -> None:
        found.elements.update(set(data.atomic_numbers.int().tolist()))
        found.periodicity[tuple(periodicity(data).tolist())] += 1
        found.atoms.add(np.array([float(data.natoms)]))
        fixed = int((data.fixed == 1).sum())
        found.atom_kinds["fixed"] += fixed
        found.atom_kinds["free"] += int(data.natoms) - fixed
        found.atom_kinds.update(f"tag {tag}" for tag in data.tags.int().tolist())

    def _look_at_labels(self, found: Inspection, name: str, data: Data) -> None:
        for key, value in data.to_dict().items():
            if key not in _NO_LABELS and (isinstance(value, float) or _is_number(value)):
                found.labels.setdefault(key, Range()).add(np.array([float(value)]))
        found.energy_key = found.energy_key or next((key for key in ENERGIES if key in data), None)
        if found.energy_key in data:
            energy = float(data[found.energy_key])
            found.energies.add(data.atomic_numbers.int().numpy(), energy)
            found.per_atom.add(np.array([abs(energy) / int(data.natoms)]))
        forces = next((data[key] for key in FORCES if key in data), None)
        if forces is not None:
            free = data.fixed == 0
            found.all_forces.add(forces.double().numpy())
            found.free_forces.add(forces[free].double().numpy())
            if not free.any():
                self.note(name, "have no free atom to learn forces from", fatal=False)

    def _judge_energies(self, found: Inspection) -> None:
        if found.energies.num_structures < 2:
            return
        found.kind = judge_energies(found.energies, found.per_atom.mean)
        if found.energies.spread().std == 0:
            found.findings.append(Finding(True, f"all values of {found.energy_key} are equal: nothing can be learnt"))
        if self.expected.normalizer is None:
            return
        references = self.expected.references
        try:
            labels = found.energies.spread() if references is None else found.energies.subtract(references)
        except ValueError as error:
            found.findings.append(Finding(True, str(error)))
            return
        mismatch = compare_with_normalizer(labels, *self.expected.normalizer)
        if mismatch is not None:
            found.findings.append(Finding(*mismatch))


def _plain(data: Data, key: str) -> object:
    """An identifier, which some files hold as a tensor of one number."""
    value = data.to_dict().get(key)
    return value.item() if isinstance(value, torch.Tensor) and value.numel() == 1 else value


def _is_number(value: object) -> bool:
    return isinstance(value, torch.Tensor) and value.numel() == 1 and value.is_floating_point()


def _metadata_findings(files: list[Path], natoms: array[int]) -> list[Finding]:
    """Compare `metadata.npz`, which the host trusts, with the samples."""
    path = files[0].parent / FILE_NAME
    if not path.is_file():
        return [Finding(False, f"there is no {path}: batches cannot be balanced by size")]
    try:
        stored = read_metadata(path.parent).natoms
    except ValueError as error:
        return [Finding(True, str(error))]
    if len(stored) != len(natoms):
        return [Finding(True, f"{path} counts {len(stored)} structures, and there are {len(natoms)}")]
    wrong = np.flatnonzero(stored != np.frombuffer(natoms, dtype=np.int32))
    if len(wrong):
        place = int(wrong[0])
        text = f"{path} gives structure {place} {stored[place]} atoms, and it has {natoms[place]} ({len(wrong)} differ)"
        return [Finding(True, text)]
    return []
