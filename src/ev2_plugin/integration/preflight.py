"""What can be known to be wrong before a run starts: datasets without samples or labels, weights that do not fit."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from fairchem.core.common.registry import registry
from fairchem.core.common.utils import match_state_dict
from torch import nn

from ev2_plugin.integration.position_labels import SOURCES_OF_LABELS
from ev2_plugin.model.state_dict import DERIVED

_SPLITS_OF_MODE = {
    "train": ("train", "val"),
    "validate": ("val",),
    "predict": ("test",),
    "run-relaxations": ("relax",),
}
_SHOWN = 5


def check_datasets(config: Mapping[str, Any]) -> None:
    """Look into the datasets that a run of this mode reads: are there samples, and do they have their labels?

    Args:
        config: The run's config, as `build_run_config` returns it.

    Raises:
        FileNotFoundError: If a dataset's source does not exist (a warning if the run is submitted elsewhere).
        ValueError: If a dataset is empty, or its first sample lacks a label that the loss asks for.
    """
    datasets = config.get("dataset")
    if not isinstance(datasets, Mapping):
        return  # the list form of older files, which the host converts by itself
    labels = _labels(config) if config["mode"] in ("train", "validate") else []
    for split in _SPLITS_OF_MODE[config["mode"]]:
        settings = datasets.get(split)
        if isinstance(settings, Mapping) and "src" in settings:
            inherited = (datasets.get("train") or {}) if settings.get("use_train_settings", True) else {}
            _check_dataset(f"dataset.{split}", {**inherited, **settings}, labels, bool(config.get("submit")))


def _labels(config: Mapping[str, Any]) -> list[str]:
    losses = config.get("loss_functions") or []
    targets = (target for loss in losses for target in loss)
    return [*(SOURCES_OF_LABELS.get(target, target) for target in targets), "fixed"]


def _check_dataset(name: str, settings: Mapping[str, Any], labels: list[str], submitted: bool) -> None:
    for source in _sources(settings["src"]):
        if not source.exists() and submitted:
            logging.warning(f"{name}.src: {source} does not exist on this machine; the job may find it on its own")
            return
        if not source.exists():
            raise FileNotFoundError(f"{name}.src: {source} does not exist")
    dataset = registry.get_dataset_class(settings.get("format", "lmdb"))(dict(settings))
    if not len(dataset):
        raise ValueError(f"{name} ({settings['src']}) is empty: it has no samples")
    sample = dataset[0]
    missing = [label for label in labels if label not in sample]
    if missing:
        raise ValueError(
            f"sample 0 of {name} ({settings['src']}) has no {', '.join(map(repr, missing))}, which training needs; it "
            f"has: {', '.join(sorted(sample.keys()))}. If a label has another name, say so under {name}.key_mapping"
        )


def _sources(source: str | list[str]) -> Iterator[Path]:
    for one in [source] if isinstance(source, str) else source:
        if not any(wildcard in one for wildcard in "*?["):
            yield Path(one)


def check_checkpoint(model: nn.Module, path: str | Path) -> None:
    """Compare a checkpoint's weights with the model they are meant for, by name and shape.

    The host loads the optimiser's state first, whose error does not say which weights are wrong.

    Args:
        model: The trainer's model.
        path: The checkpoint.

    Raises:
        ValueError: Naming the first weights that are missing, left over or of another shape.
    """
    # on the meta device: names and shapes without the numbers
    state_dict = torch.load(path, map_location="meta", weights_only=False)["state_dict"]
    expected = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    given = {name: tuple(value.shape) for name, value in match_state_dict(model.state_dict(), state_dict).items()}
    problems = {
        "not in the checkpoint": [name for name in expected if name not in given],
        "not in the model": [name for name in given if name not in expected and not DERIVED.search(name)],
        "of another shape": [
            f"{name} {given[name]} instead of {shape}"
            for name, shape in expected.items()
            if name in given and given[name] != shape
        ],
    }
    found = [
        f"{len(names)} {kind}: {', '.join(names[:_SHOWN])}{', ...' if len(names) > _SHOWN else ''}"
        for kind, names in problems.items()
        if names
    ]
    if found:
        raise ValueError(f"checkpoint {path} does not fit the model of this config. Weights {'; '.join(found)}")
