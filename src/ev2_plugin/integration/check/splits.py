"""The datasets that a config names, opened with errors that say which one and why."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fairchem.core.common.registry import registry
from fairchem.core.datasets._utils import rename_data_object_keys

SPLITS = ("train", "val", "test", "relax")


def configured_splits(config: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Settings of every split that has a source, with what the host lets it inherit from the training split.

    Empty for the list form of older files, which the host converts by itself.
    """
    datasets = config.get("dataset")
    if not isinstance(datasets, Mapping):
        return {}
    found = {}
    for split in SPLITS:
        settings = datasets.get(split)
        if isinstance(settings, Mapping) and "src" in settings:
            inherited = (datasets.get("train") or {}) if settings.get("use_train_settings", True) else {}
            found[split] = {**inherited, **settings}
    return found


def missing_sources(settings: Mapping[str, Any]) -> list[Path]:
    """Files and folders of `src` that do not exist; patterns are left to the dataset."""
    sources = settings["src"]
    paths = [Path(one) for one in ([sources] if isinstance(sources, str) else sources) if not set("*?[") & set(one)]
    return [path for path in paths if not path.exists()]


def open_split(split: str, settings: Mapping[str, Any]) -> Any:
    """Open a dataset as it is stored, without its `key_mapping`.

    Raises:
        ValueError: If it cannot be opened or is empty.
    """
    given = {key: value for key, value in settings.items() if key != "key_mapping"}
    folder, format_name = settings["src"], settings.get("format", "lmdb")
    if format_name.endswith("lmdb") and Path(str(folder)).is_dir() and not list(Path(folder).glob("*.lmdb")):
        raise ValueError(f"dataset.{split} ({folder}) is empty: the folder has no *.lmdb")
    try:
        dataset = registry.get_dataset_class(format_name)(given)
    except AssertionError as error:  # the host's way to refuse what it cannot read
        raise ValueError(f"dataset.{split} ({folder}): {error}") from error
    if not len(dataset):
        raise ValueError(f"dataset.{split} ({folder}) is empty: it has no samples")
    return dataset


def first_sample(split: str, settings: Mapping[str, Any], dataset: Any) -> Any:
    """Sample 0 with its keys renamed.

    Raises:
        ValueError: If a new name is already taken; the host stops there without a word.
    """
    sample, mapping = dataset[0], settings.get("key_mapping") or {}
    for old, renamed in mapping.items():
        for new in [renamed] if isinstance(renamed, str) else renamed:
            if old in sample and new in sample and new != old:
                raise ValueError(
                    f"dataset.{split}.key_mapping renames {old!r} to {new!r}, but sample 0 ({settings['src']}) already "
                    f"has {new!r}: leave the mapping out, or give the output another name"
                )
    return rename_data_object_keys(sample, mapping)
