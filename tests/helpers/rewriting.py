"""Datasets with something wrong in them."""

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lmdb

from helpers.tiny_s2ef import NUM_STRUCTURES


def rewrite(folder: Path, edit: Callable[[Any], object], indices: range = range(NUM_STRUCTURES)) -> None:
    """Change samples of a dataset that `tiny_s2ef.write_dataset` wrote as an LMDB.

    Args:
        folder: Where it lies.
        edit: Changes a data object in place.
        indices: Which samples.
    """
    with (
        lmdb.open(str(folder / "data.0000.lmdb"), subdir=False, map_size=2**24) as environment,
        environment.begin(write=True) as transaction,
    ):
        for index in indices:
            sample = pickle.loads(transaction.get(str(index).encode()))
            edit(sample)
            transaction.put(str(index).encode(), pickle.dumps(sample))
