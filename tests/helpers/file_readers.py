"""Every format that is read, each with small files of it and the function that reads one: for fuzzing."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lmdb
import numpy as np
import torch
from torch_geometric.data import Data

from ev2_plugin.adsorbml.oc20_dense import read_oc20_dense
from ev2_plugin.adsorbml.records import Target
from ev2_plugin.adsorbml.tables import read_table, write_table
from ev2_plugin.data.lmdb import read_lmdb
from ev2_plugin.data.manifest import Manifest
from ev2_plugin.data.metadata import read_metadata
from ev2_plugin.data.predictions import read_energies, read_relaxed_positions, read_s2ef_predictions
from ev2_plugin.data.sample import read_sample
from ev2_plugin.integration.run_config import load_config
from ev2_plugin.relax.results import LINES, POSITIONS, read_results
from ev2_plugin.relax.snapshot import read_state
from ev2_plugin.storage.checkpoint_file import read_checkpoint, write_checkpoint
from ev2_plugin.storage.plain_files import read_arrays
from ev2_plugin.storage.safe_pickle import load_pickle, reading
from ev2_plugin.storage.safetensors_file import read_weights, write_weights
from ev2_plugin.storage.torch_file import read_torch
from ev2_plugin.submission.archive import open_archive


@dataclass(frozen=True)
class Reader:
    """A format.

    Attributes:
        name: File name, whose folder the reader has to itself.
        write: Writes a whole file (and what belongs beside it).
        read: Reads the file.
    """

    name: str
    write: Callable[[Path], None]
    read: Callable[[Path], Any]


def _content() -> dict[str, Any]:
    return {
        "state_dict": {"a": torch.arange(4.0), "b": torch.ones(2, 2, dtype=torch.bfloat16)},
        "config": {"model": {"name": "ev2"}, "list": [1, 2.5, None, True, "x"], "array": np.arange(3)},
        "step": 3,
        "scalar": np.float64(1.5),
        "path": Path("a"),
    }


def _sample() -> Data:
    return Data(pos=torch.ones(2, 3), natoms=2, atomic_numbers=torch.tensor([1.0, 8.0]), sid=1, y=np.float64(0.5))


def _write_lmdb(path: Path, count: int = 3) -> None:
    with lmdb.open(str(path), subdir=False, map_size=2**16, lock=False) as env, env.begin(write=True) as transaction:
        for index in range(count):
            transaction.put(str(index).encode(), pickle.dumps(_sample(), protocol=-1))
        transaction.put(b"length", pickle.dumps(count))


def _read_value(path: Path) -> Data:
    with reading(path):
        return read_sample(path.read_bytes())


def _write_predictions(path: Path) -> None:
    ids, forces = np.array(["1_0", "2_0"]), np.ones((3, 3), dtype=np.float32)
    np.savez(path, ids=ids, energy=np.ones(2), forces=forces, pos=forces, chunk_idx=np.array([1]))


def _read_predictions(path: Path) -> None:
    first: Exception | None = None
    for read in (read_s2ef_predictions, read_energies, read_relaxed_positions, _read_archive):
        try:
            read(path)
        except ValueError as error:
            first = first or error
    if first is not None:
        raise first


def _read_archive(path: Path) -> None:
    with open_archive(path) as archive:
        for name in archive.names:
            archive.read(name)


def _write_results(path: Path) -> None:
    row = {
        "index": 0,
        "id": "1",
        "energy": 1.0,
        "initial_energy": 2.0,
        "fmax": 0.1,
        "steps": 3,
        "converged": True,
        "natoms": 1,
    }
    path.write_text(f"{json.dumps(row)}\n" * 2)
    (path.parent / POSITIONS).write_bytes(np.ones(6).tobytes())


def _write_manifest(path: Path) -> None:
    files = [{"path": "a.extxyz", "size": 3, "mtime_ns": 1}]
    chunk = {"kind": "ase", "files": files, "split": "train", "rows": None, "num_bytes": 3}
    path.write_text(json.dumps({"conversion": {"a": 1}, "division": {}, "chunks": [chunk]}))


def _text(text: str) -> Callable[[Path], None]:
    return lambda path: path.write_text(text) and None


def _dense_tables(path: Path) -> None:
    path.write_bytes(pickle.dumps({"s": [("c", np.float64(0.5))]}))
    (path.parent / "compute.pkl").write_bytes(pickle.dumps({"s": {"c": {"ionic": 1, "scf": np.int64(3)}}}))


READERS = {
    "checkpoint": Reader("checkpoint.pt", lambda p: torch.save(_content(), p), read_torch),
    "legacy checkpoint": Reader(
        "checkpoint.pt", lambda p: torch.save(_content(), p, _use_new_zipfile_serialization=False), read_torch
    ),
    "own checkpoint": Reader("checkpoint.pt", lambda p: write_checkpoint(p, _content()), read_checkpoint),
    "snapshot of a relaxation": Reader("state.pt", lambda p: torch.save({"next": 3, "aside": []}, p), read_state),
    "weights": Reader(
        "weights.safetensors", lambda p: write_weights(p, {"a": torch.ones(3)}, {"b": 1}) and None, read_weights
    ),
    "sidecar of weights": Reader(
        "weights.json",
        lambda p: write_weights(p.with_suffix(".safetensors"), {"a": torch.ones(3)}, {"b": [1, None]}) and None,
        lambda p: read_weights(p.with_suffix(".safetensors")),
    ),
    "value of an LMDB": Reader("value", lambda p: p.write_bytes(pickle.dumps(_sample())) and None, _read_value),
    "LMDB": Reader("data.lmdb", _write_lmdb, lambda p: list(read_lmdb(p))),
    "pickle": Reader("table.pkl", lambda p: p.write_bytes(pickle.dumps(_content()["config"])) and None, load_pickle),
    "tables of OC20-Dense": Reader(
        "targets.pkl", _dense_tables, lambda p: read_oc20_dense(p, p.with_name("compute.pkl"))
    ),
    "metadata": Reader(
        "metadata.npz",
        lambda p: np.savez(p, natoms=np.ones(3, int), neighbors=[1, 2]),
        lambda p: read_metadata(p.parent),
    ),
    "normaliser": Reader("normaliser.npz", lambda p: np.savez(p, mean=0.5, rmsd=np.float32(2.0)), read_arrays),
    "predictions": Reader("predictions.npz", _write_predictions, _read_predictions),
    "results of relaxations": Reader(LINES, _write_results, lambda p: list(read_results(p.parent))),
    "table": Reader(
        "targets.csv",
        lambda p: write_table(p, [Target("s", "c", 0.5, 3, 1), Target("s", "d", None, 3, 1)], Target),
        lambda p: read_table(p, Target),
    ),
    "manifest": Reader("manifest.json", _write_manifest, lambda p: Manifest.read(p.parent)),
    "run file": Reader("run.yml", _text("model:\n  lmax: [1, &a 2, *a]\noptim: {lr: 1e-3}\n"), load_config),
}
EXPECTED = (ValueError, OSError)
"""What a reader may raise; FileNotFoundError is an OSError."""


def read_or_refuse(reader: Reader, path: Path) -> bool:
    """Read a file that may be anything; whether it was read.

    Raises:
        AssertionError: If the error does not name the file.
        Exception: What no reader should raise.
    """
    try:
        reader.read(path)
    except EXPECTED as error:
        if path.name.split(".")[0] not in str(error):
            raise AssertionError(f"{type(error).__name__} does not name {path.name}: {error}") from error
        return False
    return True
