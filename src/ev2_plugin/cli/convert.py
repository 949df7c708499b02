"""`ev2 convert`: checkpoints as safetensors, as plain checkpoints, in another layout."""

from pathlib import Path
from typing import Annotated

import typer

from ev2_plugin.cli.terminal import TrustOption, one_sentence_errors


def convert(
    checkpoint: Annotated[Path, typer.Argument(help="Any EquiformerV2 checkpoint, .pt or .safetensors.")],
    out: Annotated[Path, typer.Argument(help="*.safetensors (and *.json beside it), or *.pt.")],
    layout: Annotated[str | None, typer.Option(help="flat or hydra; without it, as it is.")] = None,
    raw: Annotated[bool, typer.Option("--raw", help="The last step's weights instead of the averaged ones.")] = False,
    trust: TrustOption = False,
) -> None:
    """Write a checkpoint's weights anew, with all it takes to predict with them, and without the state of training."""
    with one_sentence_errors():
        from ev2_plugin.integration.convert import convert as write

        made = write(checkpoint, out, layout=layout, raw=raw, trust=trust)
    kind = "averaged" if made.averaged else "the file's"
    typer.echo(f"wrote {' and '.join(map(str, made.files))}: {made.layout}, {made.numbers:,} weights, {kind}")
    typer.echo(f"energies: {made.energy}")
    typer.echo(f"digest of the weights: {made.digest}")
