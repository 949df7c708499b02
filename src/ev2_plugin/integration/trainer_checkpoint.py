"""Checkpoints for a trainer, whose run file says what the model is: any file that has its weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ev2_plugin.integration.checkpoint_form import current_normalizers
from ev2_plugin.integration.dens import without_denoising
from ev2_plugin.integration.sidecar import content_of
from ev2_plugin.storage.checkpoint_file import read_checkpoint
from ev2_plugin.storage.safetensors_file import SUFFIX, read_weights


def read_for_trainer(path: Path, *, trust: bool = False) -> dict[str, Any]:
    """The content of a checkpoint with the weights of a plain model.

    Args:
        path: Of a trainer, a DeNS model's too; or `*.safetensors` of `ev2 convert`, which has no state of training.
        trust: Execute what the file asks for, if it is not plain.

    Raises:
        FileNotFoundError: If there is no such file.
        Refused: If it asks for something to be executed.
        ValueError: If it is damaged, or no checkpoint.
    """
    if path.suffix == SUFFIX:
        return content_of(*read_weights(path), path)
    content = read_checkpoint(path, trust=trust)
    if "state_dict" not in content:
        raise ValueError(f"{path} is no checkpoint of a trainer: it has no state_dict")
    return {
        **without_denoising(content, path),
        "normalizers": current_normalizers(content.get("normalizers") or {}),
    }
