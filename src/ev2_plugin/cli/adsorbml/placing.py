"""Where a campaign begins: systems, their initial structures, what their energies are compared with."""

from __future__ import annotations

from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from ev2_plugin.cli.adsorbml.app import Calculator, Folder, Keywords, app
from ev2_plugin.cli.json_output import JsonOption, print_json
from ev2_plugin.cli.terminal import one_sentence_errors
from ev2_plugin.progress import show_progress


class PlacementMode(StrEnum):
    """How adsorbates are put on sites."""

    HEURISTIC = "heuristic"
    RANDOM = "random"
    RANDOM_SITE = "random_site_heuristic_placement"


class SurfaceFrom(StrEnum):
    """What says which atoms of a slab's file are its surface."""

    FILE = "file"
    CONSTRAINTS = "constraints"
    HEIGHT = "height"


@app.command()
def place(
    campaign: Folder,
    slab: Annotated[list[str], typer.Option(help="Clean slab: a file that ASE reads, or like Cu:111:3x3x4.")],
    adsorbate: Annotated[
        list[str],
        typer.Option(help="Name of fairchem's database like '*OH', or a file or molecule: CO@1 binds by atom 1."),
    ],
    mode: Annotated[
        list[PlacementMode] | None,
        typer.Option(help="Repeat it; heuristic and random without."),
    ] = None,
    sites: Annotated[int, typer.Option(help="Sites of the random modes; heuristic takes all it finds.")] = 100,
    per_site: Annotated[int, typer.Option(help="Orientations on each site.")] = 1,
    gap: Annotated[float, typer.Option(help="Between the covalent spheres of adsorbate and slab [Å].")] = 0.1,
    min_width: Annotated[float, typer.Option(help="Least width of a slab [Å].")] = 8.0,
    seed: Annotated[int, typer.Option(help="Of sites and orientations.")] = 0,
    surface: Annotated[
        SurfaceFrom, typer.Option(help="What says which atoms of a slab's file are its surface; file: its tags.")
    ] = SurfaceFrom.FILE,
    relax_with: Annotated[
        str | None, typer.Option(help="ASE calculator that relaxes slabs and adsorbates first.", show_default=False)
    ] = None,
    keywords: Keywords = None,
    as_json: JsonOption = False,
) -> None:
    """Put every adsorbate on every slab.

    Example: ev2 adsorbml place campaign --slab Cu:111:3x3x4 --adsorbate *O --sites 10
    """
    with one_sentence_errors(RuntimeError), show_progress("systems") as follow:
        from ev2_plugin.adsorbml.campaign import Campaign
        from ev2_plugin.adsorbml.slabs import load_slab
        from ev2_plugin.integration.adsorbml_placing import place_all
        from ev2_plugin.integration.placements import PlacementSettings, load_adsorbate
        from ev2_plugin.potential.calculators import parse_keywords

        modes = tuple(one.value for one in mode or (PlacementMode.HEURISTIC, PlacementMode.RANDOM))
        systems, structures = place_all(
            Campaign(campaign),
            [load_slab(one, surface.value) for one in slab],
            [load_adsorbate(one) for one in adsorbate],
            PlacementSettings(modes, sites, per_site, gap, min_width, seed),
            None if relax_with is None else (relax_with, parse_keywords(keywords)),
            partial(follow, "place"),
        )
    if as_json:
        print_json({"systems": systems, "structures": structures})
    else:
        typer.echo(f"{structures} structures of {systems} systems placed; what was there before stays")


@app.command(name="import")
def import_(
    campaign: Folder,
    source: Annotated[Path, typer.Argument(help="Folder with a sub-folder per system: surface.* and configurations.")],
    as_json: JsonOption = False,
) -> None:
    """Take initial structures that exist already, such as OC20-Dense's.

    Example: ev2 adsorbml import campaign oc20_dense/
    """
    with one_sentence_errors(RuntimeError), show_progress("systems") as follow:
        from ev2_plugin.adsorbml.campaign import Campaign
        from ev2_plugin.adsorbml.importing import import_folder

        systems, structures = import_folder(Campaign(campaign), source, partial(follow, "import"))
    if as_json:
        print_json({"systems": systems, "structures": structures})
    else:
        typer.echo(f"{structures} structures of {systems} systems imported; what was there before stays")


@app.command()
def references(
    campaign: Folder,
    calculator: Calculator = None,
    keywords: Keywords = None,
    oc20: Annotated[bool, typer.Option("--oc20", help="OC20's energies of the adsorbates' atoms.")] = False,
    table: Annotated[
        Path | None, typer.Option(help="CSV: system, slab_energy, adsorbate_energy (eV).", show_default=False)
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Note the energies of clean slabs and adsorbates, which total energies are compared with.

    Example: ev2 adsorbml references campaign --calculator emt
    """
    with one_sentence_errors(RuntimeError):
        from ev2_plugin.adsorbml import systems
        from ev2_plugin.adsorbml.campaign import Campaign
        from ev2_plugin.potential.calculators import parse_keywords

        if (calculator is not None) + oc20 + (table is not None) != 1:
            raise ValueError("choose one of --calculator, --oc20 and --table")
        if calculator is not None:
            energies = systems.calculated_references(calculator, parse_keywords(keywords))
        else:
            energies = systems.oc20_references if table is None else systems.tabulated_references(table)
        count = systems.set_references(Campaign(campaign), energies)
    if as_json:
        print_json({"systems": count, "folder": campaign / "systems"})
    else:
        typer.echo(f"reference energies of {count} systems noted in {campaign / 'systems'}")
