"""`ev2 bench`: time of predictions and training steps on this machine, beside the host's model."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ev2_plugin.cli import exit_codes
from ev2_plugin.cli.completion import complete_config
from ev2_plugin.cli.json_output import JsonOption, print_json
from ev2_plugin.cli.options import DeviceOption
from ev2_plugin.cli.terminal import TrustOption, one_sentence_errors

if TYPE_CHECKING:
    from rich.table import Table


def bench(
    model: Annotated[
        str,
        typer.Argument(help="Checkpoint, run file, or preset like OC20_31M.", autocompletion=complete_config),
    ],
    structures: Annotated[
        str | None,
        typer.Option(help="A batch of what ASE reads, like some.extxyz@:4; without it a slab of 66 atoms."),
    ] = None,
    device: DeviceOption = "auto",
    repeats: Annotated[int, typer.Option(min=1, help="Samples of each side; their medians are compared.")] = 5,
    threads: Annotated[int | None, typer.Option(min=1, help="Of the CPU; without it as PyTorch has it.")] = None,
    predict_only: Annotated[bool, typer.Option("--predict-only", help="No training step.")] = False,
    trust: TrustOption = False,
    as_json: JsonOption = False,
) -> None:
    """Time energies and forces, and a training step, of this model and of fairchem's with the same weights.

    Answers are compared before the clock starts; if they differ, nothing is timed and the exit status is 3. Both sides
    take turns, and the same edges: neighbours are not searched for in the time.

    Example: ev2 bench OC20_31M --predict-only --repeats 3
    """
    with _quiet(), one_sentence_errors(about=model):
        import torch
        from rich.console import Console

        from ev2_plugin.integration import bench as library
        from ev2_plugin.integration.loading import choose_device
        from ev2_plugin.integration.relaxation_input import read_structures
        from ev2_plugin.integration.timing import DisagreementError

        if threads is not None:
            torch.set_num_threads(threads)
        place = choose_device(device)
        settings, weights = library.read_model(model, trust=trust)
        read = [] if structures is None else [one.atoms for one in read_structures([structures])]
        batch = read or [library.built_in_slab()]
        tasks = tuple(library.TASKS)[: 1 if predict_only else None]
        try:
            with Console(stderr=True).status("comparing, then taking times"):
                found = library.bench(settings, weights, batch, place, repeats=repeats, tasks=tasks)
        except DisagreementError as error:
            typer.echo(f"{model}: {error}", err=True)
            raise typer.Exit(exit_codes.NO) from error
    if as_json:
        print_json({"model": model, "file": structures, **found})
        return
    console = Console()
    console.print(_table(model, found))
    console.print(_comparison(found), soft_wrap=True, highlight=False, markup=False)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the host's words on its flat model, which is deprecated, and torch's on how the host reads its tables."""
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", category=FutureWarning, module="fairchem")
            yield
    finally:
        logging.disable(disabled)


def _comparison(found: Mapping[str, Any]) -> str:
    if found["deviations"] is None:
        return f"timed alone: {found['without_host']}"
    worst, largest = max(found["deviations"].items(), key=lambda one: one[1])
    return f"largest deviation from fairchem's answers: {largest:.1e} ({worst})"


def _table(model: str, found: Mapping[str, Any]) -> Table:
    from rich.markup import escape
    from rich.table import Table

    machine = found["machine"]
    size = f"{found['atoms']} atoms, {found['edges']:,} edges, {found['parameters']:,} parameters"
    table = Table(
        title=escape(f"{model}: {size}"),
        caption=escape(f"{machine['device']}; torch {machine['torch']}, fairchem-core {machine['fairchem-core']}"),
    )
    table.add_column("median time")
    for heading in ("fairchem", "ev2", "times as fast"):
        table.add_column(heading, justify="right")
    for task, times in found["seconds"].items():
        medians = (f"{times[side]['median']:.4g} s" if side in times else "" for side in ("host", "ours"))
        table.add_row(task.replace("_", " "), *medians, f"{times['host_over_ours']:.2f}" if "host" in times else "")
    return table
