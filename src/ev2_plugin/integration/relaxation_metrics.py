"""IS2RE and IS2RS errors of relaxed structures, by the host's own definitions and structure by structure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from ase.geometry import complete_cell, find_mic
from fairchem.core.modules.evaluator import Evaluator
from torch import Tensor

_AT_ONCE = 256
_FAR = 1e6
"""How much longer a cell vector in a direction that is not periodic is made: no displacement is half of it."""


@dataclass(frozen=True)
class RelaxedPair:
    """A relaxed structure beside its labels.

    Attributes:
        energy: Predicted, eV.
        energy_label: eV, or None.
        positions: Predicted, Å, [atoms, 3].
        positions_label: Å, [atoms, 3], or None.
        free: Atoms that were not fixed, [atoms].
        cell: Lattice vectors as rows in Å, [3, 3].
        pbc: Periodic directions, [3].
    """

    energy: float
    energy_label: float | None
    positions: Tensor
    positions_label: Tensor | None
    free: Tensor
    cell: Tensor
    pbc: Tensor


Metrics = dict[str, dict[str, float]]
"""Value and number of items (structures, coordinates, structures times thresholds) by name."""


def relaxation_metrics(pairs: Iterable[RelaxedPair]) -> dict[str, Metrics]:
    """Errors of relaxed energies (`is2re`) and of the positions of free atoms (`is2rs`).

    Distances are to the nearest images, also in `mae` and `mse` of coordinates, where the host takes them as they
    stand: the same unless labels are wrapped into another cell.

    Args:
        pairs: Those without a label, or without free atoms, are left out of what needs it.

    Returns:
        `is2re` and `is2rs`, each if there are labels for it.
    """
    tasks: dict[str, Evaluator] = {name: Evaluator(task=name) for name in ("is2re", "is2rs")}
    found: dict[str, dict[str, Any]] = {name: {} for name in tasks}
    for some in _in_portions(pairs):
        energies = [pair for pair in some if pair.energy_label is not None]
        if energies:
            found["is2re"] = tasks["is2re"].eval(
                {"energy": torch.tensor([pair.energy for pair in energies], dtype=torch.float64)},
                {"energy": torch.tensor([pair.energy_label for pair in energies], dtype=torch.float64)},
                found["is2re"],
            )
        for group in _by_periodicity(some):
            found["is2rs"] = tasks["is2rs"].eval(*_positions(group), found["is2rs"])
    return {
        task: {name: {"value": float(one["metric"]), "count": int(one["numel"])} for name, one in metrics.items()}
        for task, metrics in found.items()
        if metrics
    }


def _in_portions(pairs: Iterable[RelaxedPair]) -> Iterator[list[RelaxedPair]]:
    remaining = iter(pairs)
    while portion := list(islice(remaining, _AT_ONCE)):
        yield portion


def _by_periodicity(pairs: list[RelaxedPair]) -> list[list[RelaxedPair]]:
    """Groups that the host's evaluator, which knows one periodicity, can take."""
    groups = defaultdict(list)
    for pair in pairs:
        if pair.positions_label is not None and pair.free.any():
            groups[tuple(pair.pbc.tolist())].append(pair)
    return list(groups.values())


def _positions(group: list[RelaxedPair]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    geometry = {
        "cell": torch.stack([_with_far_images(pair.cell, pair.pbc) for pair in group]),
        "pbc": group[0].pbc,
        "natoms": torch.tensor([int(pair.free.sum()) for pair in group]),
    }
    predicted = torch.cat([pair.positions[pair.free].double() for pair in group])
    labels = torch.cat([_nearest_label(pair) for pair in group])
    return {"positions": predicted, **geometry}, {"positions": labels, **geometry}


def _nearest_label(pair: RelaxedPair) -> Tensor:
    """Labels of the free atoms in the images nearest to the predictions, [free atoms, 3]."""
    assert pair.positions_label is not None  # `_by_periodicity` takes no others
    predicted, label = (one[pair.free].double() for one in (pair.positions, pair.positions_label))
    difference, _ = find_mic((label - predicted).numpy(), complete_cell(pair.cell.double().numpy()), pair.pbc.numpy())
    return predicted + torch.from_numpy(difference)


def _with_far_images(cell: Tensor, pbc: Tensor) -> Tensor:
    """A cell in which only periodic directions have images: the host folds displacements in all three."""
    vectors = torch.from_numpy(complete_cell(cell.double().numpy()))  # those that are missing are not periodic
    return vectors * torch.where(pbc, 1.0, _FAR).double().unsqueeze(1)
