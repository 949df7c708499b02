"""`ev2 fairchem`: fairchem's own command with the plugin registered."""

from typing import Annotated

import typer

from ev2_plugin.cli.terminal import one_sentence_errors, stoppable


def fairchem(
    arguments: Annotated[list[str] | None, typer.Argument(metavar="ARGS...", help="As `fairchem` takes them.")] = None,
) -> None:
    """Run fairchem with the plugin: train, validate, predict, run-relaxations (ev2 fairchem --help)."""
    from ev2_plugin.integration.launcher import read_request, start
    from ev2_plugin.integration.slurm import SubmissionError

    with stoppable():
        with one_sentence_errors():
            request = read_request(arguments or [])
        try:
            start(request)  # what goes wrong from here on comes with its traceback
        except SubmissionError as error:
            typer.echo(f"error: {error}", err=True)
            raise typer.Exit(1) from error
