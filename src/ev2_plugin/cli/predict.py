"""`ev2 predict`: energies and forces of structures of any files that ASE reads."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ev2_plugin.cli.json_output import JsonOption, print_json
from ev2_plugin.cli.terminal import TrustOption, one_sentence_errors
from ev2_plugin.progress import show_progress

if TYPE_CHECKING:
    from rich.table import Table

    from ev2_plugin.integration.predict_files import PredictedFiles

_SHOWN = 40


def predict(
    files: Annotated[list[str], typer.Argument(help="What ASE reads; frames by index: start.traj@0, many.extxyz@:10.")],
    checkpoint: Annotated[Path, typer.Option(help="Trained model.")],
    out: Annotated[
        Path, typer.Option(help="*.extxyz, *.traj, or *.jsonl with one JSON object a line; in the files' order.")
    ] = Path("predicted.extxyz"),
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, ...")] = "auto",
    batch_edges: Annotated[
        int | None, typer.Option(min=1, help="Most edges of a batch; without it, what fits into the GPU.")
    ] = None,
    trust: TrustOption = False,
    as_json: JsonOption = False,
) -> None:
    """Predict energies, forces and, if the model knows it, stress; and their errors where the files hold labels.

    Example: ev2 predict structures.extxyz --checkpoint best_checkpoint.pt --out predicted.extxyz
    """
    with one_sentence_errors():
        from ev2_plugin.integration.loaded_model import load
        from ev2_plugin.integration.predict_files import predict_files

        model = load(checkpoint, device, trust)
        with show_progress() as follow:
            found = predict_files(
                files,
                model,
                out,
                batch_edges=batch_edges,
                on_progress=lambda done, total: follow("predict", done, total),
            )
    if as_json:
        print_json(_content(found, out))
        return
    from rich.console import Console

    console = Console()
    console.print(_table(found))
    for line in (f"energies: {found.energy_kind}", *_errors(found), f"written to {out}"):
        console.print(line, soft_wrap=True, highlight=False, markup=False)


def _content(found: PredictedFiles, out: Path) -> dict[str, object]:
    rows = [
        {
            "id": one.id,
            "file": one.file,
            "frame": one.frame,
            "energy": said.energy,
            "largest_force": float((said.forces**2).sum(axis=1).max() ** 0.5),
            **({} if said.stress is None else {"stress": said.stress.tolist()}),
        }
        for one, said in zip(found.structures, found.predicted, strict=True)
    ]
    kind = {"name": found.energy_kind.name, "known_from": found.energy_kind.reason}
    return {"out": out, "structures": len(rows), "energy_kind": kind, "errors": vars(found.errors), "predicted": rows}


def _table(found: PredictedFiles) -> Table:
    """The first structures; all are in the file."""
    from rich.markup import escape
    from rich.table import Table

    total = len(found.structures)
    table = Table(title=f"{total} structures predicted" + (f"; the first {_SHOWN}" if total > _SHOWN else ""))
    table.add_column("id")
    for heading in ("atoms", "energy [eV]", "largest force [eV/Å]"):
        table.add_column(escape(heading), justify="right")
    for one, said in list(zip(found.structures, found.predicted, strict=True))[:_SHOWN]:
        largest = (said.forces**2).sum(axis=1).max() ** 0.5
        table.add_row(escape(one.id), str(len(one.atoms)), f"{said.energy:.4f}", f"{largest:.4f}")
    return table


def _errors(found: PredictedFiles) -> list[str]:
    errors = found.errors
    lines = []
    if errors.energy is not None:
        lines.append(
            f"energy MAE against the labels of {errors.num_energies} structures: {1000 * errors.energy:.1f} meV"
        )
    if errors.note:
        lines.append(errors.note)
    if errors.forces is not None:
        lines.append(
            f"force MAE against the labels of {errors.num_forces} structures, components on free atoms: "
            f"{1000 * errors.forces:.1f} meV/Å"
        )
    return lines
