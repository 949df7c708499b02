"""The group `ev2 adsorbml`, and what its stages share."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

app = typer.Typer(
    name="adsorbml",
    help="Adsorption energies: place, relax, filter, select, single points, score. Each stage goes on where it ended.",
    no_args_is_help=True,
)


class EnergyName(StrEnum):
    """Which energy a number is."""

    TOTAL = "total"
    ADSORPTION = "adsorption"


Folder = Annotated[Path, typer.Argument(help="Folder of the campaign.", metavar="CAMPAIGN")]
Calculator = Annotated[
    str | None, typer.Option(help="ASE calculator: emt, or package.module.Class.", show_default=False)
]
Keywords = Annotated[str | None, typer.Option(help="Keywords of the calculator as JSON.", show_default=False)]
Workers = Annotated[int, typer.Option(min=1, help="Processes.")]


def named_calculator(calculator: str | None, keywords: str | None) -> dict[str, Any]:
    """A calculator as settings of a stage have it.

    Raises:
        ValueError: If the keywords are no JSON object.
    """
    from ev2_plugin.potential.calculators import parse_keywords

    return {"calculator": calculator, "keywords": None if keywords is None else parse_keywords(keywords)}
