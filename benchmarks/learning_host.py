"""S2EF with the host's own EquiformerV2: same initial weights, data order and trainer, so the losses can be compared.

The host draws a turn about every edge at every call, and its numbers vary with it by the error of the sphere grid.
Training amplifies that, so two runs of the host differ as well; how far is measured by other turns.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from fairchem.core.models.equiformer_v2 import equiformer_v2_deprecated
from torch import Tensor

from ev2_plugin.integration.fidelity import pinned_frames
from ev2_plugin.integration.run_config import load_config
from training_runs import TrainingLog, train

HOST_BASES = 600
"""Radial functions of the host's model, hard-coded there."""


@contextmanager
def seeded_frames(seed: int) -> Iterator[None]:
    """Let the host's model draw its turns from a seed of their own; nothing else of a run depends on it."""
    draw, calls = equiformer_v2_deprecated.init_edge_rot_mat, itertools.count()

    def drawn(vectors: Tensor) -> Tensor:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(1_000_000 * seed + next(calls))
            return draw(vectors)

    equiformer_v2_deprecated.init_edge_rot_mat = drawn
    try:
        yield
    finally:
        equiformer_v2_deprecated.init_edge_rot_mat = draw


HOST_FRAMES: Mapping[str, Callable[[], AbstractContextManager[None]]] = {
    "host": lambda: seeded_frames(0),
    "host, other turns": lambda: seeded_frames(1),
    "host, our turn": pinned_frames,
}
"""The runs of the host, by what turns its edge frames."""


def host_model_settings(ours: Mapping[str, Any]) -> dict[str, Any]:
    """The official keys of a model section of ours.

    Raises:
        ValueError: If the host cannot have this number of radial functions.
    """
    settings = dict(ours)
    if (bases := settings.pop("num_radial_basis")) != HOST_BASES:
        raise ValueError(f"the host's model has {HOST_BASES} radial functions, not {bases}")
    lmax, mmax = settings.pop("lmax"), settings.pop("mmax")
    return {**settings, "name": "equiformer_v2", "lmax_list": [lmax], "mmax_list": [mmax]}


def write_host_recipe(config: Path, path: Path) -> None:
    """Write a run file with the host's model in place of ours."""
    settings, _ = load_config(config)
    settings["model"] = host_model_settings(settings["model"])
    path.write_text(yaml.safe_dump(settings, sort_keys=False), encoding="utf-8")


def write_initial_weights(host_config: Path, path: Path, seed: int) -> None:
    """Write a checkpoint with the host's initial weights and nothing else, from which both sides start."""
    settings = load_config(host_config)[0]["model"]
    torch.manual_seed(seed)
    logging.disable(logging.WARNING)  # the host announces the deprecation of its flat model
    model = equiformer_v2_deprecated.EquiformerV2(**{key: value for key, value in settings.items() if key != "name"})
    logging.disable(logging.NOTSET)
    torch.save({"state_dict": model.state_dict(), "normalizers": {}}, path)


def train_beside_host(config: Path, seed: int) -> dict[str, TrainingLog]:
    """Train ours and the host's model from the same weights on the same batches.

    Args:
        config: Run file of ours; the host's is written beside it.
        seed: Of weights and data order.

    Returns:
        Logs of `ours` and of each entry of `HOST_FRAMES`.
    """
    host_config, weights = config.with_stem("host"), config.with_name("initial.pt")
    write_host_recipe(config, host_config)
    write_initial_weights(host_config, weights, seed)
    logs = {"ours": train(config, "ours", seed=seed, checkpoint=weights)}
    for number, (name, frames) in enumerate(HOST_FRAMES.items()):
        with frames():
            logs[name] = train(host_config, f"host-{number}", seed=seed, checkpoint=weights)
    return logs


def relative_differences(losses: Mapping[str, list[float]], ours: str, theirs: str) -> np.ndarray:
    """|a - b| / b of two loss curves, step by step."""
    a, b = np.array(losses[ours]), np.array(losses[theirs])
    return np.abs(a - b) / b
