"""`ev2 convert`: checkpoints as safetensors, as plain checkpoints, in another layout."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from ev2_plugin.cli.json_output import JsonOption, print_json
from ev2_plugin.cli.options import chosen
from ev2_plugin.cli.terminal import TrustOption, one_sentence_errors


class LayoutName(StrEnum):
    """Backbone and heads in one module, or apart."""

    FLAT = "flat"
    HYDRA = "hydra"


def convert(
    checkpoint: Annotated[Path, typer.Argument(help="Any EquiformerV2 checkpoint, .pt or .safetensors.")],
    out: Annotated[Path, typer.Argument(help="*.safetensors (and *.json beside it), or *.pt.")],
    layout: Annotated[LayoutName | None, typer.Option(help="Without it, as it is.")] = None,
    raw: Annotated[bool, typer.Option("--raw", help="The last step's weights instead of the averaged ones.")] = False,
    trust: TrustOption = False,
    as_json: JsonOption = False,
) -> None:
    """Write a checkpoint's weights anew, with all it takes to predict with them, and without the state of training.

    Example: ev2 convert best_checkpoint.pt best_checkpoint.safetensors --layout hydra
    """
    with one_sentence_errors():
        from ev2_plugin.integration.convert import convert as write

        made = write(checkpoint, out, layout=chosen(layout), raw=raw, trust=trust)
    if as_json:
        print_json(made)
        return
    kind = "averaged" if made.averaged else "the file's"
    typer.echo(f"wrote {' and '.join(map(str, made.files))}: {made.layout}, {made.numbers:,} weights, {kind}")
    typer.echo(f"energies: {made.energy}")
    typer.echo(f"digest of the weights: {made.digest}")
