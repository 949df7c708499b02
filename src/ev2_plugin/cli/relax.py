"""`ev2 relax`: structures of any files that ASE reads, relaxed by a trained model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ev2_plugin.cli import exit_codes
from ev2_plugin.cli.json_output import JsonOption, print_json
from ev2_plugin.cli.options import DeviceOption, OptimizerName
from ev2_plugin.cli.terminal import TrustOption, one_sentence_errors
from ev2_plugin.progress import print_line

if TYPE_CHECKING:
    from rich.table import Table

    from ev2_plugin.integration.relax_files import Forces, RelaxedFiles
    from ev2_plugin.relax.optimizer import Optimizer

_SHOWN = 40


def relax(
    files: Annotated[list[str], typer.Argument(help="What ASE reads; frames by index: start.traj@0, many.extxyz@:10.")],
    checkpoint: Annotated[Path | None, typer.Option(help="Trained model.")] = None,
    calculator: Annotated[
        str | None, typer.Option(help="Instead of a checkpoint: emt, or an ASE calculator's package.module.Class.")
    ] = None,
    out: Annotated[Path, typer.Option(help="*.extxyz or *.traj; work is kept beside it in OUT.work.")] = Path(
        "relaxed.extxyz"
    ),
    optimizer: Annotated[OptimizerName, typer.Option(help="How atoms move.")] = OptimizerName.LBFGS,
    fmax: Annotated[float, typer.Option(help="Converged when no free atom feels a larger force (eV/Å).")] = 0.02,
    steps: Annotated[int, typer.Option(min=0, help="Most steps of a structure.")] = 300,
    device: DeviceOption = "auto",
    trajectories: Annotated[Path | None, typer.Option(help="Folder for all frames, <id>.traj.")] = None,
    batch_edges: Annotated[
        int | None, typer.Option(min=1, help="Most edges of a batch; without it, what fits into the GPU.")
    ] = None,
    trust: TrustOption = False,
    as_json: JsonOption = False,
) -> None:
    """Relax structures, many at once; the same call goes on where one was stopped.

    Exit status: 0 all converged, 3 some did not within the steps, 1 error.

    Example: ev2 relax slabs/*.vasp --checkpoint best_checkpoint.pt --out relaxed.extxyz
    """
    with one_sentence_errors():
        if (checkpoint is None) == (calculator is None):
            raise ValueError("give --checkpoint FILE, or --calculator emt instead")
        from ev2_plugin.integration.relax_files import relax_files
        from ev2_plugin.integration.relaxation_progress import relaxation_progress
        from ev2_plugin.relax.settings import Settings

        settings = Settings(_optimizer(optimizer), fmax, steps)
        forces = _forces(checkpoint, calculator or "", device, trust)
        with relaxation_progress(print_line) as follow:
            found = relax_files(
                files,
                forces,
                settings,
                out,
                batch_edges=batch_edges,
                trajectories=trajectories,
                on_progress=follow,
            )
    if as_json:
        print_json(_content(found, out))
    else:
        from rich.console import Console

        console = Console()
        console.print(_table(found))
        console.print(f"energies: {found.energy_kind}", soft_wrap=True, highlight=False, markup=False)
        console.print(f"written to {out}", soft_wrap=True, highlight=False, markup=False)
    if found.converged < len(found.relaxed):
        raise typer.Exit(exit_codes.NO)


def _forces(checkpoint: Path | None, calculator: str, device: str, trust: bool) -> Forces:
    from ev2_plugin.integration.relax_files import forces_of_calculator, forces_of_checkpoint

    if checkpoint is None:
        return forces_of_calculator(calculator)
    return forces_of_checkpoint(checkpoint, device, trust=trust)


def _optimizer(name: OptimizerName) -> Optimizer:
    from ev2_plugin.relax.fire import FIRE
    from ev2_plugin.relax.lbfgs import LBFGS

    return LBFGS() if name is OptimizerName.LBFGS else FIRE()


def _content(found: RelaxedFiles, out: Path) -> dict[str, object]:
    rows = [
        {
            "id": one.id,
            "file": str(start.file),
            "frame": start.frame,
            "converged": one.converged,
            "steps": one.steps,
            "fmax": one.fmax,
            "energy": one.energy,
            "initial_energy": one.initial_energy,
        }
        for start, one in zip(found.starts, found.relaxed, strict=True)
    ]
    counts = {"structures": len(rows), "converged": found.converged, "energy_kind": found.energy_kind}
    return {"out": str(out), **counts, "relaxed": rows}


def _table(found: RelaxedFiles) -> Table:
    """All structures if there are few, otherwise those that did not converge, the worst first."""
    from rich.markup import escape
    from rich.table import Table

    total, rows = len(found.relaxed), found.relaxed
    title = f"{found.converged} of {total} structures converged"
    if total > _SHOWN:
        left = sorted((one for one in rows if not one.converged), key=lambda one: -one.fmax)
        rows = left[:_SHOWN]
        title += f"; the {len(rows)} with the largest forces" if rows else ""
    table = Table(title=title)
    table.add_column("id")
    for heading in ("atoms", "steps", "fmax [eV/Å]", "energy [eV]", "gained [eV]"):
        table.add_column(escape(heading), justify="right")
    table.add_column("converged")
    for one in rows:
        table.add_row(
            escape(one.id),
            str(len(one.positions)),
            str(one.steps),
            f"{one.fmax:.4f}",
            f"{one.energy:.4f}",
            f"{one.initial_energy - one.energy:.4f}",
            "yes" if one.converged else "no",
        )
    return table
