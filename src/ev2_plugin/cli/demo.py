"""`ev2 demo`: the whole way from labels to relaxations on a dataset it builds itself."""

import os
from pathlib import Path
from typing import Annotated

import typer


def demo(
    runs_dir: Annotated[Path, typer.Option(help="Folder in which the run gets a folder of its own.")] = Path("runs"),
    seed: Annotated[int, typer.Option(help="Seed of the dataset and of training.")] = 0,
    quick: Annotated[bool, typer.Option(help="A tiny dataset, hardly trained: does everything work?")] = False,
) -> None:
    """Learn adsorbates on metal slabs (ASE's EMT), predict and relax held-out ones; a few minutes on 2 cores."""
    # Threads that spin for long while they wait starve each other on busy cores (5x slower, measured); threads that
    # never spin cost a third on idle ones. Set here because torch reads it when it is imported.
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    from ev2_plugin.demo.pipeline import run_demo

    run_demo(runs_dir, seed=seed, quick=quick)
