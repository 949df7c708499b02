"""What checkpoints of any release hold, in the form that fairchem 1.10 writes."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from fairchem.core.common.utils import update_config
from torch import Tensor

from ev2_plugin.integration.dens import without_denoising
from ev2_plugin.integration.stand_ins import with_stand_ins

OLD_TARGETS = {"target": "energy", "grad_target": "forces"}
"""Names of normalisers in files before fairchem 1.0."""

_OF_ONE_SPLIT = ("format", "src", "transforms", "normalize_labels", "lin_ref", "oc20_ref")


def current_form(checkpoint: Mapping[str, Any], source: object) -> dict[str, Any]:
    """A checkpoint with its config, its model section and its normalisers under the names of today.

    The plugin's classes stand for the host's EquiformerV2; weights of DeNS models become those of plain ones.

    Args:
        checkpoint: `state_dict` and `config`, as any release since the OCP trainers' first wrote them.
        source: What to call it in messages.

    Raises:
        ValueError: If the config is of no known form.
    """
    if not isinstance(checkpoint["state_dict"], Mapping) or not isinstance(checkpoint["config"], Mapping):
        raise ValueError(f"{source} is no checkpoint of a trainer: its state_dict and config are no mappings")
    try:
        config = current_config(checkpoint["config"])
    except (AttributeError, KeyError, NotImplementedError, TypeError) as error:
        raise ValueError(f"{source}: its config is of no form that a trainer writes ({error!r})") from error
    outputs = config.get("outputs")
    if not isinstance(outputs, Mapping) or not all(isinstance(one, Mapping) for one in outputs.values()):
        raise ValueError(f"{source}: its config does not say what is predicted (outputs), got {outputs!r}")
    config["model"] = with_stand_ins(config["model"])
    return {
        **without_denoising(checkpoint, source),
        "config": config,
        "normalizers": current_normalizers(checkpoint.get("normalizers") or {}),
        "elementrefs": dict(checkpoint.get("elementrefs") or {}),
    }


def current_normalizers(states: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Tensor]]:
    """States of normalisers with the names that fairchem 1.10 gives to targets and numbers."""
    return {
        OLD_TARGETS.get(name, name): {
            "mean": torch.as_tensor(state["mean"]),
            "rmsd": torch.as_tensor(state["rmsd"] if "rmsd" in state else state["std"]),
        }
        for name, state in states.items()
    }


def current_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """A checkpoint's config in the form that fairchem 1.10 writes."""
    made = copy.deepcopy(dict(config))
    if "model_attributes" in made:
        made["model"] = {**made.pop("model_attributes"), "name": made["model"]}
    if "name" not in made["model"]:
        raise KeyError("model.name")
    dataset = made.get("dataset") or {}
    if isinstance(dataset, list):
        dataset = dataset[0]
    if "loss_functions" not in made and "loss_fns" not in made:
        # what the host's conversion of the oldest form reads
        made["task"] = {"dataset": "trajectory_lmdb", **(made.get("task") or {})}
        made.setdefault("optim", {})
        if not any(key in dataset for key in _OF_ONE_SPLIT) and "train" in dataset:
            dataset = dataset["train"]
    made["dataset"] = dataset
    return update_config(made)
