"""Overfits a small set with each recipe of the paper, and trains S2EF beside the host's own EquiformerV2.

Writes numbers to benchmarks/results/learning.json, the figure to docs/learning/learning.png, tables to docs/learning.md
(between marks), which says how to read them, and the runs to a new folder below runs/.

Run: python benchmarks/learning.py [--threads 2] [--out benchmarks/results/learning.json]
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from ev2_plugin.integration.timing import machine
from harness import commit
from learning_figure import draw
from learning_host import HOST_FRAMES, relative_differences, train_beside_host
from learning_tasks import NETWORK, NOISE_ERROR, Scale, Target, Task, build_tasks
from marked_page import replace_section
from training_runs import Curve, TrainingLog, new_folder, train, write_recipe

REPOSITORY = Path(__file__).parents[1]


def error_curve(log: TrainingLog, target: Target) -> Curve:
    """Error over the training set as validations saw it, or, of added noise, over windows of training."""
    if target.metric != NOISE_ERROR:
        return log.curve("val", target.metric)
    # what the loss adds to the error of the property; 0.1 is the recipe's coefficient
    loss, energy = log.curve("train", "loss"), log.curve("train", "property_mae")
    noise = [(both - one) / 0.1 for both, one in zip(loss.values, energy.values, strict=True)]
    window = max(len(noise) // 25, 1)
    ends = range(window, len(noise) + 1, window)
    return Curve([loss.steps[end - 1] for end in ends], [statistics.mean(noise[end - window : end]) for end in ends])


def task_results(task: Task, log: TrainingLog) -> dict[str, Any]:
    loss = log.curve("train", "loss")
    targets = []
    for target in task.targets:
        curve = error_curve(log, target)
        targets.append(
            {
                **dataclasses.asdict(target),
                "final_error": curve.values[-1],
                "share_of_baseline": curve.values[-1] / target.baseline_error,
                "curve": dataclasses.asdict(curve.thinned()),
            }
        )
    return {
        "title": task.title,
        "recipe": task.recipe,
        "changes": task.changes,
        "steps": loss.steps[-1],
        "seconds_per_step": log.seconds_per_step(),
        "loss": dataclasses.asdict(loss.thinned()),
        "targets": targets,
    }


def host_results(task: Task, logs: Mapping[str, TrainingLog]) -> dict[str, Any]:
    """Loss curves of all runs and their differences, in all and after each tenth of the steps."""
    losses = {name: log.curve("train", "loss") for name, log in logs.items()}
    values = {name: curve.values for name, curve in losses.items()}
    differences = {}
    pairs = (("ours", "host"), ("host, other turns", "host"), ("ours", "host, our turn"))
    for ours, theirs in pairs:
        difference = relative_differences(values, ours, theirs)
        differences[f"{ours} - {theirs}"] = {
            "largest": float(difference.max()),
            "mean": float(difference.mean()),
            "mean_of_first_tenth": float(difference[: max(len(difference) // 10, 1)].mean()),
            "curve": dataclasses.asdict(Curve(losses[ours].steps, difference.tolist()).thinned()),
        }
    return {
        "losses": {name: dataclasses.asdict(curve.thinned()) for name, curve in losses.items()},
        "differences": differences,
        "final_errors": {
            name: {target.metric: log.curve("val", target.metric).values[-1] for target in task.targets}
            for name, log in logs.items()
        },
        "seconds_per_step": {name: log.seconds_per_step() for name, log in logs.items()},
    }


def measure(folder: Path, scale: Scale, seed: int, console: Console) -> dict[str, Any]:
    """Build the data, run everything, collect the numbers."""
    console.print(f"labelling {scale.systems} slabs and {scale.molecules} molecules")
    tasks = build_tasks(folder / "data", scale, seed)
    results: dict[str, Any] = {"tasks": {}}
    for task in tasks:
        config = folder / task.name / "run.yml"
        config.parent.mkdir()
        write_recipe(config, task.recipe, task.changes)
        if task.name == "s2ef":
            console.print(f"{task.title}: ours and {len(HOST_FRAMES)} runs of the host")
            logs = train_beside_host(config, seed)
            results["host_comparison"] = host_results(task, logs)
            log = logs["ours"]
        else:
            console.print(task.title)
            log = train(config, "ours", seed=seed)
        results["tasks"][task.name] = task_results(task, log)
    return results


def tables(results: Mapping[str, Any]) -> str:
    """The results in Markdown."""
    errors = [
        "| task | steps | target | error over the training set | baseline | share |",
        "|---|---|---|---|---|---|",
        *(_error_row(task, target) for task in results["tasks"].values() for target in task["targets"]),
    ]
    differences = [
        "| losses of S2EF, relative differences | largest | mean | mean of the first tenth of steps |",
        "|---|---|---|---|",
        *(
            f"| {pair} | {of['largest']:.1e} | {of['mean']:.1e} | {of['mean_of_first_tenth']:.1e} |"
            for pair, of in results["host_comparison"]["differences"].items()
        ),
    ]
    return "\n".join([*errors, "", *differences])


def _error_row(task: Mapping[str, Any], target: Mapping[str, Any]) -> str:
    unit = target["unit"]
    baseline = f"{target['baseline']}: {target['baseline_error']:.3g} {unit}"
    error, share = f"{target['final_error']:.2g} {unit}", f"{100 * target['share_of_baseline']:.2g} %"
    return f"| {task['title']} | {task['steps']} | {target['label']} | {error} | {baseline} | {share} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--runs", type=Path, default=REPOSITORY / "runs", help="folder of runs")
    parser.add_argument("--out", type=Path, default=REPOSITORY / "benchmarks" / "results" / "learning.json")
    parser.add_argument("--figure", type=Path, default=REPOSITORY / "docs" / "learning" / "learning.png")
    parser.add_argument("--page", type=Path, default=REPOSITORY / "docs" / "learning.md")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    console, started, scale = Console(), time.monotonic(), Scale()
    folder = new_folder(args.runs, "learning")
    results = {
        "machine": {**machine("cpu"), "commit": commit()},
        "seed": args.seed,
        "scale": dataclasses.asdict(scale),
        "network": NETWORK,
        **measure(folder, scale, args.seed, console),
    }
    results["minutes"] = (time.monotonic() - started) / 60
    text = json.dumps(results, indent=1).replace(f"{folder.resolve()}/", "")  # paths within the run
    args.out.write_text(text + "\n", encoding="utf-8")
    draw(args.figure, results)
    replace_section(args.page, "learning", tables(results))
    console.print(tables(results), soft_wrap=True)
    console.print(f"{results['minutes']:.1f} minutes; runs in {folder}")


if __name__ == "__main__":
    main()
