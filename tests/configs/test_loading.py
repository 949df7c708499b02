"""Every run file says the same to fairchem's loader and to ours, and nothing that nobody reads."""

import itertools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from fairchem.core.common.utils import load_config as host_load_config

from ev2_plugin.integration.check.keys import key_problems
from ev2_plugin.integration.run_config import load_config
from helpers.run_files import CONFIGS, RUN_FILES


def inclusions(path: Path) -> list[Path]:
    return [(path.parent / name).resolve() for name in yaml.safe_load(path.read_text()).get("includes", [])]


@pytest.mark.parametrize("name", RUN_FILES)
def test_both_loaders_agree_and_every_key_is_known(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # includes are found from any folder
    ours, _ = load_config(RUN_FILES[name])
    hosts, _, in_two_includes = host_load_config(RUN_FILES[name])
    assert ours == hosts
    assert not in_two_includes
    assert key_problems(ours) == []
    assert all(isinstance(value, int | float) for value in numbers(ours["optim"]))


def numbers(optim: Mapping[str, Any]) -> Iterator[Any]:
    """Values that must be numbers: YAML reads 1e-4 as text."""
    words = {"precision", "load_balancing", "load_balancing_on_error", "optimizer", "scheduler", "lambda_type"}
    for key, value in optim.items():
        if isinstance(value, Mapping):
            yield from numbers(value)
        elif key not in words:
            yield value


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
