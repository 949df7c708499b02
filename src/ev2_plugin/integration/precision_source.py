"""What a precision report is made of: a model, the scales of its outputs, structures, a table."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from fairchem.core.common.registry import registry
from fairchem.core.common.utils import load_state_dict, match_state_dict
from fairchem.core.datasets import data_list_collater
from rich.table import Table
from torch import Tensor, nn
from torch_geometric.data import Batch

from ev2_plugin.data.inventory import DATABASE_SUFFIXES
from ev2_plugin.data.stored import dataset_files
from ev2_plugin.integration.check.splits import open_split
from ev2_plugin.integration.checkpoint_form import current_form
from ev2_plugin.integration.host_classes import check_named_classes, only_needed_imports
from ev2_plugin.integration.loading import read_checkpoint
from ev2_plugin.integration.precision import PrecisionRow
from ev2_plugin.integration.run_config import find_config, load_config
from ev2_plugin.ops.linear import Precision

UNITS = {"energy": "eV", "forces": "eV/Å"}
"""Of outputs whose normaliser is known."""


@dataclass(frozen=True)
class ModelSource:
    """A model that can be built at any precision.

    Attributes:
        settings: The model section of a config.
        weights: A state dict; None for those the model is initialised with.
        scales: By output, the rmsd of its normaliser.
    """

    settings: Mapping[str, Any]
    weights: Mapping[str, Tensor] | None
    scales: Mapping[str, float]

    def build(self, precision: Precision) -> nn.Module:
        """The model in float32 on the CPU; equal weights at every call.

        Raises:
            ImportError: If a class that the settings name cannot be imported.
            ValueError: If the settings are wrong or the weights do not fit.
        """
        settings = copy.deepcopy(dict(self.settings))
        # backend auto, whatever the config says: it serves float64 and every precision
        settings.get("backbone", settings).update(precision=precision, backend="auto")
        with only_needed_imports({"model": settings}), torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model = registry.get_model_class(settings.pop("name"))(**settings)
        if self.weights is not None:
            load_state_dict(model, match_state_dict(model.state_dict(), self.weights), strict=True)
        return model


def read_source(config: Path | None, checkpoint: Path | None, *, trust: bool = False) -> ModelSource:
    """Read a run file, a checkpoint, or both: then the model is the file's and the weights are the checkpoint's.

    Args:
        config: A run file, also the name of one that the plugin brings.
        checkpoint: As the host's trainers write it.
        trust: Whether it comes from somebody trusted: then what it asks for is executed.

    Raises:
        FileNotFoundError: If a file does not exist.
        ValueError: If neither is given or the model section is missing.
    """
    if config is None and checkpoint is None:
        raise ValueError("give --config-yml or --checkpoint, or both")
    if checkpoint is not None and not checkpoint.exists():
        raise FileNotFoundError(f"--checkpoint {checkpoint}: no such file")
    saved = current_form(read_checkpoint(checkpoint, trust=trust), checkpoint) if checkpoint is not None else {}
    if config is None and not trust:
        check_named_classes(saved["config"], checkpoint)
    run = load_config(find_config(config))[0] if config is not None else saved["config"]
    settings = run.get("model")
    if not isinstance(settings, Mapping) or "name" not in settings:
        raise ValueError(f"{config or checkpoint}: the config has no model section with a name, got {settings!r}")
    return ModelSource(settings, saved.get("state_dict"), {**_scales_in_config(run), **_scales_in_checkpoint(saved)})


def _scales_in_checkpoint(saved: Mapping[str, Any]) -> dict[str, float]:
    return {name: float(state["rmsd"]) for name, state in saved.get("normalizers", {}).items()}


def _scales_in_config(run: Mapping[str, Any]) -> dict[str, float]:
    """Of the normalisers given as numbers; those to be fitted or read from a file are known after training only."""
    found: Any = run
    for key in ("dataset", "train", "transforms", "normalizer"):
        found = (found.get(key) or {}) if isinstance(found, Mapping) else {}
    spreads = {
        name: entry.get("rmsd", entry.get("stdev")) for name, entry in found.items() if isinstance(entry, Mapping)
    }
    return {name: float(spread) for name, spread in spreads.items() if spread is not None}


def read_batches(dataset: Path, samples: int, batch_size: int, *, trust: bool = False) -> Iterator[Batch]:
    """Structures evenly spread over a dataset, in the order in which the host shuffles it.

    Args:
        dataset: A file or folder of .lmdb, or of ASE databases (.db, .aselmdb).
        samples: How many structures, at most.
        batch_size: Structures per batch.
        trust: Whether it comes from somebody trusted: then what its samples ask for is executed.

    Raises:
        FileNotFoundError: If there is none.
        ValueError: If it cannot be read or is empty.
    """
    ase_database = dataset_files(dataset)[0].suffix in DATABASE_SUFFIXES
    with only_needed_imports({"task": {"trust": trust}}):
        opened = open_split("test", {"src": str(dataset), "format": "ase_db" if ase_database else "lmdb"})
        yield from _batches(opened, samples, batch_size)


def _batches(opened: Any, samples: int, batch_size: int) -> Iterator[Batch]:
    indices = np.unique(np.linspace(0, len(opened) - 1, min(samples, len(opened))).round().astype(int)).tolist()
    for start in range(0, len(indices), batch_size):
        yield data_list_collater([opened[index] for index in indices[start : start + batch_size]], otf_graph=True)


def deviation_table(rows: Sequence[PrecisionRow], scales: Mapping[str, float], title: str) -> Table:
    """Lay out deviations, one line per precision and output.

    Args:
        rows: From `deviations`.
        scales: What they were multiplied with, for the units.
        title: Names the model and the structures.
    """
    table = Table("precision", "output", "relative", "mean", "largest", "unit", title=title)
    for row in rows:
        for name, one in row.outputs.items():
            unit = UNITS.get(name, "of the labels") if name in scales else "normalised"
            figures = (f"{value:.2e}" for value in (one.relative, one.mean, one.largest))
            table.add_row(row.precision, name, *figures, unit)
        table.add_section()
    return table
