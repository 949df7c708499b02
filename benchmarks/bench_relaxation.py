"""Relaxed structures per hour: fairchem's relaxation loop, with its own model and with ours, beside this package's.

All sides relax the same structures with the same weights, optimiser and limits, through the trainer that
`--mode run-relaxations` builds: the time is that of `trainer.run_relaxations()`, results written, trajectories not. The
structures are those of `ev2 demo`, shaken by 0.02 to 0.5 Å, so that the steps to a minimum differ widely.

Fairchem's loop is given every batch size asked for, and so is ours: the figure compares the best of each.
"""

from __future__ import annotations

import contextlib
import copy
import itertools
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from fairchem.core.common import distutils
from fairchem.core.common.flags import Flags
from fairchem.core.common.utils import new_trainer_context
from torch_geometric.data import Data

from ev2_plugin.data.lmdb import read_lmdb, write_lmdb
from ev2_plugin.data.predictions import read_relaxed_positions
from ev2_plugin.data.structures import data_to_structure
from ev2_plugin.integration.host_classes import only_needed_imports
from ev2_plugin.integration.host_run import run_host
from ev2_plugin.integration.loading import load_potential
from ev2_plugin.integration.run_config import build_run_config, load_config
from ev2_plugin.integration.timing import require_agreement
from ev2_plugin.potential.structures import from_atoms
from ev2_plugin.relax.folder import read_relaxed
from harness import arguments, prepare, result_file

SHAKEN = (0.02, 0.5)  # Å, spread geometrically over the structures
FMAX, STEPS = 0.03, 200  # eV/Å and the limit of steps
SAME_ENERGY = 0.02
"""eV, median over the structures, between the ends of any two sides. Fairchem's model turns its edge frames at random:
two of its own runs end 9 meV apart."""

SIDES = {
    "fairchem's loop, fairchem's model": ("equiformerv2_forces", "equiformer_v2"),
    "fairchem's loop, our model": ("equiformerv2_forces", "ev2_plugin.EquiformerV2"),
    "ours": ("ev2_plugin.Trainer", "ev2_plugin.EquiformerV2"),
}


@dataclass(frozen=True)
class Problem:
    """What is relaxed, by which weights.

    Attributes:
        config: What trained them.
        checkpoint: The weights.
        starts: LMDB of the structures.
        device: Where.
    """

    config: dict[str, Any]
    checkpoint: Path
    starts: Path
    device: str


def demo_run(folder: Path) -> Path:
    """A finished run of `ev2 demo` below a folder, made if there is none."""
    found = sorted(folder.glob("demo-*/checkpoints/train/best_checkpoint.pt"))
    if not found:
        from ev2_plugin.cli.main import app

        app(["demo", "--runs-dir", str(folder)], standalone_mode=False)
        found = sorted(folder.glob("demo-*/checkpoints/train/best_checkpoint.pt"))
    return found[-1].parents[2].resolve()


def trained_model(run: Path, epochs: int) -> tuple[dict[str, Any], Path]:
    """The demo's model with the 600 radial functions that fairchem's own always has, trained on the demo's data."""
    config, _ = load_config(run / "config.yml")
    del config["model"]["num_radial_basis"]
    config["optim"]["max_epochs"] = epochs
    config["logger"] = "tensorboard"
    folder = run / f"relaxation-benchmark-{epochs}"
    if not folder.exists():
        folder.mkdir()
        config_yml = folder / "train.yml"
        config_yml.write_text(yaml.safe_dump(config), encoding="utf-8")
        flags = ["--mode", "train", "--config-yml", str(config_yml), "--run-dir", str(folder), "--cpu", "--seed", "0"]
        run_host(flags, folder / "host.log")
    (checkpoint,) = folder.rglob("best_checkpoint.pt")
    return config, checkpoint


def shaken_structures(run: Path, count: int) -> list[Data]:
    """Minima of the demo's systems, all free atoms displaced at random, by more from one to the next."""
    systems = [one for split in ("test", "val", "train") for one in read_lmdb(run / "data/is2re" / split / "data.lmdb")]
    generator = np.random.default_rng(0)
    shaken = []
    for number, amplitude in enumerate(np.geomspace(*SHAKEN, count)):
        data = copy.copy(systems[number % len(systems)])
        noise = torch.from_numpy(generator.normal(scale=amplitude / 3**0.5, size=tuple(data.pos.shape))).float()
        data.pos = data.pos_relaxed + noise * (data.fixed == 0).unsqueeze(-1)
        data.sid = number
        shaken.append(data)
    order = generator.permutation(count)  # neither loop finds them sorted
    return [shaken[place] for place in order]


@contextlib.contextmanager
def trainer_for(problem: Problem, side: str, batch_size: int, folder: Path) -> Iterator[Any]:
    """The trainer of a side with the weights loaded, as `--mode run-relaxations` has it."""
    trainer, model = SIDES[side]
    given = problem.config
    task = {"relax_opt": {**given["task"]["relax_opt"], "traj_dir": None}, "write_pos": True}
    task |= {"relaxation_fmax": FMAX, "relaxation_steps": STEPS}
    task |= {"strict_load": False}  # our checkpoints hold no tables, which fairchem's model counts as weights
    content = {
        **given,
        "trainer": trainer,
        "model": {**given["model"], "name": model},
        "dataset": {**given["dataset"], "relax": {"format": "lmdb", "src": str(problem.starts)}},
        "task": {**given["task"], **task},
        "optim": {**given["optim"], "eval_batch_size": batch_size},
    }
    config_yml = folder / "relax.yml"
    config_yml.write_text(yaml.safe_dump(content), encoding="utf-8")
    flags = ["--mode", "run-relaxations", "--config-yml", str(config_yml), "--checkpoint", str(problem.checkpoint)]
    flags += ["--run-dir", str(folder), *(["--cpu"] if problem.device == "cpu" else [])]
    args, overrides = Flags().get_parser().parse_known_args(flags)
    config = build_run_config(args, overrides)
    distutils.setup_env_local()
    try:
        with only_needed_imports(config), new_trainer_context(config=config) as context:
            context.task.setup(context.trainer)
            yield context.trainer
    finally:
        distutils.cleanup()


def relax(problem: Problem, side: str, batch_size: int, folder: Path) -> tuple[float, dict[str, np.ndarray]]:
    """Seconds, and where the structures ended."""
    folder.mkdir(parents=True)
    with trainer_for(problem, side, batch_size, folder) as trainer:
        begin = time.perf_counter()
        trainer.run_relaxations()
        seconds = time.perf_counter() - begin
    (positions,) = folder.rglob("relaxed_positions.npz")
    return seconds, read_relaxed_positions(positions)


def energies(problem: Problem, starts: Sequence[Data], positions: dict[str, np.ndarray]) -> np.ndarray:
    """Energy [eV] of every structure where a side left it, by one and the same model."""
    potential = load_potential(problem.checkpoint, problem.device)
    atoms = [data_to_structure(data, positions[str(data.sid)]) for data in starts]
    return np.array([float(potential(from_atoms([one], ["s"])).energy[0]) for one in atoms])


def main() -> None:
    """Time all sides at all batch sizes."""
    parser = arguments(__doc__, "relaxation")
    parser.add_argument("--demo", type=Path, default=Path("runs"), help="where runs of `ev2 demo` lie; made if none is")
    parser.add_argument("--structures", type=int, default=48)
    parser.add_argument("--batches", type=int, nargs="+", default=[4, 16])
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    prepare(args)
    run = demo_run(args.demo)
    if args.smoke:
        args.structures, args.batches, args.repeats = 3, [2], 1
    config, checkpoint = trained_model(run, epochs=1 if args.smoke else 9)
    results = result_file(args, "relaxation", "How many structures are relaxed in an hour?", ("side", "batch_size"))

    with tempfile.TemporaryDirectory() as scratch:
        starts = shaken_structures(run, args.structures)
        problem = Problem(config, checkpoint, Path(scratch) / "starts.lmdb", args.device)
        write_lmdb(problem.starts, starts)
        cases = list(itertools.product(SIDES, args.batches))
        times: dict[tuple[str, int], list[float]] = {case: [] for case in cases}
        ends: dict[tuple[str, int], np.ndarray] = {}
        for repeat in range(args.repeats):
            for number, (side, batch_size) in enumerate(cases):
                folder = Path(scratch) / f"{repeat}-{number}"
                seconds, positions = relax(problem, side, batch_size, folder)
                times[side, batch_size].append(seconds)
                print(f"{side}, batches of {batch_size}: {seconds:.1f} s", flush=True)
                if repeat == 0:
                    ends[side, batch_size] = energies(problem, starts, positions)
                if side == "ours":
                    steps = [one.steps for part in folder.rglob("relaxed.jsonl") for one in read_relaxed(part.parent)]

        first = ends[cases[0]]
        deviations = {f"{side}, {size}": float(np.median(np.abs(end - first))) for (side, size), end in ends.items()}
        require_agreement(deviations, SAME_ENERGY)
        for (side, batch_size), seconds in times.items():
            median = statistics.median(seconds)
            results.add(
                {
                    "side": side,
                    "batch_size": batch_size,
                    "structures": len(starts),
                    "atoms": sum(data.natoms for data in starts),
                    "steps": {"median": statistics.median(steps), "low": min(steps), "high": max(steps)},
                    "seconds": {"median": median, "low": min(seconds), "high": max(seconds), "samples": seconds},
                    "structures_per_hour": 3600 * len(starts) / median,
                    "median_energy_difference_eV": deviations[f"{side}, {batch_size}"],
                }
            )
    best = {side: min(statistics.median(times[side, size]) for size in args.batches) for side in SIDES}
    for side, seconds in best.items():
        print(
            f"{side}: {3600 * len(starts) / seconds:.0f} structures per hour; ours {seconds / best['ours']:.2f} times"
        )


if __name__ == "__main__":
    main()
