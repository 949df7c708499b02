"""`ev2 finetune`: from structures with labels and a checkpoint to a tuned model."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from ev2_plugin.cli.json_output import JsonOption, print_json
from ev2_plugin.cli.terminal import TrustOption, one_sentence_errors, stoppable


class References(StrEnum):
    """Which element references a tuned model has."""

    AUTO = "auto"
    KEEP = "keep"
    FIT = "fit"


class Metric(StrEnum):
    """By what validations are compared."""

    FORCES = "forces_mae"
    ENERGY = "energy_mae"


class Precision(StrEnum):
    """Arithmetic of the training."""

    FP32 = "fp32"
    BF16 = "bf16"
    FP16 = "fp16"


def finetune(
    files: Annotated[list[Path], typer.Argument(help="Files or folders that ASE reads, with energies and forces.")],
    checkpoint: Annotated[Path, typer.Option(help="The model to tune: any EquiformerV2 that `ev2 inspect` reads.")],
    out: Annotated[Path, typer.Option(help="Folder for everything; the same call goes on where one was stopped.")],
    split: Annotated[
        str | None, typer.Option(help="Shares of training, validation, test: 0.8,0.1,0.1 without --val.")
    ] = None,
    val: Annotated[list[Path] | None, typer.Option(help="Validation source; FILES are then for training.")] = None,
    test: Annotated[list[Path] | None, typer.Option(help="Test source, beside --val.")] = None,
    seed: Annotated[int, typer.Option(help="Of the split and of the training.")] = 0,
    references: Annotated[
        References, typer.Option(help="Element references: the checkpoint's, new ones, or what the energies ask for.")
    ] = References.AUTO,
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the training structures.")] = 16,
    lr: Annotated[float, typer.Option(help="Largest learning rate.")] = 2e-4,
    batch_size: Annotated[
        int | None, typer.Option(min=1, help="Structures per step: 256, fewer on little data.")
    ] = None,
    freeze: Annotated[str, typer.Option(help="What keeps its weights: none, embedding, blocks:N, backbone.")] = "none",
    patience: Annotated[
        int | None, typer.Option(min=1, help="End after so many validations in a row without gain.")
    ] = None,
    metric: Annotated[Metric, typer.Option(help="Gain in what.")] = Metric.FORCES,
    energy_weight: Annotated[float, typer.Option(help="Of the energy per atom in the loss.")] = 2.5,
    force_weight: Annotated[float, typer.Option(help="Of the forces; less where they are all near zero.")] = 10.0,
    precision: Annotated[Precision, typer.Option(help="Of the training.")] = Precision.FP32,
    amp: Annotated[bool, typer.Option("--amp", help="The same as --precision fp16.")] = False,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    num_gpus: Annotated[int, typer.Option(min=1, help="Processes that train.")] = 1,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Prepare, plan, check the run; do not train.")] = False,
    trust: TrustOption = False,
    as_json: JsonOption = False,
) -> None:
    """Tune a trained model to your own structures: prepare, compare energies, train, judge before and after.

    Example: ev2 finetune my_relaxations/ --checkpoint eq2_31M.pt --out tuned
    """
    from rich.console import Console

    with (
        stoppable(f"stopped; what is done is kept in {out}: the same command goes on"),
        one_sentence_errors(ArithmeticError, RuntimeError),
    ):
        from ev2_plugin.data.splitting import parse_fractions
        from ev2_plugin.finetuning.pipeline import carry_out, check, plan
        from ev2_plugin.finetuning.request import Request
        from ev2_plugin.finetuning.tables import plan_table, result_lines, result_table
        from ev2_plugin.integration.check.render import report_table
        from ev2_plugin.progress import show_progress

        request = Request(
            sources=tuple(files),
            checkpoint=checkpoint,
            out=out,
            val=tuple(val or ()),
            test=tuple(test or ()),
            shares=None if split is None else parse_fractions(split),
            seed=seed,
            references=references.value,
            epochs=epochs,
            lr=lr,
            batch_size=batch_size,
            freeze=freeze,
            patience=patience,
            metric=metric.value,
            energy_weight=energy_weight,
            force_weight=force_weight,
            precision="fp16" if amp else precision.value,
            device=device,
            num_gpus=num_gpus,
            trust=trust,
        )
        messages, console = Console(stderr=True), Console()
        with show_progress("structures", in_bytes=("read",)) as follow:
            made = plan(request, follow)
        (messages if as_json else console).print(plan_table(made, str(out)))
        report = check(request)
        if dry_run:
            if as_json:
                print_json(made.content)
            else:
                console.print(report_table(report, str(out / "run.yml")))
            return
        with show_progress("steps") as follow:
            result = carry_out(request, made, follow)
    if as_json:
        print_json(result)
        return
    console.print(result_table(result))
    for line in result_lines(result):
        console.print(line, soft_wrap=True, highlight=False, markup=False)
