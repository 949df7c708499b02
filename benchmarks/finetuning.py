"""Fine-tuning on real DFT data beside training from scratch for as many steps.

Two small models are trained first: one on the oxides of four metals of oxides.db, one on EMT's adsorption energies of
the demo's systems. The first is tuned to the fifth metal's oxides, polymorphs apart, the second to a DFT relaxation of
propane on copper, split in time. Writes benchmarks/results/finetuning.json, docs/finetuning/learning_curves.png and the
table of docs/finetuning.md (between marks), which says how to read them; the runs go to a new folder below runs/.

Run: python benchmarks/finetuning.py [--data ../shared/data] [--folder runs/finetuning-...] [--smoke]
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ase.db
import ase.io
import numpy as np
import torch
import yaml
from ase import Atoms
from rich.console import Console

from ev2_plugin.data.lmdb import read_lmdb
from ev2_plugin.data.metadata import read_metadata
from ev2_plugin.data.prepare import Preparation, prepare
from ev2_plugin.data.recipe import Recipe
from ev2_plugin.data.statistics import compute_statistics
from ev2_plugin.data.stored import dataset_files, read_samples
from ev2_plugin.data.structures import s2ef_labels
from ev2_plugin.demo.dataset import DatasetFolder, DatasetSize, build_dataset
from ev2_plugin.finetuning.judgement import PER_ATOM, judge
from ev2_plugin.finetuning.pipeline import carry_out, check, plan
from ev2_plugin.finetuning.request import Request
from ev2_plugin.integration.host_run import run_host
from ev2_plugin.integration.run_config import find_config, load_config
from ev2_plugin.storage.metrics_log import read_rows
from finetuning_figure import draw
from harness import commit, machine
from marked_page import replace_section
from training_runs import new_folder

REPOSITORY = Path(__file__).parents[1]
NETWORK = {"num_layers": 2}
NEW_METAL = "Ru"
SCRATCH_RATES = (1e-3, 3e-3)
RATE = 1e-3
OXIDE_WEIGHTS = (20.0, 1.0)
"""Of energies and forces in the loss: the oxides' forces are zero by symmetry or nearly so."""


@dataclass(frozen=True)
class Scale:
    """How much is trained.

    Attributes:
        oxide_epochs: Of the model of four metals' oxides.
        emt_systems: Of the model of EMT's energies; six frames of each.
        emt_epochs: Its epochs.
        epochs: Of a tuning.
    """

    oxide_epochs: int = 8
    emt_systems: int = 16
    emt_epochs: int = 4
    epochs: int = 8


@dataclass(frozen=True)
class Tools:
    """What all stages share: where they work, and what they are told."""

    folder: Path
    scale: Scale
    console: Console

    def run(self, *arguments: object) -> None:
        """Run `ev2 fairchem` on the CPU in the common folder."""
        flags = ["--cpu", "--run-dir", str(self.folder), "--hide_eval_progressbar=True", "--seed", "0"]
        run_host([*map(str, arguments), *flags], self.folder / "runs.log")


def polymorphs(path: Path) -> dict[str, list[Atoms]]:
    """Structures of a database by polymorph: rows of one formula whose volume grows."""
    found: dict[str, list[Atoms]] = {}
    before: Atoms | None = None
    for row in ase.db.connect(path).select():
        atoms = row.toatoms()
        same = before is not None and np.array_equal(atoms.numbers, before.numbers)
        if not same or atoms.get_volume() <= before.get_volume():
            name = f"{atoms.get_chemical_formula('metal')}_{len(found):02}"
            found[name] = []
        found[name].append(atoms)
        before = atoms
    return found


def write_systems(folder: Path, systems: dict[str, list[Atoms]]) -> Path:
    """A file per system."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, frames in systems.items():
        path = folder / f"{name}.traj"
        if not path.exists():  # prepared datasets remember when their sources were written
            ase.io.write(path, frames)
    return folder


def small_recipe(path: Path, epochs: int, weights: tuple[float, float] = (10.0, 5.0), **sections: Any) -> Recipe:
    """The demo's run with a smaller model and the losses of fine-tuning, weighted so."""
    energy, force = weights
    losses = [
        {"energy": {"fn": "per_atom_mae", "coefficient": energy}},
        {"forces": {"fn": "l2mae", "coefficient": force}},
    ]
    content = {
        "includes": ["demo/s2ef.yml"],
        "model": NETWORK,
        "loss_functions": losses,
        "optim": {"max_epochs": epochs},
        **sections,
    }
    path.write_text(yaml.safe_dump(content))
    return Recipe(str(path.resolve()), load_config(find_config(path))[0])


def train_on_oxides(tools: Tools, systems: dict[str, list[Atoms]]) -> Path:
    """A model of the oxides of all metals but one; the checkpoint of its last step."""
    old = {name: frames for name, frames in systems.items() if NEW_METAL not in name}
    sources = write_systems(tools.folder / "oxides_before", old)
    recipe = small_recipe(tools.folder / "oxides_before.yml", tools.scale.oxide_epochs, OXIDE_WEIGHTS)
    out = tools.folder / "oxides_before_data"
    prepare(Preparation(out, (sources,), recipe, shares=(0.9, 0.1, 0.0)))
    tools.run("--mode", "train", "--config-yml", out / "run.yml", "--timestamp-id", "oxides_before")
    return tools.folder / "checkpoints/oxides_before/checkpoint.pt"


def train_on_emt(tools: Tools) -> Path:
    """A model of EMT's adsorption energies of the demo's systems; the checkpoint of its last step."""
    recipe = small_recipe(tools.folder / "emt_model.yml", 1)
    size = DatasetSize(train=tools.scale.emt_systems, val=2, test=1)
    root = tools.folder / "emt"
    if not root.exists():
        build_dataset(root, size, seed=0, cutoff=recipe.cutoff, max_neighbors=recipe.max_neighbors)
    data = DatasetFolder(root)
    folders = {split: str(data.s2ef(split).parent.resolve()) for split in ("train", "val")}
    scale = compute_statistics(read_lmdb(data.s2ef("train"))).normalizers()
    path = tools.folder / "emt.yml"
    small_recipe(
        path,
        tools.scale.emt_epochs,
        model={**NETWORK, "avg_degree": read_metadata(Path(folders["train"])).mean_degree},
        dataset={
            "train": {"src": folders["train"], "transforms": {"normalizer": scale}},
            "val": {"src": folders["val"]},
        },
        task={"energy": "adsorption"},
    )
    tools.run("--mode", "train", "--config-yml", path, "--timestamp-id", "emt")
    return tools.folder / "checkpoints/emt/checkpoint.pt"


def tune(tools: Tools, request: Request) -> dict[str, Any]:
    """Tune, train from scratch on the same divisions for as many steps, and judge all on the same structures."""
    made = plan(request)
    check(request)
    found = carry_out(request, made)
    test = request.out / "data" / "test"
    runs = {"tuned": {"errors": found["errors"]["after"], "curve": tuned_curve(tools, request)}}
    for rate in SCRATCH_RATES:
        runs[f"from scratch, rate {rate:g}"] = from_scratch(tools, request, rate)
    zero_shot = {stage: found["errors"][stage] for stage in ("as it is", "before") if stage in found["errors"]}
    tools.console.print(f"{request.out.name}: {brief(zero_shot)} {brief({n: r['errors'] for n, r in runs.items()})}")
    return {
        "checkpoint_energy": found["checkpoint"]["energy"],
        "zero_shot_on_training_structures": found["zero_shot"],
        "references": found["energies"]["reason"],
        "changes": found["notes"],
        "data": {split: counts["structures"] for split, counts in found["data"].items()},
        "steps": found["trained"]["steps"],
        "zero_shot": zero_shot,
        "runs": runs,
        "without_a_model": without_a_model(request.out / "data" / "train", test),
    }


def brief(errors: dict[str, Any]) -> str:
    return "; ".join(
        f"{name}: {1e3 * one[PER_ATOM]:.1f} meV/atom, {1e3 * one['forces_mae']:.1f} meV/Å"
        for name, one in errors.items()
    )


def tuned_curve(tools: Tools, request: Request) -> dict[str, list[float]]:
    """Errors on the validation split by step, with those before the first step."""
    name = f"start_of_{request.out.name}"
    start = request.out / "start.pt"
    tools.run(
        "--mode", "validate", "--config-yml", request.out / "run.yml", "--checkpoint", start, "--timestamp-id", name
    )
    curve = curve_of(next(request.out.glob("logs/*/finetune/metrics.jsonl")))
    first = curve_of(next(tools.folder.glob(f"logs/*/{name}/metrics.jsonl")))
    return {key: [0 if key == "step" else first[key][-1], *values] for key, values in curve.items()}


def curve_of(log: Path) -> dict[str, list[float]]:
    rows = list(read_rows(log, "val"))
    return {
        "step": [row.step for row in rows],
        "energy_mae": [row.values["energy_mae"] for row in rows],
        "forces_mae": [row.values["forces_mae"] for row in rows],
    }


def from_scratch(tools: Tools, request: Request, rate: float) -> dict[str, Any]:
    """The run file of the tuning without its checkpoint, with references and normalisers of these data alone."""
    out, name = request.out, f"{request.out.name}_from_scratch_{rate:g}"
    config = yaml.safe_load((out / "run.yml").read_text())
    fitted = tools.folder / f"{request.out.name}_fitted"
    if not fitted.exists():
        recipe = Recipe(str((out / "run.yml").resolve()), config)
        plain = dict(config["dataset"]["train"]["transforms"])
        config["dataset"]["train"]["transforms"] = {}
        division = {"shares": (0.6, 0.2, 0.2)} if not request.val else {"val": request.val, "test": request.test}
        prepare(Preparation(fitted, request.sources, recipe, seed=request.seed, **division))
        config["dataset"]["train"]["transforms"] = plain
    own = yaml.safe_load((fitted / "run.yml").read_text())["dataset"]["train"]["transforms"]
    config["dataset"]["train"]["transforms"] = own
    config["optim"]["lr_initial"] = rate
    config["task"]["energy"] = "total"
    run_file = tools.folder / f"{name}.yml"
    run_file.write_text(yaml.safe_dump(config))
    tools.run("--mode", "train", "--config-yml", run_file, "--timestamp-id", name)
    best = tools.folder / "checkpoints" / name / "best_checkpoint.pt"
    test = out / "data" / "test"
    flags = ("--checkpoint", best, "--timestamp-id", f"{name}_test", f"--dataset.test.src={test.resolve()}")
    tools.run("--mode", "predict", "--config-yml", run_file, *flags)
    predicted = tools.folder / "results" / f"{name}_test" / "ocp_predictions.npz"
    judged = judge(test, {"before": predicted, "after": predicted}, None)
    curve = curve_of(next(tools.folder.glob(f"logs/*/{name}/metrics.jsonl")))
    return {"errors": dict(judged.values["after"]), "curve": curve}


def without_a_model(train: Path, test: Path) -> dict[str, float]:
    """Errors of an energy per element, fitted to the training structures, and of no forces at all."""
    rows = {}
    for folder in (train, test):
        samples = [data for _, data in read_samples(dataset_files(folder))]
        counts = np.array([np.bincount(data.atomic_numbers.numpy(), minlength=119) for data in samples])
        rows[folder] = samples, counts, np.array([s2ef_labels(data, "")[0] for data in samples])
    solution = np.linalg.lstsq(rows[train][1], rows[train][2], rcond=None)[0]
    samples, counts, energies = rows[test]
    errors = np.abs(energies - counts @ solution)
    forces = np.concatenate([s2ef_labels(data, "")[1].numpy()[data.fixed.numpy() == 0].ravel() for data in samples])
    return {
        "energy_mae": float(errors.mean()),
        PER_ATOM: float((errors / counts.sum(axis=1)).mean()),
        "forces_mae": float(np.abs(forces).mean()),
    }


def oxides(tools: Tools, path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """The new metal's oxides, with whole polymorphs held out and with volumes of all polymorphs held out."""
    systems = polymorphs(path)
    checkpoint = train_on_oxides(tools, systems)
    new = {name: frames for name, frames in systems.items() if NEW_METAL in name}
    single = {f"{name}_{number}": [one] for name, frames in new.items() for number, one in enumerate(frames)}
    for what, divided in (("volumes", single), ("polymorphs", new)):
        request = Request(
            sources=(write_systems(tools.folder / what, divided),),
            checkpoint=checkpoint,
            out=tools.folder / f"new_{what}",
            shares=(0.6, 0.2, 0.2),
            epochs=tools.scale.epochs,
            lr=RATE,
            batch_size=4,
            metric="energy_mae",
            energy_weight=OXIDE_WEIGHTS[0],
            force_weight=OXIDE_WEIGHTS[1],
            device="cpu",
        )
        yield f"{NEW_METAL} oxides, new {what}", tune(tools, request)


def propane(tools: Tools, path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """A relaxation of propane, tuned on its beginning."""
    checkpoint = train_on_emt(tools)
    frames = ase.io.read(path, ":")
    parts = {"train": frames[:61:2], "val": frames[61:81:2], "test": frames[81::2]}
    for split, chosen in parts.items():
        write_systems(tools.folder / "propane" / split, {"relaxation": chosen})
    sources = {split: (tools.folder / "propane" / split,) for split in parts}
    options: dict[str, Any] = {
        "sources": sources["train"],
        "val": sources["val"],
        "test": sources["test"],
        "checkpoint": checkpoint,
        "out": tools.folder / "propane_tuned",
        "epochs": tools.scale.epochs,
        "lr": RATE,
        "batch_size": 4,
        "device": "cpu",
    }
    try:
        plan(Request(**{**options, "out": tools.folder / "propane_refused"}))
        refused = None
    except ValueError as error:
        refused = str(error).replace(str(checkpoint), "checkpoint.pt")
    found = tune(tools, Request(**options, references="fit"))
    yield "propane on copper", {**found, "refused_without_references_fit": refused}


def table(results: dict[str, Any]) -> str:
    """Errors on held-out structures as Markdown."""
    lines = []
    for name, row in results["tasks"].items():
        counts = row["data"]
        lines += [
            f"**{name}**: {counts['train']} structures to train on, {counts['val']} to validate, {counts['test']} held "
            f"out; {row['steps']} steps.",
            "",
            "| | energy MAE [meV/atom] | force MAE [meV/Å] | force cosine |",
            "|---|---|---|---|",
        ]
        stages = {"as it is": "checkpoint as it is", "before": "checkpoint with new references"}
        shown = {stages[stage]: one for stage, one in row["zero_shot"].items()}
        shown |= {name: one["errors"] for name, one in row["runs"].items()}
        shown |= {"an energy per element, no forces": row["without_a_model"]}
        for label, errors in shown.items():
            cosine = f"{errors['forces_cosine']:.2f}" if "forces_cosine" in errors else ""
            lines.append(f"| {label} | {1e3 * errors[PER_ATOM]:.1f} | {1e3 * errors['forces_mae']:.1f} | {cosine} |")
        lines.append("")
    return "\n".join(lines).rstrip()


def main() -> None:
    """Train, tune, compare, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=REPOSITORY.parent / "shared" / "data")
    parser.add_argument("--folder", type=Path, help="of a call that was stopped, to go on; a new one below runs/")
    parser.add_argument("--smoke", action="store_true", help="hardly any training, and no results are written")
    args = parser.parse_args()
    torch.set_num_threads(1)
    scale = Scale(1, 2, 1, 2) if args.smoke else Scale()
    tools = Tools(args.folder or new_folder(REPOSITORY / "runs", "finetuning"), scale, Console())
    started, tasks = time.process_time(), dict[str, Any]()
    for task, file in ((propane, "toy_c3h8_relax.extxyz"), (oxides, "oxides.db")):
        for name, found in task(tools, args.data / file):
            tasks[name] = found
            results = {
                "machine": machine("cpu"),
                "commit": commit(),
                "cpu_seconds_of_last_call": round(time.process_time() - started),
                "scale": vars(scale),
                "tasks": tasks,
            }
            write(results, tools.folder)
    if args.smoke:
        print(table(results))
    else:
        publish(results)


def publish(results: dict[str, Any]) -> None:
    """Write numbers, figure and table to where the documentation has them."""
    page = REPOSITORY / "docs/finetuning.md"
    write(results, REPOSITORY / "benchmarks/results", page.with_suffix(""))
    replace_section(page, "benchmarks/finetuning.py", f"\n{table(results)}\n\n")


def write(results: dict[str, Any], folder: Path, figures: Path | None = None) -> None:
    """Write numbers and figure."""
    (folder / "finetuning.json").write_text(json.dumps(results, indent=1) + "\n")
    draw(results["tasks"], (figures or folder) / "learning_curves.png")


if __name__ == "__main__":
    main()
