"""`ev2 doctor`: what is wrong with this environment, and the line that mends it."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ev2_plugin.cli.exit_codes import NO
from ev2_plugin.cli.json_output import JsonOption, print_json

if TYPE_CHECKING:
    from ev2_plugin.doctor.finding import Finding


def doctor(
    time_limit: Annotated[
        float, typer.Option(min=1.0, help="Seconds for each import; slow file systems may need more.")
    ] = 60.0,
    as_json: JsonOption = False,
) -> None:
    """Look at Python, PyTorch, fairchem, GPU, cluster and machine, and print the line that mends each problem.

    Everything heavy is imported in processes of its own, so that it may also crash. Ends with status 3 if there is an
    error, with 0 if all is well or there are only warnings.

    Example: ev2 doctor
    """
    from ev2_plugin.doctor.examination import examine
    from ev2_plugin.doctor.finding import worst

    findings = examine(Path.cwd(), time_limit)
    severity = worst(findings)
    if as_json:
        print_json({"severity": severity, "findings": findings})
    else:
        _print(findings)
    if severity == "error":
        raise typer.Exit(NO)


def _print(findings: "list[Finding]") -> None:
    from rich.console import Console

    from ev2_plugin.doctor.table import findings_table, mending_lines, summary

    Console().print(findings_table(findings))
    typer.echo(f"\n{summary(findings)}")
    for line in mending_lines(findings):
        typer.echo(line)
