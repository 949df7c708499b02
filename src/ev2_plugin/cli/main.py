"""The `ev2` command line.

A new sub-command is one file beside this one and one line below. Its module imports nothing heavy at the
top (a test watches that `ev2 --help` loads no torch): what it calls is imported inside its function. Its docstring
ends with an example, which a test reads.
"""

from typing import Any

import typer
from typer.core import TyperGroup

from ev2_plugin.cli.adsorbml import adsorbml
from ev2_plugin.cli.bench import bench
from ev2_plugin.cli.check import check
from ev2_plugin.cli.convert import convert
from ev2_plugin.cli.data import data
from ev2_plugin.cli.demo import demo
from ev2_plugin.cli.doctor import doctor
from ev2_plugin.cli.estimate import estimate
from ev2_plugin.cli.evaluate import evaluate
from ev2_plugin.cli.fairchem import fairchem
from ev2_plugin.cli.finetune import finetune
from ev2_plugin.cli.inspect import inspect
from ev2_plugin.cli.precision import precision
from ev2_plugin.cli.predict import predict
from ev2_plugin.cli.relax import relax
from ev2_plugin.cli.report import report
from ev2_plugin.cli.submission import submission
from ev2_plugin.cli.terminal import stoppable
from ev2_plugin.cli.train import train
from ev2_plugin.cli.version import version

START, DATA, TRAINING = "Start here", "Data", "Training"
USING, EVALUATION, CHECKPOINTS = "Using a model", "Evaluation", "Checkpoints"
PANELS = (START, DATA, TRAINING, USING, EVALUATION, CHECKPOINTS)
"""Parts of `ev2 --help`, in this order."""

_PASS_ON: dict[str, Any] = {"context_settings": {"ignore_unknown_options": True}}
"""Flags that a command does not know are meant for fairchem's own parser."""


class Ev2(TyperGroup):
    """All commands."""

    def list_commands(self, ctx: Any) -> list[str]:  # `ctx` is of the parser within typer, which has no public name
        """Names of the commands, panel by panel."""
        order = {panel: place for place, panel in enumerate(PANELS)}
        return sorted(super().list_commands(ctx), key=lambda name: order.get(_panel(self.commands[name]), -1))

    def invoke(self, ctx: Any) -> Any:
        """Run the command that was asked for; Ctrl-C ends it with one line and status 130."""
        with stoppable():
            return super().invoke(ctx)


def _panel(command: object) -> str:
    return str(getattr(command, "rich_help_panel", None))


app = typer.Typer(
    name="ev2",
    cls=Ev2,
    help="EquiformerV2 in fairchem: data, training, relaxations, adsorption energies, evaluation.",
    epilog="Exit status: 0 done; 1 error in the input, in one sentence; 2 wrong usage; 3 done, but the answer is no; "
    "130 stopped. With --json, the standard output is one JSON document.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,  # a run's traceback stays one that can be pasted into a report
)

app.command(rich_help_panel=START)(demo)
app.command(rich_help_panel=START)(doctor)
app.command(rich_help_panel=START)(version)
app.add_typer(data, rich_help_panel=DATA)
app.command(rich_help_panel=TRAINING)(finetune)
app.command(rich_help_panel=TRAINING, **_PASS_ON)(check)
app.command(rich_help_panel=TRAINING, **_PASS_ON)(estimate)
# Every argument of these two, --help included, belongs to fairchem's own parser.
app.command(rich_help_panel=TRAINING, add_help_option=False, **_PASS_ON)(train)
app.command(rich_help_panel=TRAINING, add_help_option=False, **_PASS_ON)(fairchem)
app.command(rich_help_panel=USING)(predict)
app.command(rich_help_panel=USING)(relax)
app.add_typer(adsorbml, rich_help_panel=USING)
app.command(rich_help_panel=EVALUATION)(report)
app.add_typer(evaluate, rich_help_panel=EVALUATION)
app.add_typer(submission, rich_help_panel=EVALUATION)
app.command(rich_help_panel=EVALUATION)(precision)
app.command(rich_help_panel=EVALUATION)(bench)
app.command(rich_help_panel=CHECKPOINTS)(inspect)
app.command(rich_help_panel=CHECKPOINTS)(convert)
