"""A fine-tuning for the terminal: what it will do, and what came out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rich.markup import escape
from rich.table import Table

from ev2_plugin.finetuning.judgement import SHOWN
from ev2_plugin.finetuning.pipeline import Plan

_NAMES = {"as it is": "checkpoint as it is", "before": "before", "after": "tuned"}


def plan_table(plan: Plan, title: str) -> Table:
    """Lay out a plan, one fact a line."""
    table = Table(title=escape(title), show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, text in _facts(plan):
        table.add_row(escape(name), escape(text))
    return table


def _facts(plan: Plan) -> Iterator[tuple[str, str]]:
    content, optim = plan.content, plan.content["optim"]
    for split, counts in plan.data.report["splits"].items():
        yield split, f"{counts['structures']} structures of {counts['systems']} systems: {' '.join(counts['elements'])}"
    found = content["zero_shot"]
    yield "checkpoint's energies", content["checkpoint"]["energy"]
    yield "labels look like", found["labels"]
    yield (
        "labels - predictions",
        f"{found['mean']:+.4g} ± {found['std']:.3g} eV, {found['per_atom']:.3g} eV per atom "
        f"({found['structures']} training structures, before any tuning)",
    )
    yield "element references", content["energies"]["reason"]
    yield (
        "training",
        f"{content['steps']} steps of {optim['global_batch_size']} structures in {optim['max_epochs']} epochs, "
        f"learning rate {optim['lr_initial']:g} at most",
    )
    if "freeze" in optim:
        yield "not trained", optim["freeze"]
    if "early_stopping" in optim:
        yield "ends early", f"after {optim['early_stopping']} validations in a row without gain"
    for note in content["notes"]:
        yield "changed", note
    for note in plan.data.report["notes"]:
        yield "data", note


def result_table(result: Mapping[str, Any]) -> Table:
    """Lay out the errors before and after."""
    errors, held = result["errors"], result["held_out"]
    table = Table(title=f"{held['structures']} structures of the {held['split']} split")
    table.add_column("")
    for stage in errors:
        table.add_column(_NAMES[stage], justify="right")
    for name, label in SHOWN.items():
        if all(name in values for values in errors.values()):
            table.add_row(escape(label), *(_number(name, values[name]) for values in errors.values()))
    return table


def _number(name: str, value: float) -> str:
    return f"{value:.0%}" if name.endswith("threshold") else f"{value:.4g}"


def result_lines(result: Mapping[str, Any]) -> Iterator[str]:
    """Say what the table does not."""
    trained = result["trained"]
    early = " (ended early)" if trained["ended_early"] else ""
    yield f"{trained['steps']} steps in {trained['epochs']:g} epochs{early}"
    if result["held_out"]["split"] == "val":
        yield "no test split: the errors are of the structures by which the best weights were chosen, and flatter them"
    if not result["improved"]:
        yield "tuning did not lower both errors: try more epochs, another --lr, or more structures"
    yield f"tuned model: {result['files']['tuned']}; report: {result['files']['report']}"
