"""What fairchem's modules read files with while a run of the plugin lasts: readers that execute nothing.

fairchem reads checkpoints, normalisers, references, metadata and samples by `torch.load`, `pickle.loads` and
`np.load(allow_pickle=True)`. For a run of the plugin, these names mean something else in its modules; afterwards, and
in a plain `fairchem` run, they are what they were. Forked workers of a DataLoader inherit the run's meaning.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from fairchem.core.common.registry import registry
from fairchem.core.datasets.lmdb_dataset import LmdbDataset
from fairchem.core.datasets.oc22_lmdb_dataset import OC22LmdbDataset
from torch_geometric.data import Data

from ev2_plugin.data.lmdb import LENGTH_KEY, count_lmdb, open_lmdb
from ev2_plugin.data.sample import structure_of
from ev2_plugin.storage.allow_list import SAMPLES
from ev2_plugin.storage.plain_files import read_arrays
from ev2_plugin.storage.safe_pickle import load_pickle, loads, reading
from ev2_plugin.storage.torch_file import read_torch

_TORCH = (
    *("common.utils", "trainers.base_trainer", "modules.scaling.compat"),
    *("modules.normalization._load_utils", "modules.normalization.normalizer"),
    "modules.normalization.element_references",
)
_NUMPY = ("datasets.base_dataset", "modules.normalization.normalizer", "modules.normalization.element_references")
_PICKLE = ("datasets.lmdb_dataset", "datasets.oc22_lmdb_dataset")


def is_trusted(config: Mapping[str, Any]) -> bool:
    """Whether a run's config says, as `--trust` makes it, that its files come from somebody trusted.

    Raises:
        ValueError: If it says neither yes nor no.
    """
    task = config.get("task")
    trust = task.get("trust", False) if isinstance(task, Mapping) else False
    if not isinstance(trust, bool):
        raise ValueError(f"task.trust must be true or false, got {trust!r}")
    return trust


@contextmanager
def host_reads_data_only(trust: bool = False) -> Iterator[None]:
    """Have fairchem's modules read data and nothing else; with `trust`, whatever the files hold."""
    with ExitStack() as stack:
        for names, attribute, reader in (
            (_TORCH, "torch", _TorchReader(trust)),
            (_PICKLE, "pickle", _PickleReader(trust)),
            (_NUMPY, "np", _NumpyReader(trust)),
        ):
            for name in names:
                stack.enter_context(patch.object(import_module(f"fairchem.core.{name}"), attribute, reader))
        formats = {"lmdb": Lmdb, "single_point_lmdb": Lmdb, "trajectory_lmdb": Lmdb, "oc22_lmdb": OC22Lmdb}
        stack.enter_context(patch.dict(registry.mapping["dataset_name_mapping"], formats))
        yield


class _TorchReader:
    """`torch`, but for `load`."""

    def __init__(self, trust: bool) -> None:
        self._trust = trust

    def __getattr__(self, name: str) -> Any:
        return getattr(torch, name)

    def load(self, path: Any, map_location: Any = None, **_: Any) -> Any:
        """Read a file; tensors come to the CPU, from where whoever takes them copies them to his device."""
        return read_torch(Path(path), trust=self._trust)


class _NumpyReader:
    """`numpy`, but for `load`."""

    def __init__(self, trust: bool) -> None:
        self._trust = trust

    def __getattr__(self, name: str) -> Any:
        return getattr(np, name)

    def load(self, path: Any, **_: Any) -> _Arrays:
        """Read the arrays of an .npz file; those of objects are pickles."""
        return _Arrays(read_arrays(Path(path), trust=self._trust))


class _Arrays(dict[str, np.ndarray]):
    """Arrays by name, for whoever expects an open file."""

    def __enter__(self) -> _Arrays:
        return self

    def __exit__(self, *_: object) -> None:
        pass


class _PickleReader:
    """What the datasets use of `pickle`."""

    def __init__(self, trust: bool) -> None:
        self._trust = trust

    def loads(self, value: bytes) -> Data | int:
        """Read a sample, or the number of samples."""
        with reading(getattr(value, "source", "a value of an LMDB")):
            made = pickle.loads(value) if self._trust else loads(value, SAMPLES)
            return int(made) if isinstance(made, int | np.integer) and made >= 0 else structure_of(made)

    def load(self, file: Any) -> Any:
        """Read a table."""
        return load_pickle(Path(file.name), trust=self._trust)


class _Value(bytes):
    """A value of an LMDB that knows where it is from."""

    source: str


class _Environment:
    """What the datasets use of an LMDB environment and its transactions, by a reader that damage cannot crash."""

    def __init__(self, path: Path) -> None:
        count_lmdb(path, whole=True)
        self._path = path
        self._file = open_lmdb(path)

    def begin(self) -> _Environment:
        return self

    def stat(self) -> dict[str, int]:
        return {"entries": self._file.entries}

    def get(self, key: bytes) -> _Value | None:
        source = f"{self._path}, entry {key.decode()}"
        with reading(source):
            found = self._file.get(key)
        if found is None and key != LENGTH_KEY:
            raise ValueError(f"{source} is missing")
        if found is None:
            return None
        value = _Value(found)
        value.source = source
        return value

    def close(self) -> None:
        self._file.close()


class _DataOnly:
    def connect_db(self, lmdb_path: Path) -> _Environment:
        return _Environment(lmdb_path)

    def __del__(self) -> None:
        """Close what is open; the host's asks for more than a constructor that failed has made."""
        for environment in [*self.__dict__.get("envs", ()), *filter(None, [self.__dict__.get("env")])]:
            environment.close()


class Lmdb(_DataOnly, LmdbDataset):
    """fairchem's LMDB dataset, of which only data is read."""


class OC22Lmdb(_DataOnly, OC22LmdbDataset):
    """fairchem's OC22 dataset, of which only data is read."""
