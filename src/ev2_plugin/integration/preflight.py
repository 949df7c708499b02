"""What can be known to be wrong before a run starts: datasets without samples or labels, weights that do not fit."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from ev2_plugin.integration.check.settings import output_targets
from ev2_plugin.integration.check.splits import configured_splits, first_sample, missing_sources, open_split
from ev2_plugin.integration.dens import plain_weights
from ev2_plugin.integration.position_labels import SOURCES_OF_LABELS
from ev2_plugin.integration.weights import check_weights
from ev2_plugin.model.state_dict import strip_module_prefix
from ev2_plugin.storage.safetensors_file import SUFFIX, read_weights
from ev2_plugin.storage.torch_file import read_torch

_LABELLED_SPLITS = {"train": ("train", "val"), "validate": ("val",)}


def check_datasets(config: Mapping[str, Any]) -> None:
    """Look into the datasets of a run: are there samples, and what training and balancing need of them?

    All splits are opened, as the host does in every mode; labels are asked for where the mode reads them.

    Args:
        config: The run's config, as `build_run_config` returns it.

    Raises:
        FileNotFoundError: If a dataset's source does not exist (a warning if the run is submitted elsewhere).
        ValueError: If a dataset is empty, its first sample lacks a label that an output or the loss asks for or has a
            name that `key_mapping` gives to another key, or batches cannot be balanced as asked.
    """
    for split, settings in configured_splits(config).items():
        missing = missing_sources(settings)
        if missing and config.get("submit"):
            logging.warning(
                f"dataset.{split}.src: {missing[0]} does not exist on this machine; the job may find it on its own"
            )
            continue
        if missing:
            raise FileNotFoundError(f"dataset.{split}.src: {missing[0]} does not exist")
        dataset = open_split(split, settings)
        _check_metadata(split, settings, dataset, config.get("optim") or {})
        sample = first_sample(split, settings, dataset)
        if split in _LABELLED_SPLITS.get(config["mode"], ()):
            _check_labels(split, settings, sample, needed_labels(config))


def needed_labels(config: Mapping[str, Any]) -> list[str]:
    """Keys that the samples must have for the outputs and losses of a config."""
    losses = (target for loss in config.get("loss_functions") or [] for target in loss)
    targets = dict.fromkeys([*output_targets(config), *losses])
    return [*(SOURCES_OF_LABELS.get(target, target) for target in targets), "fixed"]


def _check_labels(split: str, settings: Mapping[str, Any], sample: Any, labels: list[str]) -> None:
    missing = [label for label in labels if label not in sample]
    if missing:
        raise ValueError(
            f"sample 0 of dataset.{split} ({settings['src']}) has no {', '.join(map(repr, missing))}, which training "
            f"needs; it has: {', '.join(sorted(sample.keys()))}. If a label has another name, say so under "
            f"dataset.{split}.key_mapping"
        )


def _check_metadata(split: str, settings: Mapping[str, Any], dataset: Any, optim: Mapping[str, Any]) -> None:
    """Without metadata the host stops, on one process too, unless told to go on."""
    if optim.get("load_balancing") is None or optim.get("load_balancing_on_error") not in (None, "raise"):
        return
    try:
        present = dataset.metadata_hasattr("natoms")
    except AssertionError as error:
        raise ValueError(f"dataset.{split} ({settings['src']}): {error}") from error
    if not present:
        raise ValueError(
            f"dataset.{split} ({settings['src']}) has no metadata.npz, from which optim.load_balancing takes the sizes "
            "of structures: `ev2 data prepare` writes it; or set optim.load_balancing_on_error: warn_and_no_balance"
        )


def check_checkpoint(model: nn.Module, path: str | Path, *, trust: bool = False) -> None:
    """Compare a checkpoint's weights with the model they are meant for, by name and shape.

    The host loads the optimiser's state first, whose error does not say which weights are wrong.

    Args:
        model: The trainer's model.
        path: The checkpoint.
        trust: Whether it comes from somebody trusted: then it may hold, and execute, anything.

    Raises:
        ValueError: Naming the first weights that are missing, left over or of another shape.
    """
    path = Path(path)
    if path.suffix == SUFFIX:
        weights, _ = read_weights(path)
    else:
        # on the meta device: names and shapes without the numbers
        weights = read_torch(path, trust=trust, map_location="meta")["state_dict"]
    check_weights(model, plain_weights({strip_module_prefix(name): one for name, one in weights.items()}), path)
