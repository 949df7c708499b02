"""The demo from nothing to figures: label, train, validate, predict, relax, judge."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from ase.io import Trajectory
from rich.console import Console

from ev2_plugin.data.errors import S2EFComparison, compare_s2ef
from ev2_plugin.data.lmdb import read_lmdb
from ev2_plugin.data.predictions import StructurePrediction, read_s2ef_predictions
from ev2_plugin.data.statistics import TargetStatistics, compute_statistics
from ev2_plugin.data.structures import data_to_structure
from ev2_plugin.data.training_log import LearningCurve, read_curves
from ev2_plugin.demo.configuration import BaseSettings, read_base_settings, write_run_config
from ev2_plugin.demo.dataset import DatasetFolder, DatasetSize, build_dataset
from ev2_plugin.demo.figures import (
    save_energy_parity,
    save_force_parity,
    save_learning_curves,
    save_relaxations,
)
from ev2_plugin.demo.progress import progress_bar, relaxation_follower, terminal_console, training_follower
from ev2_plugin.demo.relaxations import (
    RelaxationTrace,
    RelaxedSystem,
    judge_relaxation,
    trace_relaxation,
)
from ev2_plugin.demo.table import RelaxationSummary, error_table, relaxation_table, summarise_relaxations
from ev2_plugin.integration.host_run import run_host


@dataclass(frozen=True)
class DemoScale:
    """How much the demo does.

    Attributes:
        size: Systems and frames of the dataset.
        epochs: Passes over the training frames.
        relaxation_steps: Most steps of a relaxation.
        relaxation_fmax: Largest predicted force on a free atom of a relaxed structure [eV/Å].
    """

    size: DatasetSize
    epochs: int
    relaxation_steps: int
    relaxation_fmax: float


@dataclass(frozen=True)
class DemoResult:
    """What a demo found.

    Attributes:
        folder: Where everything lies.
        comparison: Labels and predictions of the held-out frames.
        relaxations: Summary of the relaxations.
        figures: The PNGs.
    """

    folder: Path
    comparison: S2EFComparison
    relaxations: RelaxationSummary
    figures: tuple[Path, ...]

    def as_dict(self) -> dict[str, Any]:
        """Everything as JSON has it: errors in eV and eV/Å, with those of the mean predictor, and the relaxations."""
        errors = {
            name: {"mae": one.mae, "mean_predictor_mae": one.mean_predictor_mae, "ratio": one.ratio}
            for name, one in (("energy", self.comparison.energy), ("forces", self.comparison.forces))
        }
        return {
            "folder": str(self.folder),
            "frames": len(self.comparison.sids),
            "errors": errors,
            "relaxations": asdict(self.relaxations),
            "figures": [str(path) for path in self.figures],
        }


def run_demo(runs_dir: Path, *, seed: int = 0, quick: bool = False, console: Console | None = None) -> DemoResult:
    """Run the whole demo in a new folder below `runs_dir`.

    Args:
        runs_dir: Folder of runs, made if missing.
        seed: Seed of the dataset and of training.
        quick: Build a tiny dataset and hardly train, to see that everything works.
        console: Where to show progress and tables; the terminal if None.

    Returns:
        The numbers and where to find the rest.
    """
    started = time.monotonic()
    console = console or terminal_console()
    cores = 1 if quick else len(os.sched_getaffinity(0))
    torch.set_num_threads(cores)
    settings = read_base_settings()
    scale = DemoScale(DatasetSize(), settings.epochs, settings.relaxation_steps, settings.relaxation_fmax)
    if quick:
        # A model that learned nothing says almost no force: only a tiny threshold makes it move atoms.
        scale = DemoScale(DatasetSize(train=6, val=2, test=2, frames=4), 2, 3, relaxation_fmax=1e-4)
    stages = _Stages(_new_folder(runs_dir), scale, settings, seed, cores, console)

    dataset = stages.build()
    training = compute_statistics(read_lmdb(dataset.s2ef("train")))
    console.print(_describe(training))
    curves = stages.train(dataset, training)
    predictions = stages.predict_test_frames(dataset)
    comparison = compare_s2ef(read_lmdb(dataset.s2ef("test")), predictions, training)
    console.print(error_table(comparison))
    verdicts, traces = stages.relax_test_systems(dataset)
    summary = summarise_relaxations(verdicts, scale.relaxation_fmax)
    console.print(relaxation_table(summary))
    figures = stages.draw(dataset, curves, comparison, traces)
    console.print(f"{time.monotonic() - started:.0f} s in all. Figures, data, checkpoints and log:")
    console.print(f"{stages.folder}/", soft_wrap=True)
    return DemoResult(stages.folder, comparison, summary, figures)


@dataclass(frozen=True)
class _Stages:
    """The stages of one demo, which share a folder and a console."""

    folder: Path
    scale: DemoScale
    settings: BaseSettings
    seed: int
    cores: int
    console: Console

    @property
    def trajectories(self) -> Path:
        return self.folder / "trajectories"

    def build(self) -> DatasetFolder:
        with progress_bar(self.console, "label systems with EMT", self.scale.size.systems) as bar:
            return build_dataset(
                self.folder / "data",
                self.scale.size,
                seed=self.seed,
                cutoff=self.settings.cutoff,
                max_neighbors=self.settings.max_neighbors,
                workers=self.cores,
                on_system=lambda system: bar.advance(),
            )

    def train(self, dataset: DatasetFolder, statistics: TargetStatistics) -> tuple[LearningCurve, LearningCurve]:
        write_run_config(
            self.folder / "config.yml",
            dataset,
            statistics,
            trajectories=self.trajectories,
            epochs=self.scale.epochs,
            relaxation_steps=self.scale.relaxation_steps,
            relaxation_fmax=self.scale.relaxation_fmax,
        )
        steps = self.scale.epochs * -(-statistics.num_structures // self.settings.batch_size)
        with progress_bar(self.console, "train", steps) as bar:
            print_every = str(max(steps // 100, 1))
            messages = self._host("train", "--print-every", print_every, on_message=training_follower(bar))
        return read_curves(messages)

    def predict_test_frames(self, dataset: DatasetFolder) -> dict[str, StructurePrediction]:
        with progress_bar(self.console, "validate, predict held-out frames", 2) as bar:
            self._host("validate")
            bar.advance()
            self._host("predict", f"--dataset.test.src={dataset.s2ef('test').resolve()}")
            return read_s2ef_predictions(self.folder / "results" / "predict" / "ocp_predictions.npz")

    def relax_test_systems(self, dataset: DatasetFolder) -> tuple[list[RelaxedSystem], list[RelaxationTrace]]:
        starts = list(read_lmdb(dataset.is2re("test")))
        with progress_bar(self.console, "relax held-out systems", len(starts)) as bar:
            self._host(
                "run-relaxations",
                f"--dataset.relax.src={dataset.is2re('test').resolve()}",
                on_message=relaxation_follower(bar),
            )
        verdicts, traces = [], []
        with progress_bar(self.console, "label relaxation steps with EMT", len(starts)) as bar:
            for start in starts:
                with Trajectory(self.trajectories / f"{start.sid}.traj") as file:
                    frames = list(file)
                traces.append(trace_relaxation(start, frames))
                verdicts.append(judge_relaxation(start, frames[-1], traces[-1]))
                bar.advance()
        return verdicts, traces

    def draw(
        self,
        dataset: DatasetFolder,
        curves: tuple[LearningCurve, LearningCurve],
        comparison: S2EFComparison,
        traces: list[RelaxationTrace],
    ) -> tuple[Path, ...]:
        names = ("learning_curves.png", "energy_parity.png", "force_parity.png", "relaxations.png")
        paths = learning, energy, forces, relaxation = tuple(self.folder / name for name in names)
        save_learning_curves(learning, *curves, comparison)
        save_energy_parity(energy, comparison, _adsorbates(dataset))
        save_force_parity(forces, comparison)
        save_relaxations(relaxation, traces, self.scale.relaxation_fmax)
        return paths

    def _host(
        self,
        mode: str,
        *arguments: str,
        on_message: Callable[[str], None] = lambda message: None,
    ) -> list[str]:
        checkpoint = self.folder / "checkpoints" / "train" / "best_checkpoint.pt"
        return run_host(
            [
                *("--mode", mode, "--config-yml", str(self.folder / "config.yml"), "--cpu"),
                *("--run-dir", str(self.folder), "--timestamp-id", mode, "--seed", str(self.seed)),
                *(() if mode == "train" else ("--checkpoint", str(checkpoint))),
                "--hide_eval_progressbar=True",
                *arguments,
            ],
            self.folder / "host.log",
            on_message,
        )


def _describe(training: TargetStatistics) -> str:
    return (
        f"{training.num_structures} training frames: adsorption energies {training.energy_mean:.2f} ± "
        f"{training.energy_std:.2f} eV, force components 0 ± {training.forces_rms:.2f} eV/Å"
    )


def _adsorbates(dataset: DatasetFolder) -> dict[int, str]:
    """Name the adsorbate of each held-out system by its formula."""
    names = {}
    for start in read_lmdb(dataset.is2re("test")):
        atoms = data_to_structure(start)
        names[start.sid] = atoms[atoms.get_tags() == 2].get_chemical_formula("reduce")
    return names


def _new_folder(runs_dir: Path) -> Path:
    """Make a folder that no other run has: the host would resume what it finds in an old one."""
    stem = time.strftime("demo-%Y-%m-%d-%H-%M-%S")
    for suffix in ("", *(f"-{number}" for number in range(2, 100))):
        folder = runs_dir / (stem + suffix)
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            continue
        return folder
    raise FileExistsError(f"{runs_dir} holds a hundred folders {stem}*")
