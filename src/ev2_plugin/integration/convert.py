"""Checkpoints of any layout -> safetensors with a sidecar, or a plain checkpoint of the plugin."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ev2_plugin.integration.checkpoint_form import current_form
from ev2_plugin.integration.energy_kind import energy_kind
from ev2_plugin.integration.host_classes import check_named_classes
from ev2_plugin.integration.layouts import Layout, in_layout, layout_of
from ev2_plugin.integration.loading import build_model, read_checkpoint
from ev2_plugin.integration.saved_transforms import saved_normalizers, saved_references
from ev2_plugin.integration.sidecar import described, plain_value
from ev2_plugin.integration.stand_ins import names_our_model
from ev2_plugin.integration.weights import check_weights, chosen_weights
from ev2_plugin.storage.checkpoint_file import write_checkpoint
from ev2_plugin.storage.digest import digest_of
from ev2_plugin.storage.safetensors_file import SUFFIX, sidecar_of, write_weights

_KEPT = (
    *("trainer", "model", "outputs", "loss_functions", "evaluation_metrics", "task", "dataset", "optim"),
    *("commit", "seed"),
)
"""Sections of a config that say something of a model; others hold paths and flags of a machine."""


@dataclass(frozen=True)
class Converted:
    """What was written.

    Attributes:
        files: Which files.
        layout: Of the model.
        numbers: How many the weights are.
        averaged: Whether they are the averaged ones of the file they come from.
        energy: What the model's energies are, and where that is known from.
        digest: Of the weights.
    """

    files: tuple[Path, ...]
    layout: Layout
    numbers: int
    averaged: bool
    energy: str
    digest: str


def convert(
    checkpoint: Path, out: Path, *, layout: str | None = None, raw: bool = False, trust: bool = False
) -> Converted:
    """Write a checkpoint anew: weights, and what is needed to predict with them; no state of training.

    Args:
        checkpoint: Of any layout that `load_potential` takes.
        out: `*.safetensors`, with a sidecar `*.json` beside it; or `*.pt`, which `torch.load(..., weights_only=True)`
            reads.
        layout: `flat` or `hydra`; None for that of the checkpoint.
        raw: Take the weights of the last step where the file has averaged ones.
        trust: Whether the checkpoint comes from somebody trusted: then what it asks for is executed.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file cannot be read, is of another model, does not fit its own config, or cannot take the
            layout.
        OSError: If the output cannot be written.
    """
    if out.suffix not in (SUFFIX, ".pt"):
        raise ValueError(f"{out}: the output ends in {SUFFIX} or .pt")
    if out.exists() and out.samefile(checkpoint):
        raise ValueError(f"{out} is the checkpoint itself: give the output another name")
    content = read_checkpoint(checkpoint, trust=trust)
    digest = digest_of(content["state_dict"])
    content = current_form(content, checkpoint)
    settings = content["config"]["model"]
    if not trust:
        check_named_classes(content["config"], checkpoint)
    if not names_our_model(settings):
        raise ValueError(f"{checkpoint} is a model {settings['name']!r}; only EquiformerV2 is converted")
    with torch.device("meta"):
        model = build_model(settings)
    averaged = content.get("ema") is not None and not raw
    weights = chosen_weights(model, content, checkpoint, averaged=averaged)
    settings, weights = in_layout(settings, weights, layout or layout_of(settings))
    with torch.device("meta"):
        check_weights(build_model(settings), weights, out)
    content = {**content, "config": {**content["config"], "model": plain_value(settings)}}
    normalizers, references = saved_normalizers(content, checkpoint), saved_references(content, checkpoint)
    kind = energy_kind(content["config"], normalizers, references)
    source = {
        "file": checkpoint.name,
        "digest_of_state_dict": digest,
        "averaged": averaged,
        **{key: plain_value(content[key]) for key in ("epoch", "step", "ev2_plugin") if content.get(key) is not None},
    }
    if out.suffix == SUFFIX:
        write_weights(out, weights, {"source": source, **described(content, checkpoint)})
        files: tuple[Path, ...] = (out, sidecar_of(out))
    else:
        _write_plain(out, content, weights, normalizers, references, source)
        files = (out,)
    numbers = sum(one.numel() for one in weights.values())
    return Converted(files, layout_of(settings), numbers, averaged, str(kind), digest_of(weights))


def _write_plain(
    out: Path,
    content: Mapping[str, Any],
    weights: Mapping[str, torch.Tensor],
    normalizers: Mapping[str, torch.nn.Module],
    references: Mapping[str, torch.nn.Module],
    source: Mapping[str, Any],
) -> None:
    """A checkpoint as trainers write their best one, of plain containers only."""
    made = {
        # clones: a view would take all of its storage into the file
        "state_dict": {name: value.clone() for name, value in weights.items()},
        "normalizers": {name: dict(one.state_dict()) for name, one in normalizers.items()},
        "elementrefs": {name: dict(one.state_dict()) for name, one in references.items()},
        "config": {key: plain_value(content["config"][key]) for key in _KEPT if key in content["config"]},
        "val_metrics": plain_value(content.get("val_metrics")),
        "amp": None,
        "converted_from": dict(source),
    }
    write_checkpoint(out, made)
