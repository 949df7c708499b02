"""`ev2 train`: the way to train, in front of fairchem's own command."""

from __future__ import annotations

from typing import Annotated

import typer

from ev2_plugin.cli.completion import complete_config
from ev2_plugin.cli.fairchem import run_host


def train(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(metavar="CONFIG [FLAGS]...", help="Run file and flags.", autocompletion=complete_config),
    ] = None,
) -> None:
    """Train as a run file says, with the flags of fairchem."""
    from ev2_plugin.integration.flags import train_parser

    run_host(arguments or [], train_parser())
