"""Every run file says the same to fairchem's loader and to ours, and nothing that nobody reads."""

import itertools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from fairchem.core.common.utils import load_config as host_load_config

from ev2_plugin.integration.run_config import load_config
from helpers.run_files import CONFIGS, RUN_FILES

ANY = object()
"""A name that the file chooses: an output, a metric's target, an element."""

LABEL_OF_ATOMS = {"irrep_dim", "level", "train_on_free_atoms", "eval_on_free_atoms"}
KEYS: dict[Any, Any] = {
    "trainer": {},
    "logger": {},
    "model": {},  # read by `parse_model_settings`, which refuses unknown keys
    "dataset": {
        "train": {
            **dict.fromkeys(("format", "src"), {}),
            "key_mapping": {ANY: {}},
            "transforms": {
                "normalizer": {"fit": dict.fromkeys(("targets", "batch_size"), {}), ANY: {"mean": {}, "rmsd": {}}},
                "element_references": {ANY: {"elements": {ANY: {}}}},
            },
        },
        "val": {"src": {}},
        "relax": {"src": {}, "key_mapping": {ANY: {}}},
    },
    "outputs": {ANY: dict.fromkeys((*LABEL_OF_ATOMS, "shape"), {})},
    "loss_functions": {ANY: dict.fromkeys(("fn", "coefficient", "final_coefficient"), {})},
    "evaluation_metrics": {"metrics": {ANY: {}}, "primary_metric": {}},
    "task": {
        **dict.fromkeys(("prediction_dtype", "relaxation_steps", "relaxation_fmax", "write_pos"), {}),
        "relax_opt": dict.fromkeys(("maxstep", "memory", "damping", "alpha"), {}),
        "noisy_nodes": dict.fromkeys(("std", "probability", "interpolate", "corrupt_ratio"), {}),
    },
    "optim": {
        **dict.fromkeys(("batch_size", "eval_batch_size", "global_batch_size", "num_workers", "precision"), {}),
        **dict.fromkeys(("load_balancing", "load_balancing_on_error", "optimizer", "lr_initial", "scheduler"), {}),
        **dict.fromkeys(("max_epochs", "clip_grad_norm", "ema_decay", "eval_every"), {}),
        "optimizer_params": {"weight_decay": {}},
        "scheduler_params": dict.fromkeys(("lambda_type", "warmup_factor", "warmup_epochs", "lr_min_factor"), {}),
    },
}
"""What the host and the plugin's trainer read, as a tree."""


def unknown(config: Mapping[str, Any], keys: Mapping[Any, Any], above: str = "") -> Iterator[str]:
    for key, value in config.items():
        below = keys.get(key, keys.get(ANY))
        if below is None:
            yield above + key
            continue
        for part in value if isinstance(value, list) else [value]:
            if isinstance(part, Mapping) and below:
                yield from unknown(part, below, f"{above}{key}.")


def inclusions(path: Path) -> list[Path]:
    return [(path.parent / name).resolve() for name in yaml.safe_load(path.read_text()).get("includes", [])]


@pytest.mark.parametrize("name", RUN_FILES)
def test_both_loaders_agree_and_every_key_is_known(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # includes are found from any folder
    ours, _ = load_config(RUN_FILES[name])
    hosts, _, in_two_includes = host_load_config(RUN_FILES[name])
    assert ours == hosts
    assert not in_two_includes
    assert list(unknown(ours, KEYS)) == []
    assert all(isinstance(value, int | float) for value in numbers(ours["optim"]))


def numbers(optim: Mapping[str, Any]) -> Iterator[Any]:
    """Values that must be numbers: YAML reads 1e-4 as text."""
    words = {"precision", "load_balancing", "load_balancing_on_error", "optimizer", "scheduler", "lambda_type"}
    for key, value in optim.items():
        if isinstance(value, Mapping):
            yield from numbers(value)
        elif key not in words:
            yield value


def test_an_unknown_key_is_seen() -> None:
    config = {"optim": {"lr": 1.0, "batch_size": 2}, "loss_functions": [{"energy": {"fun": "mae"}}], "seed": 1}
    assert list(unknown(config, KEYS)) == ["optim.lr", "loss_functions.energy.fun", "seed"]


def test_every_file_belongs_to_a_run() -> None:
    reached: set[Path] = set()
    waiting = [path.resolve() for path in RUN_FILES.values()]
    while waiting:
        path = waiting.pop()
        reached.add(path)
        waiting += [include for include in inclusions(path) if include not in reached]
    folders = (CONFIGS / name for name in ("oc20", "oc22", "qm9"))
    files = itertools.chain.from_iterable(folder.rglob("*") for folder in folders)
    assert {path.resolve() for path in files if path.is_file()} == reached


def test_no_two_run_files_are_the_same_run() -> None:
    loaded = [yaml.safe_dump(load_config(path)[0]) for path in RUN_FILES.values()]
    assert len(set(loaded)) == len(RUN_FILES)
