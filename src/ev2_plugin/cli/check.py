"""`ev2 check`: a dry run of a training config."""

from typing import Annotated

import typer

from ev2_plugin.cli.json_output import JsonOption, print_json
from ev2_plugin.cli.options import ConfigArgument, OverridesArgument
from ev2_plugin.cli.terminal import TrustOption, one_sentence_errors


def check(
    config: ConfigArgument,
    arguments: OverridesArgument = None,
    num_gpus: Annotated[int, typer.Option(min=1, help="Processes per node of the run that is meant.")] = 1,
    num_nodes: Annotated[int, typer.Option(min=1, help="Its nodes.")] = 1,
    cpu: Annotated[bool, typer.Option("--cpu", help="Run here on the CPU.")] = False,
    trust: TrustOption = False,
    structures: Annotated[
        int | None, typer.Option(min=1, help="Structures of the step that runs here: a whole batch, 2 on a CPU.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Read, build, train a step, validate a batch, write nothing; or say what is wrong.

    Flags of `ev2 train` that are not listed below, such as --amp, come after the run file.

    Example: ev2 check data/mine/run.yml --num-gpus 8 --optim.batch_size=4
    """
    from rich.console import Console

    from ev2_plugin.integration.check.dry_run import dry_run, training_config
    from ev2_plugin.integration.check.render import report_table

    flags = ["--num-gpus", str(num_gpus), "--num-nodes", str(num_nodes), *(["--cpu"] if cpu else [])]
    flags += ["--trust"] if trust else []
    with (
        one_sentence_errors(ArithmeticError, about=config),
        Console(stderr=True).status("dry run: read, build, train a step, validate a batch"),
    ):
        report = dry_run(training_config(config, [*flags, *(arguments or [])]), structures)
    if as_json:
        print_json({"config": config, **report.as_dict()})
    else:
        Console().print(report_table(report, str(config)))
