"""A report as a table for the terminal."""

from __future__ import annotations

from collections.abc import Iterator

from rich.markup import escape
from rich.table import Table

from ev2_plugin.integration.check.labels import LabelFacts
from ev2_plugin.integration.check.plan import TrainingPlan
from ev2_plugin.integration.check.report import CheckReport, StepFacts
from ev2_plugin.integration.check.survey import Survey
from ev2_plugin.training.schedule import CosineSchedule

_UNITS = ("B", "kB", "MB", "GB", "TB")


def report_table(report: CheckReport, title: str) -> Table:
    """Lay out a report, one fact a line.

    Args:
        report: What a dry run found.
        title: Name of the config.
    """
    table = Table(title=escape(title), show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for section in (_model(report), _data(report), _training(report), _costs(report)):
        for name, value in section:
            table.add_row(escape(name), escape(value))
        table.add_section()
    for warning in report.warnings:
        table.add_row("[yellow]warning[/yellow]", escape(warning))
    return table


def _model(report: CheckReport) -> Iterator[tuple[str, str]]:
    heads = ", ".join(f"{name} {count:,}" for name, count in report.head_parameters.items())
    yield "model", f"{report.model}, trained by {report.trainer}"
    yield "parameters", f"{report.parameters:,}: backbone {report.backbone_parameters:,}, {heads}"


def _data(report: CheckReport) -> Iterator[tuple[str, str]]:
    for one in report.surveys:
        yield one.split, _describe_split(one)
    yield "edges per atom", f"{report.step.edges_per_atom:.1f}"
    for facts in report.labels:
        yield f"labels: {facts.target}", _describe_labels(facts)
    if report.energy_kind:
        yield "energies look like", report.energy_kind


def _describe_split(one: Survey) -> str:
    fewest, most = min(one.natoms), max(one.natoms)
    atoms = f"{most} atoms" if fewest == most else f"{fewest} to {most} atoms, {one.mean_atoms:.1f} on average"
    sampled = "" if len(one.natoms) == one.structures else f" (in a sample of {len(one.natoms)})"
    return f"{_counted(one.structures, 'structure')} of {atoms}{sampled}"


def _describe_labels(facts: LabelFacts) -> str:
    normalizer = f"mean {facts.normalizer.mean:.4g}, rmsd {facts.normalizer.std:.4g}" if facts.normalizer else "none"
    references = f", less references {facts.referenced}" if facts.referenced else ""
    return f"{facts.raw}{references}; normaliser {normalizer}; normalised {facts.normalised}"


def _training(report: CheckReport) -> Iterator[tuple[str, str]]:
    plan = report.plan
    yield "batch", str(plan.batches)
    yield "steps", f"{plan.steps_per_epoch:,.6g} per epoch, {plan.total_steps:,} in {_counted(plan.epochs, 'epoch')}"
    yield "learning rate", _describe_schedule(plan)


def _describe_schedule(plan: TrainingPlan) -> str:
    if not isinstance(plan.schedule, CosineSchedule):
        return f"{plan.peak_rate:g}, then {plan.schedule}"
    schedule = plan.schedule
    warmup = "no warm-up"
    if schedule.warmup_steps:
        warmup = f"warm-up from {schedule(0) * plan.peak_rate:.3g} in {_counted(schedule.warmup_steps, 'step')}"
    return f"{warmup}, {plan.peak_rate:g} at most, a cosine to {schedule.min_factor * plan.peak_rate:.3g}"


def _costs(report: CheckReport) -> Iterator[tuple[str, str]]:
    memory, plan = report.memory, report.plan
    yield "one step ran", _describe_step(report.step, plan.batches.batch_size)
    if report.step.metrics:
        yield "validation ran", ", ".join(f"{name} {value:.4g}" for name, value in report.step.metrics.items())
    seconds, share = report.seconds_per_step, plan.batches.batch_size * plan.batches.accumulation
    yield (
        "time, estimated",
        f"{_duration(seconds)} per optimiser step ({_counted(share, 'structure')} a process) on devices like this, "
        f"{_duration(seconds * plan.total_steps)} for all steps",
    )
    yield (
        "memory, estimated",
        f"{in_bytes(memory.total)} with {memory.structures} structures: weights {in_bytes(memory.weights)}, gradients "
        f"{in_bytes(memory.gradients)}, optimiser {in_bytes(memory.moments)}, averages {in_bytes(memory.averaged)}, "
        f"activations {in_bytes(memory.activations)} ({in_bytes(memory.per_structure)} per structure)",
    )


def _describe_step(step: StepFacts, batch_size: int) -> str:
    peak = f", {in_bytes(step.peak_bytes)} at most" if step.peak_bytes is not None else ""
    return (
        f"{step.structures} of {_counted(batch_size, 'structure')}, {step.atoms:,} atoms, {step.edges:,} edges: "
        f"loss {step.loss:.4g}, {_duration(step.seconds)} on {step.device}{peak}"
    )


def _counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def in_bytes(count: int | float) -> str:
    """In decimal units, three digits."""
    for unit in _UNITS[:-1]:
        if count < 999.5:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} {_UNITS[-1]}"


def _duration(seconds: int | float) -> str:
    for length, name in ((86400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 2 * length:
            return f"{seconds / length:.3g} {name}"
    return f"{seconds:.3g} s"
