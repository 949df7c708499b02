"""`ev2 data prepare` and `ev2 data inspect`: from what users have to what the host reads, and a look into it."""

from __future__ import annotations

from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from ev2_plugin.cli import exit_codes
from ev2_plugin.cli.completion import complete_config
from ev2_plugin.cli.json_output import JsonOption, print_json
from ev2_plugin.cli.terminal import TrustOption, one_sentence_errors, stoppable
from ev2_plugin.progress import show_progress

if TYPE_CHECKING:
    from ev2_plugin.data.dataset_report import Expectation, Inspection
    from ev2_plugin.data.recipe import Recipe

data = typer.Typer(name="data", help="Prepare datasets for training, and look into them.", no_args_is_help=True)


class TaskName(StrEnum):
    """What is learnt."""

    S2EF = "s2ef"
    IS2RE = "is2re"
    QM9 = "qm9"


class LayoutName(StrEnum):
    """How the dataset is stored."""

    OC20 = "oc20"
    OC22 = "oc22"
    ASELMDB = "aselmdb"


class ReferencesFrom(StrEnum):
    """Whether energies are learnt relative to element references."""

    FIT = "fit"
    NONE = "none"


class TagsFrom(StrEnum):
    """What says where an atom belongs: below the surface, to it, to the adsorbate."""

    FILE = "file"
    CONSTRAINTS = "constraints"


@data.command()
def prepare(
    sources: Annotated[list[Path], typer.Argument(help="Files or folders: what ASE reads, raw OC20 or QM9.")],
    out: Annotated[Path, typer.Option(help="Folder to make; it appears when it is complete.")],
    task: Annotated[
        TaskName, typer.Option(help="s2ef: every frame; is2re: first and last of each system.")
    ] = TaskName.S2EF,
    layout: Annotated[
        LayoutName, typer.Option(help="oc20 and oc22 are LMDBs, aselmdb an ASE database.")
    ] = LayoutName.OC20,
    recipe: Annotated[
        str | None,
        typer.Option(help="Run to prepare for, like oc20/s2ef_2M_83M.yml.", autocompletion=complete_config),
    ] = None,
    split: Annotated[str | None, typer.Option(help="Shares of training, validation, test: 0.8,0.1,0.1.")] = None,
    val: Annotated[
        list[Path] | None, typer.Option(help="Validation source; all SOURCES are then for training.")
    ] = None,
    test: Annotated[list[Path] | None, typer.Option(help="Test source; all SOURCES are then for training.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of the split.")] = 0,
    references: Annotated[
        ReferencesFrom | None, typer.Option(help="Element references; default fit, none for raw OC20 and QM9.")
    ] = None,
    tags: Annotated[
        TagsFrom, typer.Option(help="constraints: from fixed atoms whatever the file says.")
    ] = TagsFrom.FILE,
    workers: Annotated[int, typer.Option(min=1, help="Processes.")] = 1,
    download: Annotated[
        bool, typer.Option("--download", help="Let torch_geometric fetch QM9 into SOURCE first.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Turn files of structures and labels into a dataset with a run file; a call that was killed goes on.

    Example: ev2 data prepare structures.extxyz --out data/new --split 0.8,0.1,0.1
    """
    from ev2_plugin.data.prepare import Preparation
    from ev2_plugin.data.prepare import prepare as prepare_dataset
    from ev2_plugin.data.qm9 import download_qm9
    from ev2_plugin.data.recipe import DEFAULTS
    from ev2_plugin.data.splitting import parse_fractions

    kept = (
        f"stopped; what is done is kept in {out.parent / f'.{out.name}.partial'}: the same command goes on from there"
    )
    with stoppable(kept), one_sentence_errors(RuntimeError):
        if (task.value, layout.value) not in DEFAULTS:
            known = "; ".join(f"--task {task} --layout {layout}" for task, layout in DEFAULTS)
            raise ValueError(f"--task {task} --layout {layout} is no dataset that the host reads; there are: {known}")
        wanted = Preparation(
            out=out,
            sources=tuple(sources),
            recipe=_load_recipe(recipe or DEFAULTS[task.value, layout.value]),
            val=tuple(val or ()),
            test=tuple(test or ()),
            shares=None if split is None else parse_fractions(split),
            seed=seed,
            task=task.value,
            layout=layout.value,
            fit_references=None if references is None else references is ReferencesFrom.FIT,
            tags_from_constraints=tags is TagsFrom.CONSTRAINTS,
            workers=workers,
        )
        if download:
            download_qm9(sources[0])
        with show_progress(in_bytes=("read",)) as follow:
            outcome = prepare_dataset(wanted, follow)
    if as_json:
        print_json({"folder": outcome.folder, "command": outcome.command, **outcome.report})
        return
    from ev2_plugin.data.tables import outcome_lines, outcome_table

    console = Console()
    console.print(outcome_table(outcome))
    for line in [*outcome_lines(outcome), f"start with: {outcome.command}"]:
        console.print(line, soft_wrap=True, highlight=False, markup=False)


@data.command()
def inspect(
    path: Annotated[Path, typer.Argument(help="LMDB or ASE database, or a folder of one split's files.")],
    recipe: Annotated[
        str | None,
        typer.Option(help="Run file to compare with: cutoff, normaliser, references.", autocompletion=complete_config),
    ] = None,
    normalizer: Annotated[
        str | None, typer.Option(help="Mean and standard deviation (eV) to compare with: -0.7,2.9.")
    ] = None,
    trust: TrustOption = False,
    as_json: JsonOption = False,
) -> None:
    """Look at every structure of a dataset; exit status 3 if something in it would break training.

    Example: ev2 data inspect data/mine/train --recipe data/mine/run.yml
    """
    from ev2_plugin.data.inspection import inspect_dataset

    with one_sentence_errors(RuntimeError):
        expected = _expectation(recipe, normalizer)
        with show_progress(in_bytes=("read",)) as follow:
            found = inspect_dataset(path, expected, follow, trust=trust)
    if as_json:
        print_json(found.as_dict())
    else:
        _show(found)
    if not found.is_fit:
        raise typer.Exit(exit_codes.NO)


def _show(found: Inspection) -> None:
    from ev2_plugin.data.tables import inspection_table

    console = Console()
    console.print(inspection_table(found))
    for finding in sorted(found.findings, key=lambda finding: not finding.fatal):
        console.print(
            f"{'error' if finding.fatal else 'warning'}: {finding.text}", soft_wrap=True, highlight=False, markup=False
        )
    if found.is_fit:
        console.print("nothing here would break training")


def _expectation(recipe: str | None, normalizer: str | None) -> Expectation:
    from ev2_plugin.data.dataset_report import Expectation

    mean_and_std = None if normalizer is None else _two_numbers(normalizer)
    if recipe is None:
        return Expectation(normalizer=mean_and_std)
    loaded = _load_recipe(recipe)
    return loaded.expectation() if mean_and_std is None else replace(loaded.expectation(), normalizer=mean_and_std)


def _two_numbers(text: str) -> tuple[float, float]:
    try:
        mean, std = (float(part) for part in text.split(","))
    except ValueError:
        raise ValueError(f"--normalizer {text}: needs mean and standard deviation, like -0.7554,2.8873") from None
    return mean, std


def _load_recipe(name: str) -> Recipe:
    from ev2_plugin.data.recipe import Recipe
    from ev2_plugin.integration.run_config import find_config, load_config

    found = find_config(Path(name))
    config, _ = load_config(found)
    return Recipe(str(found.resolve()) if found == Path(name) else name, config)  # run files lie elsewhere
