"""`ev2 inspect`: what a checkpoint is, without executing anything in it; and how well it keeps symmetries."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ev2_plugin.cli import exit_codes
from ev2_plugin.cli.json_output import JsonOption, print_json
from ev2_plugin.cli.terminal import TrustOption, one_sentence_errors
from ev2_plugin.progress import show_progress

if TYPE_CHECKING:
    from ev2_plugin.integration.equivariance import EquivarianceReport


def inspect(
    checkpoint: Annotated[Path, typer.Argument(help="Any checkpoint, .pt or .safetensors.")],
    equivariance: Annotated[
        bool, typer.Option("--equivariance", help="Load the model and measure how well it keeps symmetries.")
    ] = False,
    structures: Annotated[
        str | None,
        typer.Option(
            help="Measure on these, whatever ASE reads (some.extxyz@:3); without it on a slab and a molecule."
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the rotations, shifts and permutations.")] = 0,
    device: Annotated[str, typer.Option(help="Where to measure: auto, cpu, cuda, cuda:1, ...")] = "auto",
    trust: TrustOption = False,
    as_json: JsonOption = False,
) -> None:
    """Architecture, heads, energies, normalisers, references, training and digest of a checkpoint.

    Nothing in the file is executed, whatever it holds. With --equivariance: errors of rotation, translation,
    permutation, periodic images and batches, in the checkpoint's precision and in float64, and where they come from.

    Exit status: 0 done, 3 the model itself breaks a symmetry or two calls differ, 1 error.

    Example: ev2 inspect best_checkpoint.pt --equivariance
    """
    from rich.console import Console

    if not equivariance:
        with one_sentence_errors():
            from ev2_plugin.integration.inspection import inspect_checkpoint

            facts = inspect_checkpoint(checkpoint)
        if as_json:
            print_json(facts)
            return
        from ev2_plugin.integration.inspection_table import facts_table

        Console().print(facts_table(facts))
        return
    with one_sentence_errors():
        report = _measure(checkpoint, structures, seed, device, trust)
    if as_json:
        from ev2_plugin.integration.equivariance import as_plain

        print_json(as_plain(report))
    else:
        from ev2_plugin.integration.equivariance_table import equivariance_lines, equivariance_table

        console = Console()
        console.print(equivariance_table(report))
        for line in equivariance_lines(report):
            console.print(line, soft_wrap=True, highlight=False, markup=False)
    if report.faults:
        raise typer.Exit(exit_codes.NO)


def _measure(checkpoint: Path, structures: str | None, seed: int, device: str, trust: bool) -> EquivarianceReport:
    from ev2_plugin.integration.equivariance import equivariance_report
    from ev2_plugin.integration.loaded_model import load
    from ev2_plugin.integration.probe_structures import named_structures

    model = load(checkpoint, device, trust)
    with show_progress("evaluations") as follow:
        return equivariance_report(
            model,
            named_structures(structures, model.elements),
            seed=seed,
            on_progress=lambda done, total: follow("measure", done, total),
        )
