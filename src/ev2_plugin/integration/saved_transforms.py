"""Normalisers and element references of a checkpoint, without a trainer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from fairchem.core.modules.normalization.element_references import LinearReferences, create_element_references
from fairchem.core.modules.normalization.normalizer import Normalizer

from ev2_plugin.integration.element_references import from_elements, only_fitted


def saved_normalizers(content: Mapping[str, Any], source: object) -> dict[str, Normalizer]:
    """Normalisers by target, out of a checkpoint in its current form or out of its config.

    Raises:
        ValueError: If the config names one that neither has.
    """
    found = {name: Normalizer(**state) for name, state in content["normalizers"].items()}
    for target, entry in _transforms(content["config"], "normalizer").items():
        deviation = entry.get("rmsd", entry.get("stdev"))
        if target not in found and deviation is not None:
            found[target] = Normalizer(torch.as_tensor(entry.get("mean", 0.0)), torch.as_tensor(deviation))
        _require(target in found, source, f"normaliser of {target}")
    return found


def saved_references(content: Mapping[str, Any], source: object) -> dict[str, LinearReferences]:
    """Element references by target, out of a checkpoint in its current form or out of its config.

    Raises:
        ValueError: If the config names some that neither has, or coefficients have no meaning.
    """
    found = {target: create_element_references(state_dict=state) for target, state in content["elementrefs"].items()}
    for target, entry in from_elements(_transforms(content["config"], "element_references")).items():
        if target not in found and "state_dict" in entry:
            found[target] = create_element_references(state_dict=entry["state_dict"])
        _require(target in found, source, f"element references of {target}")
    return only_fitted(found)


def _transforms(config: Mapping[str, Any], name: str) -> dict[str, Mapping[str, Any]]:
    """What the config says of each target; what was fitted or read from a file says nothing but the target."""
    given = dict(((config.get("dataset") or {}).get("transforms") or {}).get(name) or {})
    given.pop("file", None)
    fitted = given.pop("fit", {}).get("targets", [])
    return {**{target: {} for target in fitted}, **given}


def _require(present: bool, source: object, what: str) -> None:
    if not present:
        raise ValueError(f"checkpoint {source} lacks the {what} that its config names")
