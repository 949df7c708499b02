"""What is done to labels before the loss: normalisers and references that can be meant."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from fairchem.core.modules.normalization.element_references import LinearReferences
from fairchem.core.modules.normalization.normalizer import Normalizer

_NUMBERS = ("mean", "rmsd", "stdev")


def check_normalizer_settings(settings: Any) -> None:
    """Look for values of which the host would make nothing, or an error that does not name them.

    Args:
        settings: `dataset.train.transforms.normalizer` of a config.

    Raises:
        ValueError: Naming the key.
    """
    if not isinstance(settings, Mapping):
        raise ValueError(f"normalizer must map outputs to their mean and rmsd, got {settings!r}")
    for target, entry in settings.items():
        if target == "file":
            continue
        if not isinstance(entry, Mapping):
            raise ValueError(f"normalizer.{target} must be a mapping, got {entry!r}")
        if target == "fit":
            if not isinstance(entry.get("targets"), Mapping | list):
                raise ValueError(f"normalizer.fit.targets must name outputs, got {entry.get('targets')!r}")
            continue
        for key in _NUMBERS:
            value = entry.get(key, 0.0)
            if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
                raise ValueError(
                    f"normalizer.{target}.{key} must be a finite number, got {value!r} (YAML takes 1e-1 for text, "
                    "1.0e-1 for a number)"
                )
        if "mean" in entry and not {"rmsd", "stdev"} & set(entry):
            raise ValueError(f"normalizer.{target} has a mean but no rmsd")


def check_label_transforms(
    normalizers: Mapping[str, Normalizer],
    references: Mapping[str, LinearReferences],
    outputs: Mapping[str, Mapping[str, Any]],
) -> None:
    """Refuse normalisers and references that no output has a use for; fitted numbers are looked at too.

    Args:
        normalizers: By target.
        references: By target.
        outputs: The trainer's outputs by name.

    Raises:
        ValueError: Naming the target and what is wrong.
    """
    for kind, targets in (("normalizer", normalizers), ("element_references", references)):
        for target in targets:
            if target not in outputs:
                raise ValueError(f"{kind}.{target}: no such output; outputs are {', '.join(outputs)}")
    for target in references:
        if outputs[target]["level"] != "system":
            raise ValueError(f"element_references.{target}: only outputs of level system have references")
    for target, one in normalizers.items():
        if not (torch.isfinite(one.mean).all() and torch.isfinite(one.rmsd).all() and (one.rmsd > 0).all()):
            raise ValueError(
                f"normalizer.{target}: mean {one.mean.tolist()}, rmsd {one.rmsd.tolist()}; needed are a finite mean "
                "and a positive rmsd. (A fit gives NaN if an element of its samples has no reference)"
            )
