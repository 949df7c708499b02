"""Four samples in the layout of each of the paper's data sets."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np
from ase.build import molecule
from ase.data import chemical_symbols
from torch_geometric.data import Data

from ev2_plugin.data.lmdb import read_lmdb, write_lmdb
from ev2_plugin.data.structures import structure_to_data
from ev2_plugin.demo.dataset import DatasetSize, build_dataset

NUM_SAMPLES = 4
QM9_TARGETS = ("mu", "alpha", "homo", "lumo", "gap", "r2", "zpve", "U0", "U", "H", "G", "Cv")
_FRAMES = 3  # the fewest that the builder makes of a system


def write_tiny_sets(folder: Path, references: Mapping[str, Mapping[str, float]]) -> dict[str, Path]:
    """Write all sets.

    Args:
        folder: To fill.
        references: eV per atom by element, of `oc22` and of each of QM9's energies: total energies are about their sum.

    Returns:
        Source of each set, as `dataset.*.src` names it: `s2ef`, `is2re`, `oc22_s2ef`, `oc22_is2re`, `qm9`.
    """
    size = DatasetSize(train=NUM_SAMPLES, val=1, test=1, frames=_FRAMES)
    slabs = build_dataset(folder / "emt", size, seed=0, cutoff=6.0, max_neighbors=20)
    frames = list(read_lmdb(slabs.s2ef("train")))[::_FRAMES]  # adsorption energies by EMT, one frame of each system
    relaxations = list(read_lmdb(slabs.is2re("train")))
    sets: dict[str, Iterable[Data]] = {
        "s2ef": frames,
        "is2re": relaxations,
        "oc22_s2ef": (_total(data.clone(), "y", references["oc22"]) for data in frames),
        "oc22_is2re": (_total(data.clone(), "y_relaxed", references["oc22"]) for data in relaxations),
        "qm9": _molecules(references),
    }
    paths = {name: folder / name / "data.0000.lmdb" for name in sets}
    for name, samples in sets.items():
        assert write_lmdb(paths[name], samples) == NUM_SAMPLES
    return {name: path if name == "is2re" else path.parent for name, path in paths.items()}


def _total(data: Data, label: str, reference: Mapping[str, float]) -> Data:
    data[label] += sum(reference[chemical_symbols[int(number)]] for number in data.atomic_numbers)
    data.oc22, data.nads = 1, 1
    return data


def _molecules(references: Mapping[str, Mapping[str, float]]) -> Iterator[Data]:
    rng = np.random.default_rng(0)
    for sid, name in enumerate(["CH4", "NH3", "CH3OH", "HF"]):
        atoms = molecule(name, vacuum=5.0)
        data = structure_to_data(atoms, sid=sid)
        for target in QM9_TARGETS:
            energies = references.get(target, {})
            data[target] = sum(energies.get(symbol, 0.0) for symbol in atoms.symbols) + float(rng.normal())
        yield data
