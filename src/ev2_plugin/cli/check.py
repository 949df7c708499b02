"""`ev2 check`: a dry run of a training config."""

from pathlib import Path
from typing import Annotated

import typer

from ev2_plugin.cli.terminal import TrustOption


def check(
    config: Annotated[Path, typer.Argument(help="Run file, as for `ev2 fairchem --config-yml`.")],
    arguments: Annotated[
        list[str] | None,
        typer.Argument(metavar="[--key.sub=value ...]", help="Overrides; other flags of `ev2 fairchem`."),
    ] = None,
    num_gpus: Annotated[int, typer.Option(min=1, help="Processes per node of the run that is meant.")] = 1,
    num_nodes: Annotated[int, typer.Option(min=1, help="Its nodes.")] = 1,
    cpu: Annotated[bool, typer.Option("--cpu", help="Run here on the CPU.")] = False,
    trust: TrustOption = False,
    structures: Annotated[
        int | None, typer.Option(min=1, help="Structures of the step that runs here: a whole batch, 2 on a CPU.")
    ] = None,
) -> None:
    """Read, build, train a step, validate a batch, write nothing; or say what is wrong.

    Flags of `ev2 fairchem` that are not listed below, such as --amp, come after the run file.
    """
    from rich.console import Console

    from ev2_plugin.integration.check.dry_run import dry_run, training_config
    from ev2_plugin.integration.check.render import report_table

    flags = ["--num-gpus", str(num_gpus), "--num-nodes", str(num_nodes), *(["--cpu"] if cpu else [])]
    flags += ["--trust"] if trust else []
    try:
        with Console(stderr=True).status("dry run: read, build, train a step, validate a batch"):
            report = dry_run(training_config(config, [*flags, *(arguments or [])]), structures)
    except (ArithmeticError, ImportError, MemoryError, OSError, ValueError) as error:
        typer.secho(f"{config}: {error}", err=True, fg=typer.colors.RED)
        raise typer.Exit(1) from error
    Console().print(report_table(report, str(config)))
