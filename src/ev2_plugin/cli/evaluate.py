"""`ev2 evaluate predictions` and `ev2 evaluate relaxations`: how good result files are."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from ev2_plugin.cli.json_output import JsonOption, print_json
from ev2_plugin.cli.terminal import one_sentence_errors
from ev2_plugin.progress import show_progress

if TYPE_CHECKING:
    import numpy as np
    from torch_geometric.data import Data

    from ev2_plugin.evaluation.breakdowns import Evaluation
    from ev2_plugin.evaluation.force_oracle import ForceOracle

evaluate = typer.Typer(name="evaluate", help="Metrics, breakdowns and figures of result files.", no_args_is_help=True)

Against = Annotated[Path, typer.Option(help="LMDB or ASE database with the labels, or a folder of them.")]
Out = Annotated[Path | None, typer.Option(help="Folder for metrics.json, per_structure.npz and figures.")]
Adsorbates = Annotated[
    Path | None, typer.Option(help="JSON of adsorbate names by sid; by composition of tag 2 without it.")
]


class ForceSource(StrEnum):
    """Calculators that are built in."""

    EMT = "emt"


@evaluate.command()
def predictions(
    file: Annotated[Path, typer.Argument(help="*_predictions.npz of `--mode predict`.")],
    against: Against,
    out: Out = None,
    adsorbates: Adsorbates = None,
    as_json: JsonOption = False,
) -> None:
    """Compare predicted energies and forces with their labels.

    Example: ev2 evaluate predictions results/s2ef_predictions.npz --against data/mine/val --out evaluation
    """
    from ev2_plugin.data.predictions import has_forces, read_energies, read_s2ef_predictions
    from ev2_plugin.data.stored import dataset_files, followed_samples
    from ev2_plugin.evaluation.breakdowns import evaluate_predictions
    from ev2_plugin.evaluation.output import as_json as content_of
    from ev2_plugin.evaluation.output import write_predictions
    from ev2_plugin.evaluation.predictions import score_predictions

    with one_sentence_errors(), show_progress() as follow:
        predicted = read_s2ef_predictions(file) if has_forces(file) else read_energies(file)
        structures, names = followed_samples(dataset_files(against), follow), _names(adsorbates)
        scored = score_predictions(structures, predicted, str(against), adsorbates=names)
        evaluation = evaluate_predictions(scored)
        content = content_of(evaluation, _inputs([file], against, adsorbates))
        if out is not None:
            write_predictions(out, scored, evaluation, content)
    _show(evaluation, content, out, as_json)


@evaluate.command()
def relaxations(
    sources: Annotated[
        list[Path],
        typer.Argument(
            help="Folders of `ev2 relax`, results folders of `--mode run-relaxations`, or .npz of positions."
        ),
    ],
    against: Against,
    energies: Annotated[Path | None, typer.Option(help=".npz of relaxed energies, where SOURCES hold none.")] = None,
    forces: Annotated[ForceSource | None, typer.Option(help="Judge forces on relaxed structures by this.")] = None,
    calculator: Annotated[str | None, typer.Option(help="Or by an ASE calculator, as package.module.Class.")] = None,
    calculator_args: Annotated[str, typer.Option(help="JSON object of its keyword arguments.")] = "{}",
    workers: Annotated[int, typer.Option(min=1, help="Processes that run the calculator.")] = 1,
    out: Out = None,
    adsorbates: Adsorbates = None,
    as_json: JsonOption = False,
) -> None:
    """Compare relaxed structures and energies with those of the reference.

    Example: ev2 evaluate relaxations relaxed.extxyz.work --against data/mine/test --forces emt
    """
    from ev2_plugin.data.stored import dataset_files, followed_samples
    from ev2_plugin.evaluation.breakdowns import evaluate_relaxations
    from ev2_plugin.evaluation.force_oracle import largest_forces, relaxed_structure
    from ev2_plugin.evaluation.output import as_json as content_of
    from ev2_plugin.evaluation.output import write_relaxations
    from ev2_plugin.evaluation.relaxations import score_relaxations

    with one_sentence_errors(), show_progress() as follow:
        oracle = _oracle(forces, calculator, calculator_args)
        positions, relaxed_energies = _read_relaxations(sources, energies)
        ended: list[Any] = []

        def keep(data: Data, relaxed: np.ndarray) -> None:
            if oracle is not None:
                ended.append(relaxed_structure(data, relaxed))

        structures, names = followed_samples(dataset_files(against), follow), _names(adsorbates)
        scored = score_relaxations(
            structures, positions, relaxed_energies, str(against), adsorbates=names, on_relaxed=keep
        )
        if oracle is not None:
            found = largest_forces(ended, oracle, workers, lambda done, total: follow("forces", done, total))
            scored = scored.with_forces(found)
        evaluation = evaluate_relaxations(scored)
        inputs = _inputs(sources, against, adsorbates) | {
            "energies": None if energies is None else str(energies),
            "force_oracle": None if oracle is None else {"path": oracle.path, "arguments": dict(oracle.arguments)},
        }
        content = content_of(evaluation, inputs)
        if out is not None:
            write_relaxations(out, scored, evaluation, content)
    _show(evaluation, content, out, as_json)


def _oracle(forces: ForceSource | None, calculator: str | None, arguments: str) -> ForceOracle | None:
    from ev2_plugin.evaluation.force_oracle import ForceOracle

    if forces is not None and calculator is not None:
        raise ValueError("--forces and --calculator both name the source of forces: give one")
    try:
        keywords = json.loads(arguments)
    except json.JSONDecodeError as error:
        raise ValueError(f"--calculator-args {arguments}: no JSON: {error}") from error
    if not isinstance(keywords, dict):
        raise ValueError(f'--calculator-args {arguments}: needs an object like {{"kpts": [4, 4, 1]}}')
    if calculator is None and keywords:
        raise ValueError("--calculator-args goes with --calculator, which is missing")
    if calculator is not None:
        return ForceOracle(calculator, keywords)
    return None if forces is None else ForceOracle("ase.calculators.emt.EMT")


def _read_relaxations(
    sources: list[Path], energies: Path | None
) -> tuple[dict[str, np.ndarray], dict[str, float] | None]:
    """Positions [Å] and, if there are any, energies [eV] of all sources."""
    from ev2_plugin.data.predictions import read_energies

    positions: dict[str, np.ndarray] = {}
    found: dict[str, float] = {}
    for source in sources:
        more_positions, more_energies = _read_source(source)
        twice = positions.keys() & more_positions.keys()
        if twice:
            raise ValueError(f"{source} holds systems of the sources before it: {', '.join(sorted(twice)[:10])}")
        positions |= more_positions
        found |= more_energies
    if energies is not None:
        if found:
            raise ValueError(f"--energies {energies}: {', '.join(map(str, sources))} hold relaxed energies already")
        found = read_energies(energies)
    return positions, found or None


def _read_source(source: Path) -> tuple[dict[str, np.ndarray], dict[str, float]]:
    from ev2_plugin.data.predictions import read_energies, read_relaxed_positions
    from ev2_plugin.relax.folder import read_relaxed

    if (source / "relaxed.jsonl").exists():
        relaxed = list(read_relaxed(source))
        return {one.id: one.positions for one in relaxed}, {one.id: one.energy for one in relaxed}
    if source.is_dir():
        beside = source / "relaxed_energies.npz"
        if not (source / "relaxed_positions.npz").exists():
            raise ValueError(f"{source} holds neither relaxed.jsonl nor relaxed_positions.npz")
        return read_relaxed_positions(source / "relaxed_positions.npz"), (
            read_energies(beside) if beside.exists() else {}
        )
    return read_relaxed_positions(source), {}


def _names(adsorbates: Path | None) -> dict[str, str] | None:
    from ev2_plugin.evaluation.catalogue import read_adsorbate_names

    return None if adsorbates is None else read_adsorbate_names(adsorbates)


def _inputs(sources: list[Path], against: Path, adsorbates: Path | None) -> dict[str, Any]:
    return {
        "files": [str(source) for source in sources],
        "against": str(against),
        "adsorbates": "composition of the atoms of tag 2" if adsorbates is None else str(adsorbates),
    }


def _show(evaluation: Evaluation, content: dict[str, Any], out: Path | None, as_json: bool) -> None:
    from ev2_plugin.evaluation.tables import breakdown_table, metrics_table

    if as_json:
        print_json(content)
        return
    console = Console()
    console.print(metrics_table(evaluation))
    for grouping, groups in evaluation.breakdowns.items():
        if len(groups) > 1:
            console.print(breakdown_table(evaluation, grouping))
    if out is not None:
        console.print(f"written to {out}", soft_wrap=True, highlight=False, markup=False)
