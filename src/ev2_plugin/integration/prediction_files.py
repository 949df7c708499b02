"""`--mode predict`: one row per structure of the dataset, in its order, in single precision."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from fairchem.core.common import distutils
from fairchem.core.trainers import OCPTrainer
from torch.utils.data import DataLoader, Sampler, Subset

from ev2_plugin.submission.archive import write_archive

ORDERS = ("dataset", "ids")
DTYPES = ("float32", "float16")
_SHOWN = 10
_IDS_PER_BATCH = 256


class PredictionFiles(OCPTrainer):
    """fairchem's trainer with prediction files that lose nothing.

    Keys and shapes are the host's. What differs:

    * `task.prediction_dtype` is `float32` unless it says `float16`.
    * `task.prediction_order` is `dataset` unless it says `ids`, the host's order of identifiers as text.
    * An id that two structures of the dataset share is an error before anything is predicted.
    * What repeats to give every process as many structures is recognised by its place in the dataset.
    * A prediction that is not finite is an error after all is predicted and kept.
    """

    def load_task(self) -> None:
        """Read what is asked of prediction files.

        Raises:
            ValueError: If a setting has no meaning.
        """
        super().load_task()
        task = self.config["task"]
        self.prediction_order = _chosen("task.prediction_order", task.get("prediction_order", "dataset"), ORDERS)
        dtype = _chosen("task.prediction_dtype", task.get("prediction_dtype", "float32"), DTYPES)
        for name, output in self.config["outputs"].items():
            own = output.setdefault("prediction_dtype", dtype)  # without the key the host takes float16
            _chosen(f"outputs.{name}.prediction_dtype", own, DTYPES)
        self.dataset_of_known_ids: Any = None

    def predict(
        self, data_loader: Any, per_image: bool = True, results_file: str | None = None, disable_tqdm: bool = False
    ) -> dict[str, Any]:
        """Predict, and write a file if one is asked for.

        Args:
            data_loader: The host's loader of a dataset; a batch where no file is written.
            per_image: One entry per structure; tensors of the first batch otherwise.
            results_file: Ending of the file's name, without its suffix; None writes none.
            disable_tqdm: No progress bar.

        Returns:
            Predictions of this process, as the host returns them.

        Raises:
            ValueError: If structures share an id; after all is predicted and kept, if a prediction is not finite.
        """
        if results_file is None or not per_image:
            return super().predict(data_loader, per_image, results_file, disable_tqdm)
        dataset, batches = data_loader.dataset, RecordedBatches(data_loader.batch_sampler)
        path = Path(self.config["cmd"]["results_dir"]) / f"{self.name}_{results_file}.npz"
        _check_writable(path)
        if dataset is not self.dataset_of_known_ids:
            refuse_repeated_ids(dataset, data_loader.num_workers)
            self.dataset_of_known_ids = dataset
        recorded = DataLoader(
            dataset,
            collate_fn=data_loader.collate_fn,
            num_workers=data_loader.num_workers,
            pin_memory=data_loader.pin_memory,
            batch_sampler=batches,
        )
        predictions = super().predict(recorded, disable_tqdm=disable_tqdm)
        gathered = distutils.gather_objects((batches.indices, dict(predictions)))
        if distutils.is_master():
            indices = np.array([index for part, _ in gathered for index in part])
            rows = {key: [row for _, part in gathered for row in part[key]] for key in gathered[0][1]}
            places = np.asarray(dataset.indices)[indices] if isinstance(dataset, Subset) else indices
            write_predictions(path, rows, places, self.prediction_order)
        return predictions


class RecordedBatches(Sampler):
    """The batches of another sampler; remembers which structures it has given out, in their order."""

    def __init__(self, batches: Sampler) -> None:
        self.batches = batches
        self.indices: list[int] = []

    def __iter__(self) -> Iterator[list[int]]:
        """Give out the batches."""
        for batch in self.batches:
            indices = [int(index) for index in batch]
            self.indices += indices
            yield indices

    def __len__(self) -> int:
        return len(self.batches)  # type: ignore[arg-type]


def write_predictions(path: Path, rows: Mapping[str, Sequence[Any]], places: np.ndarray, order: str) -> None:
    """Write predictions in the host's layout, one row per structure.

    Args:
        path: The file.
        rows: One entry per structure and key: `ids`; values; arrays per atom with their lengths under `chunk_idx`
            (forces) or `<key>_chunk_idx`.
        places: Places of the structures in the dataset, [structures]; of equal ones the first counts.
        order: One of `ORDERS`.

    Raises:
        ValueError: If a value is not finite; all are then in a file beside `path`.
    """
    _, chosen = np.unique(places, return_index=True)
    ids = np.array([rows["ids"][row] for row in chosen])
    if order == "ids":
        by_id = np.argsort(ids, kind="stable")
        chosen, ids = chosen[by_id], ids[by_id]
    broken = [
        str(ids[number])
        for number, row in enumerate(chosen)
        if not all(np.isfinite(rows[key][row]).all() for key in rows if key != "ids")
    ]
    written = path.with_suffix(".not_finite.npz") if broken else path
    write_archive(written, ((key, _column(rows, key, chosen)) for key in rows))
    logging.info(f"wrote the predictions of {len(chosen)} structures to {written}")
    if broken:
        raise ValueError(
            f"predictions of {len(broken)} of {len(chosen)} structures are not finite: {_some(broken)}; all are in "
            f"{written}"
        )


def _column(rows: Mapping[str, Sequence[Any]], key: str, chosen: np.ndarray) -> np.ndarray:
    column = [rows[key][row] for row in chosen]
    if "chunk_idx" in key:
        return np.cumsum(column)[:-1]  # where np.split cuts
    per_atom = key == "forces" or f"{key}_chunk_idx" in rows
    return np.concatenate(column) if per_atom else np.array(column)


def refuse_repeated_ids(dataset: Any, num_workers: int) -> None:
    """Read the ids of all structures, each process its share.

    Args:
        dataset: The host's dataset.
        num_workers: Processes to read with, as the host's loader has them.

    Raises:
        ValueError: On every process, naming the ids that come more than once.
    """
    share = range(distutils.get_rank(), len(dataset), distutils.get_world_size())
    if distutils.is_master():
        logging.info(f"looking for repeated ids among {len(dataset)} structures")
    loader = DataLoader(
        dataset,
        batch_size=_IDS_PER_BATCH,
        sampler=share,
        collate_fn=_ids,
        num_workers=num_workers,
    )
    parts = distutils.gather_objects([name for batch in loader for name in batch])
    counts = Counter(chain.from_iterable(parts or []))  # on the master alone
    repeated = [[name for name, count in counts.items() if count > 1]]
    distutils.broadcast_object_list(repeated, src=0)
    if repeated[0]:
        raise ValueError(
            f"{len(repeated[0])} ids belong to more than one structure of the dataset: {_some(repeated[0])}; "
            "their predictions could not be told apart, nothing was predicted"
        )


def _ids(samples: Sequence[Any]) -> list[str]:
    """Names of structures, as the host writes them."""
    if any("sid" not in sample for sample in samples):
        raise ValueError("a structure without `sid` has no name to write beside its prediction")
    return ["_".join(_plain(sample[key]) for key in ("sid", "fid") if key in sample) for sample in samples]


def _plain(value: Any) -> str:
    return str(value.item() if isinstance(value, torch.Tensor) else value)


def _check_writable(path: Path) -> None:
    """An error now is worth more than one after hours of predicting."""
    if distutils.is_master() and not os.access(path.parent, os.W_OK):
        raise PermissionError(f"predictions cannot be written: {path.parent} is not a folder that one may write to")


def _chosen(key: str, value: Any, allowed: Sequence[str]) -> str:
    if value not in allowed:
        raise ValueError(f"{key} must be one of {', '.join(allowed)}, got {value!r}")
    return str(value)


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")
