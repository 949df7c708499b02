"""`ev2 precision`: what each precision costs in accuracy."""

from pathlib import Path
from typing import Annotated

import typer

from ev2_plugin.cli.completion import complete_config
from ev2_plugin.cli.json_output import JsonOption, print_json
from ev2_plugin.cli.options import DeviceOption
from ev2_plugin.cli.terminal import TrustOption, one_sentence_errors


def precision(
    dataset: Annotated[Path, typer.Option(help="Structures: .lmdb, .db or .aselmdb files, or a folder of them.")],
    config_yml: Annotated[
        Path | None, typer.Option(help="Run file with the model section.", autocompletion=complete_config)
    ] = None,
    checkpoint: Annotated[Path | None, typer.Option(help="Weights; without one, untrained.")] = None,
    samples: Annotated[int, typer.Option(min=1, help="Structures, evenly spread over the dataset.")] = 8,
    batch_size: Annotated[int, typer.Option(min=1, help="Structures computed at a time.")] = 4,
    device: DeviceOption = "cpu",
    trust: TrustOption = False,
    as_json: JsonOption = False,
) -> None:
    """Deviation of energies, forces and other outputs from float64 at each precision of a model.

    Example: ev2 precision --checkpoint best_checkpoint.pt --dataset data/mine/val --samples 4
    """
    from rich.console import Console

    from ev2_plugin.integration.loading import choose_device
    from ev2_plugin.integration.precision import available, deviations
    from ev2_plugin.integration.precision_source import deviation_table, read_batches, read_source

    with one_sentence_errors(RuntimeError, about=checkpoint or config_yml or dataset):
        place = choose_device(device)
        source = read_source(config_yml, checkpoint, trust=trust)
        batches = list(read_batches(dataset, samples, batch_size, trust=trust))
        with Console(stderr=True).status("float64, then each precision"):
            rows = deviations(source.build, batches, available(place), place, source.scales)
    structures = sum(batch.num_graphs for batch in batches)
    if as_json:
        print_json({"structures": structures, "device": str(place), "scales": source.scales, "precisions": rows})
        return
    Console().print(deviation_table(rows, source.scales, f"deviation from float64, {structures} structures, {place}"))
    if place.type != "cuda":
        typer.echo("high, tf32: without TF32 units these are highest")
