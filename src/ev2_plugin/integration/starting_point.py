"""A trained model as the start of another training: its weights, its scale and what its energies are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from ase.data import chemical_symbols
from fairchem.core.models.base import HydraModel
from torch import Tensor, nn

from ev2_plugin.integration.checkpoint_form import current_form
from ev2_plugin.integration.element_references import from_elements
from ev2_plugin.integration.energy_kind import EnergyKind, energy_kind
from ev2_plugin.integration.heads import EnergyHead, ForceHead
from ev2_plugin.integration.host_classes import check_named_classes
from ev2_plugin.integration.loading import build_model, read_checkpoint
from ev2_plugin.integration.saved_transforms import saved_normalizers, saved_references
from ev2_plugin.integration.sidecar import plain_value
from ev2_plugin.integration.stand_ins import names_our_model
from ev2_plugin.integration.weights import chosen_weights
from ev2_plugin.storage.checkpoint_file import write_checkpoint
from ev2_plugin.storage.digest import digest_of

TARGETS = ("energy", "forces")


@dataclass(frozen=True)
class StartingPoint:
    """What a training can start from.

    Attributes:
        source: The checkpoint.
        digest: Of the weights.
        model: The config's model section, with heads for energies and forces alone.
        outputs: The config's entries of energy and forces.
        loss_functions: What it was trained by.
        weights: Averaged ones where the file has them.
        normalizers: Mean and rmsd by target.
        references: Of the energy, eV per atom by element symbol; None without.
        energy: What its energies are.
        left_out: Heads for anything else: on a backbone that is trained on without them they would predict nothing.
    """

    source: Path
    digest: str
    model: Mapping[str, Any]
    outputs: Mapping[str, Any]
    loss_functions: list[Any]
    weights: Mapping[str, Tensor]
    normalizers: Mapping[str, Mapping[str, float]]
    references: Mapping[str, float] | None
    energy: EnergyKind
    left_out: tuple[str, ...]

    @property
    def num_blocks(self) -> int:
        """Transformer blocks."""
        return int((self.model.get("backbone") or self.model)["num_layers"])


def read_starting_point(checkpoint: Path, *, trust: bool = False) -> StartingPoint:
    """Read a checkpoint of any layout that the plugin takes.

    Raises:
        FileNotFoundError: If there is no such file.
        Refused: If it holds more than data, or names classes of other packages. Nothing was executed.
        ValueError: If it is no EquiformerV2 with energies and forces, or damaged.
    """
    content = current_form(read_checkpoint(checkpoint, trust=trust), checkpoint)
    config = content["config"]
    if not trust:
        check_named_classes(config, checkpoint)
    if not names_our_model(config["model"]):
        raise ValueError(f"{checkpoint} is a model {config['model']['name']!r}; only EquiformerV2 is tuned")
    missing = [target for target in TARGETS if target not in config["outputs"]]
    if missing:
        raise ValueError(
            f"{checkpoint} predicts {', '.join(config['outputs'])}: fine-tuning needs a model of energies and forces"
        )
    with torch.device("meta"):
        model = build_model(config["model"])
    weights = chosen_weights(model, content, checkpoint)
    settings, left_out = _of_energies_and_forces(config["model"], model)
    weights = {
        name: value.clone()
        for name, value in weights.items()
        if not any(name.startswith(f"output_heads.{head}.") for head in left_out)
    }
    normalizers, references = saved_normalizers(content, checkpoint), saved_references(content, checkpoint)
    energies = references.get("energy")
    return StartingPoint(
        source=checkpoint,
        digest=digest_of(weights),
        model=plain_value(settings),
        outputs={target: plain_value(_with_levels(target, config["outputs"][target])) for target in TARGETS},
        loss_functions=plain_value(config["loss_functions"]),
        weights=weights,
        normalizers={
            target: {"mean": float(one.mean), "rmsd": float(one.rmsd)}
            for target, one in normalizers.items()
            if target in TARGETS
        },
        references=None if energies is None else _by_symbol(energies.element_references),
        energy=energy_kind(config, normalizers, references),
        left_out=left_out,
    )


def _of_energies_and_forces(settings: Mapping[str, Any], model: nn.Module) -> tuple[dict[str, Any], tuple[str, ...]]:
    heads = settings.get("heads")
    if not heads or not isinstance(model, HydraModel):
        return dict(settings), ()
    kept = {name: one for name, one in heads.items() if type(model.output_heads[name]) in (EnergyHead, ForceHead)}
    return {**settings, "heads": kept}, tuple(name for name in heads if name not in kept)


def _with_levels(target: str, output: Mapping[str, Any]) -> dict[str, Any]:
    if target == "energy":
        return {"level": "system", **output}
    return {"level": "atom", "train_on_free_atoms": True, "eval_on_free_atoms": True, **output}


def _by_symbol(table: Tensor) -> dict[str, float]:
    return {chemical_symbols[z]: value for z, value in enumerate(table.tolist()) if value == value and z > 0}


def write_start(path: Path, start: StartingPoint, references: Mapping[str, float] | None, kind: str | None) -> None:
    """Write what a training is given as its checkpoint: weights and scale, nothing of an earlier training's state.

    Args:
        path: The file.
        start: The model.
        references: Those that the training is to use, by symbol, for elements that have one.
        kind: What the energies then are (`task.energy`); None if nobody knows.

    Raises:
        OSError: If it cannot be written.
    """
    tables = {} if references is None else from_elements({"energy": {"elements": dict(references)}})
    write_checkpoint(
        path,
        {
            "state_dict": dict(start.weights),
            "normalizers": {
                target: {key: torch.tensor(value) for key, value in one.items()}
                for target, one in start.normalizers.items()
            },
            "elementrefs": {target: entry["state_dict"] for target, entry in tables.items()},
            "config": {
                "model": dict(start.model),
                "outputs": dict(start.outputs),
                "loss_functions": start.loss_functions,
                "evaluation_metrics": {},
                "task": {} if kind is None else {"energy": kind},
                "dataset": {},
                "optim": {},
            },
            "val_metrics": None,
            "amp": None,
            "converted_from": {"file": start.source.name, "digest_of_state_dict": start.digest},
        },
    )
