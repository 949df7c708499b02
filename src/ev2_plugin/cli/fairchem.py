"""`ev2 fairchem`: fairchem's own command with the plugin registered."""

from typing import Annotated

import typer


def fairchem(
    arguments: Annotated[list[str] | None, typer.Argument(metavar="ARGS...", help="As `fairchem` takes them.")] = None,
) -> None:
    """Run fairchem with the plugin: train, validate, predict, run-relaxations (ev2 fairchem --help)."""
    from ev2_plugin.integration.launcher import main
    from ev2_plugin.integration.slurm import SubmissionError
    from ev2_plugin.training.stopping import Stopped

    try:
        main(arguments or [])
    except Stopped as stopped:
        typer.echo(str(stopped), err=True)
        raise typer.Exit(stopped.exit_code) from None
    except SubmissionError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from error
