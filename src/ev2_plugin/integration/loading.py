"""From a checkpoint to a potential, without a trainer."""

from __future__ import annotations

import errno
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import fairchem.core.models.base  # noqa: F401  registers the hydra model
import torch
from fairchem.core.common.registry import registry
from torch import nn

from ev2_plugin.integration.checkpoint_form import current_form
from ev2_plugin.integration.energy_kind import energy_kind
from ev2_plugin.integration.host_classes import check_named_classes, import_class, named_classes
from ev2_plugin.integration.model_outputs import ModelOutputs, with_parts
from ev2_plugin.integration.potential import HostModelPotential, ModelPotential, potential_of
from ev2_plugin.integration.registration import register
from ev2_plugin.integration.saved_transforms import saved_normalizers, saved_references
from ev2_plugin.integration.sidecar import content_of
from ev2_plugin.integration.weights import load_weights
from ev2_plugin.storage import checkpoint_file
from ev2_plugin.storage.safetensors_file import SUFFIX, read_weights


def load_potential(
    checkpoint: Path | str, device: str = "auto", *, trust: bool = False
) -> ModelPotential | HostModelPotential:
    """Build the model that a checkpoint's config names and give it the checkpoint's weights.

    The host's EquiformerV2 is replaced by the plugin's, which takes the same weights. Averaged weights are taken where
    the file has them. Predictions are made in the weights' precision, whatever the training's autocast was.

    Args:
        checkpoint: Written by fairchem's trainers or the plugin's; or `*.safetensors` written by `ev2 convert`.
        device: `auto` (CUDA if there is any), or a device of torch.
        trust: Whether the file comes from somebody trusted: then what it asks for is executed.

    Returns:
        The potential; its `energy_kind` says what its energies are.

    Raises:
        FileNotFoundError: If there is no such file.
        Refused: If the file holds more than data, or names classes of other packages. Nothing was executed.
        ValueError: If the file is no checkpoint, weights or normalisers are missing, left over or of another shape, or
            the device is not there.
    """
    return load_with_config(checkpoint, device, trust=trust)[0]


def load_with_config(
    checkpoint: Path | str, device: str = "auto", *, trust: bool = False
) -> tuple[ModelPotential | HostModelPotential, dict[str, Any]]:
    """As `load_potential`, with the config of the checkpoint, in the form of today."""
    chosen = choose_device(device)
    content = current_form(read_checkpoint(Path(checkpoint), trust=trust), checkpoint)
    config = content["config"]
    if not trust:
        check_named_classes(config, checkpoint)
    model = build_model(config["model"])
    load_weights(model, content, checkpoint)
    normalizers, references = saved_normalizers(content, checkpoint), saved_references(content, checkpoint)
    outputs = ModelOutputs(
        with_parts(config["outputs"]),
        {name: one.to(chosen) for name, one in normalizers.items()},
        {name: one.to(chosen) for name, one in references.items()},
    )
    kind = energy_kind(config, normalizers, references)
    logging.info(f"{checkpoint}: predicted energies are: {kind}")
    return potential_of(model.to(chosen).eval(), outputs, kind), config


def choose_device(name: str) -> torch.device:
    """The device of a name; `auto` is CUDA if there is any, the CPU otherwise.

    Raises:
        ValueError: If there is no such device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ValueError(f"device must be auto, cpu, cuda or cuda:0 and so on, got {name!r}") from error
    available = torch.cuda.device_count() if device.type == "cuda" else 1 if device.type == "cpu" else 0
    if (device.index or 0) >= available:
        raise ValueError(f"there is no device {name!r} here ({torch.cuda.device_count()} CUDA devices)")
    return device


def read_checkpoint(path: Path, *, trust: bool = False) -> dict[str, Any]:
    """What a checkpoint file holds, tensors on the CPU.

    Args:
        path: The file.
        trust: Whether it comes from somebody trusted: then it may hold, and execute, anything.

    Raises:
        FileNotFoundError: If there is no such file.
        Refused: If it holds more than data. Nothing was executed.
        ValueError: If it is of another kind, cut off or changed, or holds no weights or no config.
    """
    if not path.is_file():
        raise FileNotFoundError(errno.ENOENT, "no such checkpoint", str(path))
    if path.suffix == SUFFIX:
        return content_of(*read_weights(path), path)
    content = checkpoint_file.read_checkpoint(path, trust=trust)
    missing = [key for key in ("state_dict", "config") if key not in content]
    if missing:
        raise ValueError(f"{path} is no checkpoint of a trainer: it has no {' and no '.join(missing)}")
    return content


def build_model(settings: Mapping[str, Any]) -> nn.Module:
    """A model with random weights, neighbours found on the fly.

    Args:
        settings: The config's `model` section.
    """
    settings = {**settings, "otf_graph": True}
    if backbone := settings.get("backbone"):
        settings["backbone"] = {**backbone, **({"otf_graph": True} if "otf_graph" in backbone else {})}
        if settings.get("heads"):
            settings.pop("finetune_config", None)  # all weights are to come from the checkpoint itself
    register()
    for kind, name in named_classes({"model": settings}):
        if kind == "model":
            import_class(kind, name)
    return registry.get_model_class(settings.pop("name"))(**settings)
