"""`ev2 precision`: what each precision costs in accuracy."""

from pathlib import Path
from typing import Annotated

import typer

from ev2_plugin.cli.terminal import TrustOption


def precision(
    dataset: Annotated[Path, typer.Option(help="Structures: .lmdb, .db or .aselmdb files, or a folder of them.")],
    config_yml: Annotated[Path | None, typer.Option(help="Run file with the model section.")] = None,
    checkpoint: Annotated[Path | None, typer.Option(help="Weights; without one, untrained.")] = None,
    samples: Annotated[int, typer.Option(min=1, help="Structures, evenly spread over the dataset.")] = 8,
    batch_size: Annotated[int, typer.Option(min=1, help="Structures computed at a time.")] = 4,
    device: Annotated[str, typer.Option(help="cpu, cuda or cuda:N.")] = "cpu",
    trust: TrustOption = False,
) -> None:
    """Deviation of energies, forces and other outputs from float64 at each precision of a model."""
    import torch
    from rich.console import Console

    from ev2_plugin.integration.precision import available, deviations
    from ev2_plugin.integration.precision_source import deviation_table, read_batches, read_source

    try:
        place = torch.device(device)
        source = read_source(config_yml, checkpoint, trust=trust)
        batches = list(read_batches(dataset, samples, batch_size, trust=trust))
        with Console(stderr=True).status("float64, then each precision"):
            rows = deviations(source.build, batches, available(place), place, source.scales)
    except (ImportError, MemoryError, OSError, RuntimeError, ValueError) as error:
        typer.secho(f"{checkpoint or config_yml or dataset}: {error}", err=True, fg=typer.colors.RED)
        raise typer.Exit(1) from error
    structures = sum(batch.num_graphs for batch in batches)
    Console().print(deviation_table(rows, source.scales, f"deviation from float64, {structures} structures, {place}"))
    if place.type != "cuda":
        typer.echo("high, tf32: without TF32 units these are highest")
