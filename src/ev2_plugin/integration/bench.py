"""How long predictions and training steps take, beside the host's model with the same weights and edges."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from ase import Atoms
from ase.build import add_adsorbate, fcc111, molecule
from torch import Tensor

from ev2_plugin.graph.neighbors import NeighborRule
from ev2_plugin.integration.checkpoint_form import current_form
from ev2_plugin.integration.config import parse_model_settings
from ev2_plugin.integration.fidelity import batch_with_edges
from ev2_plugin.integration.host_classes import check_named_classes
from ev2_plugin.integration.host_settings import host_settings
from ev2_plugin.integration.loading import build_model, read_checkpoint
from ev2_plugin.integration.pairing import HOST, Contender, Setting, check, contenders, runs
from ev2_plugin.integration.precision import network_of
from ev2_plugin.integration.run_config import find_config, load_config
from ev2_plugin.integration.stand_ins import with_stand_ins
from ev2_plugin.integration.timing import alternating, machine
from ev2_plugin.model import presets
from ev2_plugin.model.config import ModelConfig
from ev2_plugin.model.state_dict import strip_module_prefix
from ev2_plugin.storage.safetensors_file import SUFFIX

PRESETS = tuple(sorted(name for name, value in vars(presets).items() if isinstance(value, ModelConfig)))
TASKS: dict[str, Callable[[Contender, Any], None]] = {
    "prediction": Contender.infer,
    "training_step": Contender.train_step,
}


def read_model(source: str, *, trust: bool = False) -> tuple[dict[str, Any], Mapping[str, Tensor] | None]:
    """The model section and the weights of a checkpoint, a run file or a preset; the last two have no weights.

    Args:
        source: Path of a checkpoint or run file, or a name in `PRESETS`.
        trust: Whether a checkpoint comes from somebody trusted.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is neither, or no EquiformerV2.
    """
    if source in PRESETS:
        return {"name": "ev2_plugin.EquiformerV2", **vars(getattr(presets, source))}, None
    path = Path(source)
    if path.suffix in (".pt", SUFFIX):
        content = current_form(read_checkpoint(path, trust=trust), path)
        if not trust:
            check_named_classes(content["config"], path)
        return dict(content["config"]["model"]), content["state_dict"]
    if path.suffix in (".yml", ".yaml"):
        settings = load_config(find_config(path))[0].get("model") or {}
        if "name" not in settings:
            raise ValueError(f"{source}: it has no model section with a name")
        return with_stand_ins(settings), None
    raise ValueError(f"neither a checkpoint nor a run file nor a preset; presets are {', '.join(PRESETS)}")


def built_in_slab() -> Atoms:
    """CO on copper, 66 atoms, about the mean of OC20; off its lattice so that no two distances are equal."""
    atoms = fcc111("Cu", (4, 4, 4), vacuum=10, periodic=True)
    add_adsorbate(atoms, molecule("CO"), 1.9, "ontop")
    atoms.rattle(0.05, seed=0)
    return atoms


def bench(
    settings: Mapping[str, Any],
    weights: Mapping[str, Tensor] | None,
    structures: Sequence[Atoms],
    device: torch.device,
    *,
    repeats: int,
    tasks: Sequence[str] = tuple(TASKS),
) -> dict[str, Any]:
    """Compare answers, then time both in turn, in this process.

    Edges are found once and given to both: the time of neighbour search is not in it. Random weights say as much
    about time as trained ones.

    Args:
        settings: Model section of the plugin.
        weights: Its state dict; None for random weights.
        structures: One batch, periodic in all directions (the host takes no other).
        device: Where to run.
        repeats: Samples of each.
        tasks: Some of `TASKS`.

    Returns:
        Sizes, deviations of ours from the host's answers, times in seconds, device and versions. Where the host has no
        such model ours is timed alone, and `without_host` says why.

    Raises:
        DisagreementError: If the answers differ; nothing is timed then.
        ValueError: If a structure is not periodic, or the section is wrong.
    """
    flat = [number for number, atoms in enumerate(structures) if not atoms.pbc.all()]
    if flat:
        raise ValueError(
            f"structure {flat[0]} is not periodic in all directions: the host's model takes no other batch"
        )
    config, _ = parse_model_settings(_network(settings))
    rule = NeighborRule(config.max_radius, config.max_neighbors, config.enforce_max_neighbors_strictly)
    batch = batch_with_edges(structures, rule, torch.float32).to(device)
    deviations, reason = None, None
    try:
        theirs, own = host_settings(settings)
    except ValueError as error:
        found, reason = {"ours": _alone(settings, weights, device)}, str(error)
    else:
        found = contenders(theirs, {"host": HOST, "ours": Setting(own)}, device.type, weights)
        deviations = dict(check(found, batch, gradients="training_step" in tasks).deviations["ours"])
    times = {task: alternating(runs(found, TASKS[task], batch), repeats, device.type) for task in tasks}
    return {
        "parameters": sum(parameter.numel() for parameter in found["ours"].model.parameters()),
        "weights": "random" if weights is None else "of the checkpoint",
        "structures": len(structures),
        "atoms": int(batch.natoms.sum()),
        "edges": batch.edge_index.shape[1],
        "precision": config.precision,
        "without_host": reason,
        "deviations": deviations,
        "seconds": {task: _with_ratio(of_task) for task, of_task in times.items()},
        "machine": machine(device.type),
    }


def _network(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Keys of the network in a flat or hydra section."""
    network = settings.get("backbone", settings)
    return {key: value for key, value in network.items() if key not in ("name", "model")}


def _alone(settings: Mapping[str, Any], weights: Mapping[str, Tensor] | None, device: torch.device) -> Contender:
    """Our model where the host has none like it."""
    model = build_model(settings)
    network = network_of(model)
    network.options = replace(network.options, otf_graph=False)
    if weights is not None:
        model.load_state_dict({strip_module_prefix(name): value for name, value in weights.items()}, strict=True)
    optimizer = torch.optim.AdamW(model.to(device).parameters(), lr=0.0)
    return Contender(model, Setting({}), optimizer, torch.amp.GradScaler(device.type, enabled=False))


def _with_ratio(times: dict[str, dict[str, Any]]) -> dict[str, Any]:
    if "host" not in times:
        return times
    return {**times, "host_over_ours": times["host"]["median"] / times["ours"]["median"]}
