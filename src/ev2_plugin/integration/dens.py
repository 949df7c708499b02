"""Weights of DeNS models (denoising of non-equilibrium structures, arXiv:2403.09549) as those of plain ones.

In training, a DeNS model takes structures with noise in their positions, together with their forces, and predicts
the noise. Without noise and forces, which is how it predicts, the host's code leaves of all this:

* the encodings of forces (0) and of the noise's scale (0): their biases, added to the scalars of every atom. Added to
  the element embeddings once, they do the same, to the last bit;
* the head that predicts noise: nothing.

Its heads have other names for the same blocks.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor

from ev2_plugin.model.state_dict import DERIVED, strip_module_prefix

_BLOCKS = (
    (re.compile(r"(^|\.)scalar_block\."), r"\1energy_block."),
    (re.compile(r"(^|\.)vector_block\."), r"\1force_block."),
)
_ENCODINGS = ("force_embedding.", "noise_schedule_sigma_embedding.")
_NOISE_HEAD = re.compile(r"(?:^|\.)denoising_pos_block\.")
_BACKBONE = "backbone."
_FROZEN = "energy_lin_ref"


def is_of_dens(names: Iterable[str]) -> bool:
    """Whether weights of these names are a DeNS model's."""
    return any(_is_extra(name) or _renamed(name) != name for name in map(strip_module_prefix, names))


def without_denoising(checkpoint: Mapping[str, Any], source: object) -> dict[str, Any]:
    """A checkpoint whose weights, averaged ones too, are those of the plain model that predicts the same.

    Args:
        checkpoint: `state_dict`, and perhaps `ema`. One of another model is returned as it is.
        source: What to call it in messages.

    Raises:
        ValueError: If the averaged weights are not as many as the trained ones.
    """
    if not is_of_dens(checkpoint["state_dict"]):
        return dict(checkpoint)
    weights = {strip_module_prefix(name): value for name, value in checkpoint["state_dict"].items()}
    made: dict[str, Any] = {**checkpoint, "state_dict": plain_weights(weights)}
    if (averages := checkpoint.get("ema")) is not None:
        names, shadows = trained_names(weights, len(averages["shadow_params"])), averages["shadow_params"]
        if len(names) != len(shadows):
            raise ValueError(
                f"checkpoint {source} has {len(shadows)} averaged weights beside {len(names)} trained ones of a DeNS "
                "model: `ev2 convert --raw` leaves the averages"
            )
        plain = plain_weights(dict(zip(names, shadows, strict=True)))
        made["ema"] = {**averages, "shadow_params": list(plain.values())}
    left = [name for name in weights if _NOISE_HEAD.search(name) and not DERIVED.search(name)]
    logging.info(
        f"{source} is a DeNS model's. Its encodings of forces and noise are added to the element embeddings; "
        f"{len(left)} weights of the head that predicts noise are left out. Without forces and noise as input the "
        "plain model predicts the same"
    )
    return made


def trained_names(weights: Iterable[str], count: int) -> list[str]:
    """Names of the parameters in a state dict, which has them in the order of lists of averages.

    Args:
        weights: Names without wrappers' prefixes.
        count: How many there should be. The linear reference is not trained, but averages may have it.
    """
    parameters = [name for name in weights if not DERIVED.search(name)]
    trained = [name for name in parameters if not name.endswith(_FROZEN)]
    return parameters if len(parameters) == count else trained


def plain_weights(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights of the plain model that predicts what a DeNS model does; those of other models stay as they are.

    Args:
        weights: By names without wrappers' prefixes.
    """
    plain = {_renamed(name): value for name, value in weights.items() if not _is_extra(name)}
    prefix = _BACKBONE if any(name.startswith(_BACKBONE) for name in weights) else ""
    embedding = f"{prefix}sphere_embedding.weight"
    # in the order in which the host adds them, so that rounding is the same
    for bias in (f"{prefix}{encoding}bias" for encoding in _ENCODINGS):
        if bias in weights and embedding in plain:
            plain[embedding] = plain[embedding] + weights[bias]
    return plain


def _renamed(name: str) -> str:
    for pattern, ours in _BLOCKS:
        name = pattern.sub(ours, name)
    return name


def _is_extra(name: str) -> bool:
    return name.removeprefix(_BACKBONE).startswith(_ENCODINGS) or _NOISE_HEAD.search(name) is not None
