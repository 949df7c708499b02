"""`ev2 demo`: the whole way from labels to relaxations on a dataset it builds itself."""

import os
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from ev2_plugin.cli.json_output import JsonOption, print_json


def demo(
    runs_dir: Annotated[Path, typer.Option(help="Folder in which the run gets a folder of its own.")] = Path("runs"),
    seed: Annotated[int, typer.Option(help="Seed of the dataset and of training.")] = 0,
    quick: Annotated[
        bool, typer.Option("--quick", help="A tiny dataset, hardly trained: does everything work?")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Learn adsorbates on metal slabs (ASE's EMT), predict and relax held-out ones; a few minutes on 2 cores.

    Example: ev2 demo --quick
    """
    # Threads that spin for long while they wait starve each other on busy cores (5x slower, measured); threads that
    # never spin cost a third on idle ones. Set here because torch reads it when it is imported.
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    from ev2_plugin.demo.pipeline import run_demo

    result = run_demo(runs_dir, seed=seed, quick=quick, console=Console(stderr=True) if as_json else None)
    if as_json:
        print_json(result.as_dict())
