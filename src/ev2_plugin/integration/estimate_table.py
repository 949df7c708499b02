"""Memory estimates as tables for the terminal, and for programs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich.markup import escape
from rich.table import Table

from ev2_plugin.integration.check.render import in_bytes
from ev2_plugin.integration.dataset_sizes import StructureSizes
from ev2_plugin.integration.estimate import UseEstimate


def held_table(estimates: Sequence[UseEstimate], sizes: StructureSizes, title: str) -> Table:
    """What there is to know besides batches: the structures, and what is held whatever the batch.

    Args:
        estimates: Of all uses.
        sizes: Of the structures.
        title: Name of the config.
    """
    table = Table(title=escape(title), show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    fewest, most = sizes.natoms[-1], sizes.natoms[0]
    atoms = f"{most} atoms" if fewest == most else f"{fewest} to {most} atoms, {sizes.mean_atoms:.1f} on average"
    table.add_row("structures", escape(f"{sizes.source}; {atoms}, {sizes.edges_per_atom:.1f} edges per atom"))
    for training, name in ((True, "training"), (False, "prediction")):
        held = next((one.held for one in estimates if one.use.training is training), None)
        if held is None:
            continue
        parts = {
            "parameters": held.parameters,
            "gradients": held.gradients,
            "gradients being exchanged": held.exchanged,
            "optimiser": held.moments,
            "averages": held.averaged,
        }
        told = ", ".join(f"{part} {in_bytes(value)}" for part, value in parts.items() if value)
        table.add_row(f"held in {name}", told)
    return table


def batch_table(estimates: Sequence[UseEstimate], configured: str, memory: int, device: str) -> Table:
    """Peak memory and the largest batch of each use.

    Args:
        estimates: Of all uses.
        configured: The level of `activation_checkpoint` that the config sets.
        memory: Of the device, in bytes.
        device: Its name.
    """
    table = Table(title=escape(f"Memory of batches; largest batch in {in_bytes(memory)}, {device}"))
    columns = ("", "batch", "peak", "largest structures", "per atom", "per edge", "largest batch", "most atoms")
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if number else "left")
    for one in estimates:
        chosen = " (config)" if one.use.level == configured else ""
        table.add_row(
            f"training, {one.use.level}{chosen}" if one.use.training else "prediction",
            str(one.batch_size),
            in_bytes(one.peak),
            in_bytes(one.worst),
            in_bytes(one.per_atom),
            in_bytes(one.per_edge),
            f"{one.largest_batch:,}",
            f"{one.most_atoms:,}",
        )
    return table


def as_dict(estimates: Sequence[UseEstimate], sizes: StructureSizes, configured: str) -> dict[str, Any]:
    """All estimates as JSON has them, memory in bytes.

    Args:
        estimates: Of all uses.
        sizes: Of the structures.
        configured: The level of `activation_checkpoint` that the config sets.
    """
    structures = {
        "source": sizes.source,
        "fewest_atoms": sizes.natoms[-1],
        "most_atoms": sizes.natoms[0],
        "mean_atoms": sizes.mean_atoms,
        "edges_per_atom": sizes.edges_per_atom,
    }
    uses = [
        {
            "training": one.use.training,
            "activation_checkpoint": one.use.level,
            "configured": one.use.level == configured,
            "batch_size": one.batch_size,
            "held": {**asdict(one.held), "total": one.held.total},
            "peak": one.peak,
            "peak_of_largest_structures": one.worst,
            "fixed": one.fixed,
            "per_atom": one.per_atom,
            "per_edge": one.per_edge,
            "largest_batch": one.largest_batch,
            "most_atoms": one.most_atoms,
        }
        for one in estimates
    ]
    return {"structures": structures, "uses": uses}
