"""The ground truth of OC20-Dense, from the files that are published with it.

`oc20dense_targets.pkl` has adsorption energies, `{system: [(config, energy [eV]), ...]}`; `oc20dense_compute.pkl` the
cost of each relaxation, `{system: {config: {"ionic": steps, "scf": steps}}}`, the clean surface's under `surface`.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np

from ev2_plugin.adsorbml.records import Target
from ev2_plugin.storage.safe_pickle import load_pickle

CLEAN_SURFACE = "surface"


def read_oc20_dense(targets_file: Path, compute_file: Path) -> list[Target]:
    """Read both files as one table; nothing in them is executed.

    As in the published evaluation, relaxations without an energy count with their steps, and energies without steps
    with none. Clean surfaces are left out: both the ground truth and the candidates need them.

    Args:
        targets_file: `oc20dense_targets.pkl`, or one of the same layout.
        compute_file: `oc20dense_compute.pkl`, or one of the same layout.

    Returns:
        Adsorption energies and steps, systems by name, configurations by name.

    Raises:
        ValueError: If a file holds more than plain data, or has another layout.
    """
    energies = _energies(targets_file)
    steps = _steps(compute_file)
    return [
        Target(system, config, energies.get((system, config)), *steps.get((system, config), (0, 0)))
        for system, config in sorted({*energies, *steps})
    ]


def _energies(path: Path) -> dict[tuple[str, str], float]:
    found: dict[tuple[str, str], float] = {}
    for system, configs in _systems(path, list):
        for entry in configs:
            if not (isinstance(entry, tuple | list) and len(entry) == 2):
                raise ValueError(f"{path}: system {system!r} has {entry!r}, not a configuration and its energy")
            config, energy = entry
            if not isinstance(energy, Real) or not isfinite(energy):
                raise ValueError(f"{path}: the energy of {system!r}, {config!r} is {energy!r}; it should be a number")
            if (system, str(config)) in found:
                raise ValueError(f"{path}: system {system!r} has configuration {config!r} twice")
            found[system, str(config)] = float(energy)
    return found


def _steps(path: Path) -> dict[tuple[str, str], tuple[int, int]]:
    found: dict[tuple[str, str], tuple[int, int]] = {}
    for system, configs in _systems(path, Mapping):
        for config, counts in configs.items():
            if config == CLEAN_SURFACE:
                continue
            found[system, str(config)] = _counts(counts, f"{path}: {system!r}, {config!r}")
    return found


def _counts(counts: Any, where: str) -> tuple[int, int]:
    """Electronic and ionic steps."""
    found = []
    for key in ("scf", "ionic"):
        count = counts.get(key) if isinstance(counts, Mapping) else None
        if not isinstance(count, int | np.integer) or count < 0:
            raise ValueError(f"{where} has {counts!r}; it should be the numbers of 'scf' and 'ionic' steps")
        found.append(int(count))
    return found[0], found[1]


def _systems(path: Path, kind: type) -> list[tuple[str, Any]]:
    content = load_pickle(path)
    if not isinstance(content, Mapping):
        raise ValueError(f"{path} holds a {type(content).__name__}; it should map systems to their configurations")
    wrong = [system for system, configs in content.items() if not isinstance(configs, kind)]
    if wrong:
        raise ValueError(
            f"{path}: system {wrong[0]!r} has a {type(content[wrong[0]]).__name__}, not a {kind.__name__.lower()}: "
            "it has another layout than the published files"
        )
    return [(str(system), configs) for system, configs in content.items()]
