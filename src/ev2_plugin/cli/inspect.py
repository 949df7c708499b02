"""`ev2 inspect`: what a checkpoint is, without executing anything in it."""

import json
from pathlib import Path
from typing import Annotated

import typer

from ev2_plugin.cli.terminal import one_sentence_errors


def inspect(
    checkpoint: Annotated[Path, typer.Argument(help="Any checkpoint, .pt or .safetensors.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Architecture, heads, energies, normalisers, references, training and digest of a checkpoint.

    Nothing in the file is executed, whatever it holds.
    """
    with one_sentence_errors():
        from ev2_plugin.integration.inspection import inspect_checkpoint

        facts = inspect_checkpoint(checkpoint)
    if as_json:
        typer.echo(json.dumps(facts, indent=2, ensure_ascii=False))
        return
    from rich.console import Console

    from ev2_plugin.integration.inspection_table import facts_table

    Console().print(facts_table(facts))
