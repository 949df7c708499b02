"""`ev2 submission build` and `ev2 submission check`: files for EvalAI's OC20 and OC22 leaderboards."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from ev2_plugin.cli import exit_codes
from ev2_plugin.cli.json_output import JsonOption, print_json
from ev2_plugin.cli.terminal import one_sentence_errors
from ev2_plugin.progress import show_progress

if TYPE_CHECKING:
    from ev2_plugin.submission.verdict import Verdict

submission = typer.Typer(
    name="submission", help="Build files for EvalAI's leaderboards, and check them.", no_args_is_help=True
)


class DatasetName(StrEnum):
    """Data sets with a leaderboard."""

    OC20 = "oc20"
    OC22 = "oc22"


class TaskName(StrEnum):
    """What is predicted: energies and forces, relaxed energies, relaxed structures."""

    S2EF = "s2ef"
    IS2RE = "is2re"
    IS2RS = "is2rs"


DatasetOption = Annotated[DatasetName, typer.Option(help="oc20 has four splits, oc22 two.")]
TaskOption = Annotated[TaskName, typer.Option(help="What is predicted.")]
HalfOption = Annotated[bool, typer.Option("--allow-float16", help="Half precision is no fault.")]


@submission.command()
def build(
    task: TaskOption,
    out: Annotated[Path, typer.Option(help="File to write, *.npz.")],
    dataset: DatasetOption = DatasetName.OC20,
    id_: Annotated[
        list[Path] | None,
        typer.Option("--id", help=".npz file, relaxation folder or .traj folder; repeatable."),
    ] = None,
    ood_ads: Annotated[list[Path] | None, typer.Option(help="The same for the other splits of OC20.")] = None,
    ood_cat: Annotated[list[Path] | None, typer.Option(help="Likewise.")] = None,
    ood_both: Annotated[list[Path] | None, typer.Option(help="Likewise.")] = None,
    ood: Annotated[list[Path] | None, typer.Option(help="The same for the other split of OC22.")] = None,
    hybrid: Annotated[
        bool, typer.Option("--hybrid", help="Relaxed energies from S2EF predictions at relaxed structures.")
    ] = False,
    allow_float16: HalfOption = False,
    as_json: JsonOption = False,
) -> None:
    """Put the predictions of all splits into one file; refuses what EvalAI would refuse, with exit status 1.

    Example: ev2 submission build --task s2ef --out submission.npz --id id.npz --ood-ads ads.npz --ood-cat cat.npz
    --ood-both both.npz
    """
    from ev2_plugin.submission.build import RefusedError, build_submission

    sources = _by_split(id=id_, ood_ads=ood_ads, ood_cat=ood_cat, ood_both=ood_both, ood=ood)
    with one_sentence_errors(), Console(stderr=True).status("reading") as status:
        try:
            verdict = build_submission(
                out,
                dataset.value,
                task.value,
                sources,
                hybrid=hybrid,
                allow_float16=allow_float16,
                follow=lambda split: status.update(f"split {split}"),
            )
        except RefusedError as refused:
            status.stop()
            _show(refused.verdict, as_json)
            raise
    _show(verdict, as_json)
    typer.echo(f"wrote {out}; compare it with the test sets: ev2 submission check", err=True)


@submission.command()
def check(
    file: Annotated[Path, typer.Argument(help="Submission, *.npz.")],
    task: TaskOption,
    dataset: DatasetOption = DatasetName.OC20,
    id_: Annotated[
        list[Path] | None, typer.Option("--id", help="LMDB of the split's test set, or their folder; repeatable.")
    ] = None,
    ood_ads: Annotated[list[Path] | None, typer.Option(help="The same for the other splits of OC20.")] = None,
    ood_cat: Annotated[list[Path] | None, typer.Option(help="Likewise.")] = None,
    ood_both: Annotated[list[Path] | None, typer.Option(help="Likewise.")] = None,
    ood: Annotated[list[Path] | None, typer.Option(help="The same for the other split of OC22.")] = None,
    allow_float16: HalfOption = False,
    ids_to: Annotated[
        Path | None, typer.Option(help="File for every id that a fault concerns: split, fault, id in a line.")
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes that read test sets.")] = 1,
    as_json: JsonOption = False,
) -> None:
    """Check a file before it is sent, with exit status 3 if it has a fault; nothing in any file is executed.

    Example: ev2 submission check submission.npz --task s2ef --id test_id/ --ood-ads test_ood_ads/
    """
    from ev2_plugin.submission.check import check_submission
    from ev2_plugin.submission.verdict import list_ids

    test_sets = _by_split(id=id_, ood_ads=ood_ads, ood_cat=ood_cat, ood_both=ood_both, ood=ood)
    with one_sentence_errors():
        with show_progress() as follow:
            verdict = check_submission(
                file, dataset.value, task.value, test_sets, allow_float16=allow_float16, workers=workers, follow=follow
            )
        _show(verdict, as_json)
        if ids_to is not None:
            typer.echo(f"{list_ids(verdict, ids_to)} lines in {ids_to}", err=True)
        unchecked = [split.split for split in verdict.splits if split.expected is None]
        if unchecked:
            names = ", ".join(unchecked)
            typer.echo(f"not compared with a test set: {names}; whether ids are missing is not known", err=True)
    if not verdict.passes:
        typer.echo(f"{file} must not be sent", err=True)
        raise typer.Exit(exit_codes.NO)


def _by_split(**given: list[Path] | None) -> dict[str, list[Path]]:
    return {split: paths for split, paths in given.items() if paths}


def _show(verdict: Verdict, as_json: bool) -> None:
    from ev2_plugin.submission.table import verdict_table

    if as_json:
        print_json(verdict.as_dict())
    else:
        Console().print(verdict_table(verdict))
