"""The `ev2` command line.

A new sub-command is one file beside this one and one line below. Its module imports nothing heavy at the
top (a test watches that `ev2 --help` loads no torch): what it calls is imported inside its function.
"""

from typing import Any

import typer
from typer.core import TyperGroup

from ev2_plugin.cli.adsorbml import adsorbml
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
from ev2_plugin.cli.version import version


class Ev2(TyperGroup):
    """All commands: what Ctrl-C ends, ends with one line and status 130."""

    def invoke(self, ctx: Any) -> Any:  # of the parser within typer, which has no public name
        """Run the command that was asked for."""
        with stoppable():
            return super().invoke(ctx)


app = typer.Typer(
    name="ev2",
    cls=Ev2,
    help="EquiformerV2 in fairchem: train, validate, predict, relax.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,  # a run's traceback stays one that can be pasted into a report
)

# Every argument, --help included, belongs to fairchem's own parser.
app.command(
    add_help_option=False,
    context_settings={"ignore_unknown_options": True},
)(fairchem)
app.add_typer(adsorbml)
app.command(context_settings={"ignore_unknown_options": True})(check)
app.command()(convert)
app.add_typer(data)
app.command()(demo)
app.command()(doctor)
app.command(context_settings={"ignore_unknown_options": True})(estimate)
app.add_typer(evaluate)
app.command()(finetune)
app.command()(inspect)
app.command()(precision)
app.command()(predict)
app.command()(relax)
app.command()(report)
app.add_typer(submission)
app.command()(version)
