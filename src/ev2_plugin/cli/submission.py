"""`ev2 submission build` and `ev2 submission check`: files for EvalAI's OC20 and OC22 leaderboards."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from ev2_plugin.cli.terminal import one_sentence_errors
from ev2_plugin.progress import show_progress

if TYPE_CHECKING:
    from ev2_plugin.submission.verdict import Verdict

submission = typer.Typer(
    name="submission", help="Build files for EvalAI's leaderboards, and check them.", no_args_is_help=True
)

DatasetOption = Annotated[str, typer.Option(help="oc20 (four splits) or oc22 (two).")]
TaskOption = Annotated[str, typer.Option(help="s2ef, is2re or is2rs.")]
HalfOption = Annotated[bool, typer.Option("--allow-float16", help="Half precision is no fault.")]
JsonOption = Annotated[bool, typer.Option("--json", help="The verdict as JSON on stdout.")]


@submission.command()
def build(
    task: TaskOption,
    out: Annotated[Path, typer.Option(help="File to write, *.npz.")],
    dataset: DatasetOption = "oc20",
    id_: Annotated[
        list[Path] | None,
        typer.Option("--id", help=".npz file, relaxation folder or .traj folder; repeatable."),
    ] = None,
    ood_ads: Annotated[list[Path] | None, typer.Option(help="The same for the other splits of OC20.")] = None,
    ood_cat: Annotated[list[Path] | None, typer.Option()] = None,
    ood_both: Annotated[list[Path] | None, typer.Option()] = None,
    ood: Annotated[list[Path] | None, typer.Option(help="The same for the other split of OC22.")] = None,
    hybrid: Annotated[
        bool, typer.Option("--hybrid", help="Relaxed energies from S2EF predictions at relaxed structures.")
    ] = False,
    allow_float16: HalfOption = False,
    as_json: JsonOption = False,
) -> None:
    """Put the predictions of all splits into one file; refuses what EvalAI would refuse, with exit status 1."""
    from ev2_plugin.submission.build import RefusedError, build_submission

    sources = _by_split(id=id_, ood_ads=ood_ads, ood_cat=ood_cat, ood_both=ood_both, ood=ood)
    with one_sentence_errors(), Console(stderr=True).status("reading") as status:
        try:
            verdict = build_submission(
                out,
                dataset,
                task,
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
    dataset: DatasetOption = "oc20",
    id_: Annotated[
        list[Path] | None, typer.Option("--id", help="LMDB of the split's test set, or their folder; repeatable.")
    ] = None,
    ood_ads: Annotated[list[Path] | None, typer.Option(help="The same for the other splits of OC20.")] = None,
    ood_cat: Annotated[list[Path] | None, typer.Option()] = None,
    ood_both: Annotated[list[Path] | None, typer.Option()] = None,
    ood: Annotated[list[Path] | None, typer.Option(help="The same for the other split of OC22.")] = None,
    allow_float16: HalfOption = False,
    ids_to: Annotated[
        Path | None, typer.Option(help="File for every id that a fault concerns: split, fault, id in a line.")
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes that read test sets.")] = 1,
    as_json: JsonOption = False,
) -> None:
    """Check a file before it is sent, with exit status 1 if it has a fault; nothing in any file is executed."""
    from ev2_plugin.submission.check import check_submission
    from ev2_plugin.submission.verdict import list_ids

    test_sets = _by_split(id=id_, ood_ads=ood_ads, ood_cat=ood_cat, ood_both=ood_both, ood=ood)
    with one_sentence_errors():
        with show_progress() as follow:
            verdict = check_submission(
                file, dataset, task, test_sets, allow_float16=allow_float16, workers=workers, follow=follow
            )
        _show(verdict, as_json)
        if ids_to is not None:
            typer.echo(f"{list_ids(verdict, ids_to)} lines in {ids_to}", err=True)
        unchecked = [split.split for split in verdict.splits if split.expected is None]
        if unchecked:
            names = ", ".join(unchecked)
            typer.echo(f"not compared with a test set: {names}; whether ids are missing is not known", err=True)
        if not verdict.passes:
            raise ValueError(f"{file} must not be sent")


def _by_split(**given: list[Path] | None) -> dict[str, list[Path]]:
    return {split: paths for split, paths in given.items() if paths}


def _show(verdict: Verdict, as_json: bool) -> None:
    from ev2_plugin.submission.table import verdict_table

    if as_json:
        typer.echo(json.dumps(verdict.as_dict(), indent=1))
    else:
        Console().print(verdict_table(verdict))
