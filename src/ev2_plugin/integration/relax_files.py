"""Relaxation of structures from files, without a trainer: what `ev2 relax` does."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from ev2_plugin.integration.checkpoint_form import current_config
from ev2_plugin.integration.loading import load_potential, read_checkpoint
from ev2_plugin.integration.potential import ModelPotential
from ev2_plugin.integration.relaxation_budget import fitting_budget
from ev2_plugin.integration.relaxation_input import NamedStructure, digest_of, read_structures
from ev2_plugin.integration.relaxation_stop import relax_until_stopped
from ev2_plugin.integration.relaxation_structures import check_output, relaxed_structure, write_structures
from ev2_plugin.potential.ase_calculator import CalculatorPotential
from ev2_plugin.potential.calculators import build_calculator
from ev2_plugin.potential.protocol import Potential
from ev2_plugin.relax.folder import TRAJECTORIES, Progress, read_relaxed, relax_in_folder
from ev2_plugin.relax.group import Relaxed
from ev2_plugin.relax.settings import Budget, Settings
from ev2_plugin.relax.source import AtomsSource

ON_CPU = Budget(max_structures=8)
"""Structures at once where no memory is to be filled."""


@dataclass(frozen=True)
class Forces:
    """Where energies and forces come from.

    Attributes:
        potential: Says them.
        energy_kind: What its energies are.
        identity: What must be the same when relaxations are started again.
        config: Of the model's training; empty without one.
    """

    potential: Potential
    energy_kind: str
    identity: Mapping[str, str]
    config: Mapping[str, Any]


@dataclass(frozen=True)
class RelaxedFiles:
    """What came out.

    Attributes:
        starts: What was relaxed.
        relaxed: How each ended, in the same order.
        energy_kind: What the energies are.
    """

    starts: list[NamedStructure]
    relaxed: list[Relaxed]
    energy_kind: str

    @property
    def converged(self) -> int:
        """How many ended with small forces."""
        return sum(one.converged for one in self.relaxed)


def forces_of_checkpoint(checkpoint: Path, device: str, *, trust: bool = False) -> Forces:
    """A trained model.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If weights are missing or left over, or the device is not there.
    """
    potential = load_potential(checkpoint, device, trust=trust)
    with checkpoint.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    config = current_config(read_checkpoint(checkpoint, trust=trust)["config"])
    return Forces(potential, str(potential.energy_kind), {"checkpoint": digest}, config)


def forces_of_calculator(name: str) -> Forces:
    """A calculator of ASE's, by the names that `build_calculator` takes.

    Raises:
        ValueError: If there is no such calculator.
    """
    calculator = build_calculator(name, {})
    return Forces(
        CalculatorPotential(calculator), f"total energy by {type(calculator).__name__}", {"calculator": name}, {}
    )


def relax_files(
    files: list[str],
    forces: Forces,
    settings: Settings,
    out: Path,
    *,
    batch_edges: int | None = None,
    trajectories: Path | None = None,
    on_progress: Callable[[Progress], None] = lambda progress: None,
) -> RelaxedFiles:
    """Relax the structures of files and write them to one file.

    What is done is kept in the folder `<out>.work`: the same call goes on from there.

    Args:
        files: As `read_structures` takes them.
        forces: Energies and forces.
        settings: Optimiser and convergence; the budget is chosen here.
        out: File for the relaxed structures, *.extxyz or *.traj.
        batch_edges: Most edges of a batch; None for what fits into a GPU, and for `ON_CPU` elsewhere.
        trajectories: Folder for all frames of each relaxation, `<id>.traj`; None keeps none.
        on_progress: As for `relax_in_folder`.

    Raises:
        RelaxationError: If a structure cannot be evaluated.
        Stopped: If Ctrl-C or SIGTERM asked for it.
        ValueError: If a file cannot be read, names are not unique, or the folder holds other relaxations.
    """
    check_output(out)
    starts = read_structures(files)
    work = out.with_name(f"{out.name}.work")
    source = AtomsSource([one.atoms for one in starts], [one.id for one in starts])
    there = work / TRAJECTORIES if trajectories is None else trajectories
    relax = partial(
        relax_in_folder,
        source,
        forces.potential,
        replace(settings, budget=_budget(source, forces, batch_edges, work)),
        work,
        trajectories="ends" if trajectories is None else "full",
        described={"contents": digest_of(starts), "trajectory_folder": str(trajectories), **forces.identity},
        on_progress=on_progress,
    )
    relax_until_stopped(
        lambda stop: relax(stop=stop), f"all work is kept in {work}: the same command goes on from there"
    )
    if trajectories is not None:
        trajectories.mkdir(parents=True, exist_ok=True)
        for path in sorted((work / TRAJECTORIES).glob("*.traj")):
            shutil.move(path, trajectories / path.name)
    relaxed = list(read_relaxed(work))
    lost = [one.id for one in relaxed if not (there / f"{one.id}.traj").exists()]
    if lost:
        raise ValueError(
            f"{there} lacks the trajectories of {len(lost)} structures that were relaxed before "
            f"({', '.join(lost[:5])}), which hold their forces: remove {work} to begin anew"
        )
    write_structures(
        out,
        (
            relaxed_structure(start, one, there / f"{one.id}.traj", forces.energy_kind)
            for start, one in zip(starts, relaxed, strict=True)
        ),
    )
    return RelaxedFiles(starts, relaxed, forces.energy_kind)


def _budget(source: AtomsSource, forces: Forces, batch_edges: int | None, work: Path) -> Budget:
    if batch_edges is not None:
        return Budget(max_edges=batch_edges)
    potential = forces.potential
    if isinstance(potential, ModelPotential) and potential.device.type == "cuda":
        return fitting_budget(source, potential, forces.config, work)
    return ON_CPU
