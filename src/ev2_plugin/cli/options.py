"""Arguments and options that several commands have, with one meaning everywhere."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from ev2_plugin.cli.completion import complete_config, complete_device

ConfigArgument = Annotated[
    Path, typer.Argument(help="Run file, here or among those of the plugin.", autocompletion=complete_config)
]
DeviceOption = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, ...", autocompletion=complete_device)]
OverridesArgument = Annotated[
    list[str] | None, typer.Argument(metavar="[--key.sub=value ...]", help="Overrides; other flags of `ev2 train`.")
]


class OptimizerName(StrEnum):
    """How structures are relaxed."""

    LBFGS = "lbfgs"
    FIRE = "fire"


def chosen(choice: StrEnum | None) -> str | None:
    """A choice as the library takes it: its word, or None where nothing was said."""
    return None if choice is None else choice.value
