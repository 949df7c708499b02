"""A relaxation on disk: what it takes to go on as if it had never stopped.

Structures are read again from their source; positions, histories and the order of the batch are kept, so that every
later evaluation is of the same batch, with the same result to the last bit.
"""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from ev2_plugin.potential.structures import join
from ev2_plugin.relax.group import Group, Member
from ev2_plugin.relax.optimizer import Memory
from ev2_plugin.relax.relaxation import Relaxation
from ev2_plugin.relax.settings import Budget
from ev2_plugin.storage.atomic import written_atomically
from ev2_plugin.storage.torch_file import read_torch

State = dict[str, Any]


def take_snapshot(relaxation: Relaxation) -> State:
    """All that changes in a relaxation, in plain containers and tensors on the CPU."""
    return {
        "next": relaxation.next,
        "asked": _limits(relaxation.settings.budget),
        "max_edges": relaxation.budget.max_edges,
        "active": None if relaxation.active is None else _packed(relaxation.active),
        "aside": [_packed(group) for group in relaxation.aside],
    }


def restore(relaxation: Relaxation, state: State) -> None:
    """Bring a new relaxation of the same source and settings to where a snapshot was taken.

    With the same budget it goes on with the same batch, and with the limit that a lack of memory has taught it; with
    another one all structures on their way wait for places in batches of that size.
    """
    relaxation.next = state["next"]
    active = None if state["active"] is None else _unpacked(relaxation, state["active"])
    aside = [_unpacked(relaxation, group) for group in state["aside"]]
    if state["asked"] == _limits(relaxation.settings.budget):
        relaxation.budget = replace(relaxation.budget, max_edges=state["max_edges"])
        relaxation.active, relaxation.aside = active, deque(aside)
    else:
        groups = [*([active] if active is not None else []), *aside]
        relaxation.aside = deque(group.select([place]) for group in groups for place in range(len(group.members)))


def write_state(path: Path, state: State) -> None:
    """Write a state to a file that is there as a whole or as it was before.

    Raises:
        OSError: If it cannot be written; a full disk is named as such.
    """
    with written_atomically(path) as file:
        torch.save(state, file)


def remove_unfinished(path: Path) -> None:
    """Remove what kills have left of states that were being written."""
    for leftover in path.parent.glob(f".{path.name}.*.partial"):
        leftover.unlink()


def read_state(path: Path) -> State:
    """Read a state; nothing of the file is executed.

    Raises:
        ValueError: If the file is damaged.
    """
    try:
        state: State = read_torch(path)
    except ValueError as error:
        raise ValueError(f"{path} cannot be read, so its run cannot go on; remove its folder to begin anew") from error
    return state


def _limits(budget: Budget) -> tuple[int | None, int | None]:
    return budget.max_edges, budget.max_structures


def _packed(group: Group) -> State:
    cpu = group.memory.to(torch.device("cpu"))
    return {
        "members": [tuple(vars(member).values()) for member in group.members],
        "positions": group.structures.positions.cpu(),
        "of_atoms": cpu.of_atoms,
        "of_structures": cpu.of_structures,
    }


def _unpacked(relaxation: Relaxation, state: State) -> Group:
    members = tuple(Member(*values) for values in state["members"])
    device = relaxation.potential.device
    start = join([relaxation.source[member.index] for member in members])
    structures = start.moved_to(state["positions"]).to(device)
    return Group(members, structures, Memory(state["of_atoms"], state["of_structures"]).to(device))
