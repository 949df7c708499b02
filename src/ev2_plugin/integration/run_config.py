"""From command-line flags and YAML files to the config of a fairchem run.

The result equals that of fairchem's `build_config`. On top of it, config files and their `includes` (at any
depth) are also found in the configs that the plugin brings, and a mistake is reported by its name.
"""

import argparse
import copy
import datetime
import itertools
import logging
import secrets
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from fairchem.core.common.utils import (
    UniqueKeyLoader,
    dict_set_recursively,
    find_relative_file_in_paths,
    merge_dicts,
    parse_value,
)

from ev2_plugin.storage.safe_pickle import reading

Config = dict[str, Any]

_COPIED_FLAGS = (
    *("mode", "identifier", "timestamp_id", "checkpoint", "run_dir", "print_every", "seed"),
    *("amp", "cpu", "gp_gpus", "submit", "summit"),
)


TRUST_HELP = "The files of this run come from somebody I trust: execute what their pickles ask for"


def config_dir() -> Path:
    """Return the folder of the configs that the plugin brings."""
    return Path(__file__).resolve().parents[1] / "configs"


def find_config(path: Path) -> Path:
    """Return `path`, or the config of that name among those the plugin brings.

    Raises:
        FileNotFoundError: If there is neither.
    """
    for candidate in (path, config_dir() / path):
        if candidate.is_file():
            return candidate
    raise FileNotFoundError(f"no config {str(path)!r} here ({Path.cwd()}) nor in {config_dir()}")


def build_run_config(args: argparse.Namespace, overrides: Sequence[str]) -> Config:
    """Join the config file, the flags and the `--key.subkey=value` overrides of a run.

    Args:
        args: Flags as fairchem's parser returns them.
        overrides: The arguments that the parser does not know.

    Returns:
        The config that fairchem's trainer context takes. `timestamp_id` is set: without one, the host names
        a run by the clock at a grain of 128 s, and a second run within that time resumes the first.

    Raises:
        FileNotFoundError: If the config or one of its includes is not found.
        ValueError: If two includes set one key, includes form a cycle, a file is no mapping, or an override
            is not of the form `--key=value`.
    """
    config, overridden = load_config(find_config(args.config_yml))
    if overridden:
        logging.info(f"keys of included configs that were replaced: {', '.join(overridden)}")
    for name in _COPIED_FLAGS:
        config[name] = getattr(args, name)
    config["is_debug"] = args.debug
    config["world_size"] = args.num_nodes * args.num_gpus
    config["distributed_backend"] = "gloo" if args.cpu else "nccl"
    config, _ = merge_dicts(config, _parse_overrides(overrides))
    if getattr(args, "trust", False):
        config["task"] = {**(config.get("task") or {}), "trust": True}  # here ranks, workers and requeued jobs find it
    config["timestamp_id"] = config["timestamp_id"] or new_timestamp_id(config["identifier"])
    return config


def without_unread_datasets(config: Config) -> Config:
    """Leave out the sources of splits that a mode does not read: who relaxes need not have the training data.

    What the other splits inherit from `dataset.train` stays. The host opens every split in every mode.

    Args:
        config: Of a run with the plugin's trainer, which does without a training set.
    """
    read = {"validate": "val", "predict": "test", "run-relaxations": "relax"}.get(config["mode"])
    if read is None:
        return config
    datasets = {
        split: settings if split == read else {key: value for key, value in (settings or {}).items() if key != "src"}
        for split, settings in config["dataset"].items()
    }
    if read != "relax":
        datasets.pop("relax", None)  # the host opens it whatever it says
    return {**config, "dataset": datasets}


def new_timestamp_id(identifier: str) -> str:
    """Return a name for a run's folders that no other run has: time, identifier, four random digits."""
    now = datetime.datetime.now().strftime("%Y-%m-%d-%H-%M-%S")
    return "-".join(part for part in (now, identifier, secrets.token_hex(2)) if part)


def load_config(path: Path, including: tuple[Path, ...] = ()) -> tuple[Config, list[str]]:
    """Read a YAML config and, below it, the files that it includes.

    Args:
        path: The file.
        including: The files that led here, outermost first.

    Returns:
        The merged config, and the dotted keys of included files that an including file replaced.

    Raises:
        FileNotFoundError: If an included file is not found.
        ValueError: If the files form a cycle, two includes set one key, or a file is no mapping.
    """
    if path in including:
        raise ValueError(f"configs include one another: {' -> '.join(map(str, (*including, path)))}")
    with reading(path), path.open(encoding="utf-8") as file:
        own = yaml.load(file, Loader=UniqueKeyLoader)
    if not isinstance(own, dict):
        raise ValueError(f"{path}: a config is a mapping of keys to values, not {type(own).__name__}")
    includes = own.pop("includes", [])
    if not isinstance(includes, list):
        raise ValueError(f"{path}: includes must be a list of files, not {includes!r}")

    merged: Config = {}
    overridden: list[str] = []
    for include in includes:
        included, overridden_below = load_config(_find_include(include, path), (*including, path))
        merged, twice = merge_dicts(merged, included)
        if twice:
            raise ValueError(f"{path}: more than one of its includes sets {', '.join(twice)}")
        overridden += overridden_below
    merged, overridden_here = merge_dicts(merged, own)
    return merged, overridden + overridden_here


def _find_include(include: str, path: Path) -> Path:
    folders = (path.parent, config_dir())
    try:
        return Path(find_relative_file_in_paths(include, folders))
    except ValueError as error:
        searched = ", ".join(map(str, (Path.cwd(), *folders)))
        raise FileNotFoundError(f"{path}: includes {include!r}, which is in none of {searched}") from error


def _parse_overrides(overrides: Sequence[str]) -> Config:
    parsed: Config = {}
    for override in overrides:
        key, equals, value = override.removeprefix("--").partition("=")
        if not (override.startswith("--") and key and equals):
            raise ValueError(f"{override!r} is neither a flag nor an override of the form --key.subkey=value")
        dict_set_recursively(parsed, key.split("."), parse_value(value))
    return parsed


def expand_sweep(config: Config, sweep_yml: Path) -> list[Config]:
    """Return one config per combination of the values that a sweep file lists.

    Args:
        config: The config to vary.
        sweep_yml: YAML with the keys of the config to vary, nested as there, and a list of values for each.

    Raises:
        ValueError: If a key has something else than a list of values.
    """
    with reading(sweep_yml), sweep_yml.open(encoding="utf-8") as file:
        axes = dict(_leaves(yaml.load(file, Loader=UniqueKeyLoader)))
    for key, values in axes.items():
        if not isinstance(values, list):
            raise ValueError(f"{sweep_yml}: {'.'.join(key)} needs a list of values, not {values!r}")
    configs = []
    for index, values in enumerate(itertools.product(*axes.values())):
        varied: Config = {}
        for key, value in zip(axes, values, strict=True):
            dict_set_recursively(varied, list(key), copy.deepcopy(value))
        one, _ = merge_dicts(config, varied)
        one["identifier"] = f"{config['identifier']}_run{index}"
        one["timestamp_id"] = new_timestamp_id(one["identifier"])
        configs.append(one)
    return configs


def _leaves(tree: Mapping[str, Any], above: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, (*above, key))
        else:
            yield (*above, key), value
