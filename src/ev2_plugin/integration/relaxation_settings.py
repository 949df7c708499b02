"""The settings of a relaxation run: the host's, and ours beside them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, get_args

from ev2_plugin.relax.fire import FIRE
from ev2_plugin.relax.frames import Kept
from ev2_plugin.relax.lbfgs import LBFGS
from ev2_plugin.relax.optimizer import Optimizer

LBFGS_KEYS = tuple(field.name for field in fields(LBFGS))
FIRE_KEYS = tuple(field.name for field in fields(FIRE))
OUR_TASK_KEYS = ("trajectories", "relaxations_dir", "relax_max_edges")
_CELL_KEYS = ("relax_cell", "relax_volume")


@dataclass(frozen=True)
class RelaxationRun:
    """What the config says of a relaxation run.

    Attributes:
        optimizer: L-BFGS or FIRE.
        fmax: Largest force on a free atom of a relaxed structure [eV/Å].
        max_steps: Steps after which a structure is given up.
        trajectories: Frames that are kept.
        batch_size: `optim.eval_batch_size`.
        max_edges: Most edges of a batch, if the config says so.
        most_batches: `task.num_relaxation_batches`.
        write_positions: Whether `relaxed_positions.npz` is asked for.
        folder: Where the work is kept that a run started again goes on from.
        trajectory_folder: Where the trajectories end up.
    """

    optimizer: Optimizer
    fmax: float
    max_steps: int
    trajectories: Kept
    batch_size: int
    max_edges: int | None
    most_batches: int | None
    write_positions: bool
    folder: Path
    trajectory_folder: Path


def moves_cells(task: Mapping[str, Any]) -> bool:
    """Whether cells are to be relaxed too, which is left to the host's own loop.

    Raises:
        ValueError: If that is asked for together with settings that only our relaxations read.
    """
    if not any(task.get(key, False) for key in _CELL_KEYS):
        return False
    ours = [f"task.{key}" for key in OUR_TASK_KEYS if key in task]
    ours += [f"task.relax_opt.{key}" for key in ("name", "fire") if key in (task.get("relax_opt") or {})]
    if ours:
        raise ValueError(
            f"cells are relaxed by fairchem's own loop, which does not read {', '.join(ours)}: leave it out"
        )
    return True


def read_run(config: Mapping[str, Any]) -> RelaxationRun:
    """Read the settings of a relaxation run.

    Args:
        config: The trainer's, with sections `task`, `optim` and `cmd`.

    Raises:
        ValueError: If one cannot be right.
    """
    task, optim = config["task"], config["optim"]
    given = task.get("relax_opt") or {}
    traj_dir = given.get("traj_dir")
    if task.get("relaxations_dir") is not None:
        folder = Path(task["relaxations_dir"])
    else:
        folder = Path(traj_dir if traj_dir is not None else config["cmd"]["results_dir"]) / "relaxations"
    max_edges, most_batches = task.get("relax_max_edges"), task.get("num_relaxation_batches")
    for name, value in (("relax_max_edges", max_edges), ("num_relaxation_batches", most_batches)):
        if value is not None and value < 1:
            raise ValueError(f"task.{name} must be at least 1, or be left out, got {value!r}")
    return RelaxationRun(
        optimizer=_optimizer(given),
        fmax=float(task.get("relaxation_fmax", 0.02)),
        max_steps=task.get("relaxation_steps", 300),
        trajectories=_trajectories(task),
        batch_size=optim.get("eval_batch_size", optim.get("batch_size", 1)),
        max_edges=max_edges,
        most_batches=most_batches,
        write_positions=task.get("write_pos", False),
        folder=folder,
        trajectory_folder=Path(traj_dir) if traj_dir is not None else folder / "trajectories",
    )


def _optimizer(given: Mapping[str, Any]) -> Optimizer:
    name = given.get("name", "lbfgs")
    if name == "lbfgs":
        return LBFGS(**_numbers(LBFGS(), {key: given[key] for key in LBFGS_KEYS if key in given}))
    if name == "fire":
        # in a section of its own: a `maxstep` of L-BFGS, of one atom, would be that of a whole structure
        return FIRE(**_numbers(FIRE(), given.get("fire") or {}))
    raise ValueError(f"task.relax_opt.name must be lbfgs or fire, got {name!r}")


def _numbers(defaults: LBFGS | FIRE, given: Mapping[str, Any]) -> dict[str, Any]:
    """Settings in the types of their defaults: YAML takes `alpha: 70` for an integer."""
    return {key: type(getattr(defaults, key))(value) for key, value in given.items()}


def _trajectories(task: Mapping[str, Any]) -> Kept:
    kept = task.get("trajectories")
    if kept is None:
        if (task.get("relax_opt") or {}).get("traj_dir") is None:
            return "none"
        return "full" if task.get("save_full_traj", True) else "ends"
    if kept not in get_args(Kept):
        raise ValueError(f"task.trajectories must be one of {', '.join(get_args(Kept))}, got {kept!r}")
    return kept
