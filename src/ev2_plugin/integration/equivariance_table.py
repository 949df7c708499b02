"""An equivariance report for the terminal."""

from __future__ import annotations

from collections.abc import Iterator

from rich.markup import escape
from rich.table import Table

from ev2_plugin.integration.equivariance import EquivarianceReport, Finding
from ev2_plugin.integration.error_causes import MEANINGS


def equivariance_table(report: EquivarianceReport) -> Table:
    """One row for each symmetry: mean errors, in the model's precision and in float64."""
    table = Table(title=escape(f"errors on {len(report.structures)} structures: {', '.join(report.structures)}"))
    table.add_column("symmetry")
    headings = ["energy [meV]", "forces [meV/Å]", "largest", "of mean force", "float64: forces"]
    stress = any("stress" in one.measured.outputs for one in report.findings)
    for heading in [*headings, *(["stress [meV/Å³]"] if stress else [])]:
        table.add_column(escape(heading), justify="right")
    table.add_column("cause")
    for one in report.findings:
        outputs = one.measured.outputs
        forces = outputs["forces"]
        numbers = [
            outputs["energy"].mean,
            forces.mean,
            forces.largest,
            forces.relative,
            one.float64 and one.float64.forces,
        ]
        numbers += [outputs["stress"].mean] if stress else []
        cause = one.cause if one.claimed else "not claimed"
        table.add_row(one.symmetry, *("-" if value is None else f"{value:.2g}" for value in numbers), cause)
    table.add_row("repeatability", *[""] * (len(table.columns) - 2), "same bits" if report.repeatable else "differs")
    return table


def equivariance_lines(report: EquivarianceReport) -> list[str]:
    """What the table means: where the errors come from, what would lower them, what is wrong."""
    grid = "none" if report.grid_resolution is None else " x ".join(map(str, report.grid_resolution))
    limit = "unknown" if report.max_neighbors is None else str(report.max_neighbors)
    first = (
        f"mean force {report.mean_force:.4g} meV/Å; {report.precision}; sphere grid {grid}; at most {limit} "
        f"neighbours; seed {report.seed}"
    )
    causes = (line for one in report.findings if (line := _line(one)))
    return [first, *causes, *_stress(report), *(f"fault: {one}" for one in report.faults)]


def _stress(report: EquivarianceReport) -> Iterator[str]:
    (turned,) = (one.measured.outputs for one in report.findings if one.symmetry == "rotation")
    if "stress" in turned:
        yield (
            f"stress: rotations change it by {turned['stress'].relative:.1%} of its mean; the official stress head "
            "applies its MLPs to tensor components, so it is equivariant in no precision and on no grid"
        )


def _line(finding: Finding) -> str:
    if not finding.claimed or finding.cause == "none":
        return ""
    share = ""
    if finding.steps is not None and finding.cause != "model":
        share = f" ({finding.steps.parts[finding.cause] / finding.steps.measured:.0%} of it)"
    edges = finding.measured.other_edges
    found = f"; {edges} edges differ" if edges else ""
    lower = f". Lower: {finding.advice}" if finding.advice else ""
    return f"{finding.symmetry}: {finding.cause}{share}: {MEANINGS[finding.cause]}{found}{lower}"
