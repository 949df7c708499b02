"""`ev2 estimate`: peak memory and the largest batch of a config."""

import re
from typing import Annotated

import typer

from ev2_plugin.cli.json_output import JsonOption, print_json
from ev2_plugin.cli.options import ConfigArgument, OverridesArgument
from ev2_plugin.cli.terminal import one_sentence_errors

_UNITS = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}


def estimate(
    config: ConfigArgument,
    arguments: OverridesArgument = None,
    train: Annotated[bool | None, typer.Option("--train/--predict", help="Only training, or only predictions.")] = None,
    memory: Annotated[
        str | None, typer.Option(help="Of the device, like 80GB or 141GB; without it, of the GPU or computer here.")
    ] = None,
    cpu: Annotated[bool, typer.Option("--cpu", help="The run is meant for a CPU.")] = False,
    atoms: Annotated[int | None, typer.Option(min=1, help="Atoms per structure, instead of a dataset.")] = None,
    edges_per_atom: Annotated[float | None, typer.Option(help="Edges per atom, instead of a dataset.")] = None,
    num_gpus: Annotated[int, typer.Option(min=1, help="Processes per node of the run that is meant.")] = 1,
    num_nodes: Annotated[int, typer.Option(min=1, help="Its nodes.")] = 1,
    as_json: JsonOption = False,
) -> None:
    """Estimate peak memory and the largest batch, for every level of activation_checkpoint.

    The model is followed through a step on tensors without data: nothing is trained, and no GPU is needed.

    Example: ev2 estimate oc20/s2ef_2M_83M.yml --memory 80GB --atoms 73 --edges-per-atom 20
    """
    from rich.console import Console

    from ev2_plugin.integration import estimate as library
    from ev2_plugin.integration.check.dry_run import training_config
    from ev2_plugin.integration.dataset_sizes import dataset_sizes, given_sizes
    from ev2_plugin.integration.estimate_table import as_dict, batch_table, held_table

    flags = ["--num-gpus", str(num_gpus), "--num-nodes", str(num_nodes), *(["--cpu"] if cpu else [])]
    with one_sentence_errors(about=config):
        if (atoms is None) != (edges_per_atom is None):
            raise ValueError("--atoms and --edges-per-atom belong together: give both or neither")
        run = training_config(config, [*flags, *(arguments or [])])
        device_type, name, available = _device(cpu, None if memory is None else _bytes(memory))
        with Console(stderr=True).status("reading sizes, following a step of every kind"):
            if atoms is not None and edges_per_atom is not None:
                sizes = given_sizes(atoms, edges_per_atom)
            else:
                sizes = dataset_sizes(run)
            uses = (True, False) if train is None else (train,)
            estimates = library.estimate(run, sizes, device_type, available, uses)
    if as_json:
        device = {"name": name, "type": device_type, "memory": available}
        print_json({"config": config, "device": device, **as_dict(estimates, sizes, library.configured_level(run))})
        return
    console = Console()
    console.print(held_table(estimates, sizes, str(config)))
    console.print(batch_table(estimates, library.configured_level(run), available, name))


def _bytes(text: str) -> int:
    found = re.fullmatch(r"(\d+(?:\.\d+)?) ?([kMGT]i?|)B?", text.strip())
    if not found or not float(found[1]):
        raise ValueError(f"--memory {text}: needs a number and a unit, like 80GB or 40GiB")
    return round(float(found[1]) * _UNITS[found[2]])


def _device(cpu: bool, memory: int | None) -> tuple[str, str, int]:
    """Kind, name and memory of the device that is meant: the GPU here, one of the memory given, or the CPU."""
    import os

    import torch

    if not cpu and torch.cuda.is_available():
        present = torch.cuda.get_device_properties(0)
        return "cuda", present.name, memory or present.total_memory
    if not cpu and memory is not None:
        return "cuda", "a GPU", memory
    return "cpu", "a CPU", memory or os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
