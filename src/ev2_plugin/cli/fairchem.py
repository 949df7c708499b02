"""`ev2 fairchem`: fairchem's own command with the plugin registered."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from ev2_plugin.cli.completion import complete_flags
from ev2_plugin.cli.exit_codes import ERROR
from ev2_plugin.cli.terminal import one_sentence_errors

if TYPE_CHECKING:
    import argparse


def fairchem(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(metavar="ARGS...", help="As `fairchem` takes them.", autocompletion=complete_flags),
    ] = None,
) -> None:
    """Run fairchem with the plugin: train, validate, predict, run-relaxations."""
    from ev2_plugin.integration.flags import fairchem_parser

    run_host(arguments or [], fairchem_parser())


def run_host(arguments: list[str], parser: argparse.ArgumentParser) -> None:
    """Read the flags of a run and start it."""
    from ev2_plugin.integration.launcher import read_request, start
    from ev2_plugin.integration.slurm import SubmissionError

    with one_sentence_errors():
        request = read_request(arguments, parser)
    try:
        start(request)  # what goes wrong from here on comes with its traceback
    except SubmissionError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(ERROR) from error
