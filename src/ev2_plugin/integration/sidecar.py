"""What a sidecar says of weights, and a checkpoint's content made of both."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from ase.data import atomic_numbers, chemical_symbols
from torch import Tensor

from ev2_plugin.integration.config import parse_model_settings
from ev2_plugin.integration.energy_kind import energy_kind
from ev2_plugin.integration.saved_transforms import saved_normalizers, saved_references

UNITS = {"energy": "eV", "forces": "eV/Å", "stress": "eV/Å^3", "lengths": "Å"}
"""Of predictions after normalisers and references are undone."""

_KEPT = ("trainer", "model", "outputs", "loss_functions", "evaluation_metrics")


def plain_value(value: Any) -> Any:
    """A value out of a config as JSON has it.

    Raises:
        ValueError: If it is no text, number, true, false or null, nor a list or mapping of these.
    """
    if isinstance(value, Mapping):
        return {str(key): plain_value(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain_value(one) for one in value]
    if isinstance(value, np.generic) or (isinstance(value, Tensor) and value.numel() == 1):
        return value.item()
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise ValueError(f"a config cannot hold a {type(value).__name__}: {value!r}")


def described(content: Mapping[str, Any], source: object) -> dict[str, Any]:
    """What a sidecar says of a checkpoint in its current form.

    Args:
        content: With the plugin's model in its config.
        source: What to call it in messages.

    Raises:
        ValueError: If normalisers or references are missing or of a kind that JSON cannot hold.
    """
    config = content["config"]
    normalizers, references = saved_normalizers(content, source), saved_references(content, source)
    kind = energy_kind(config, normalizers, references)
    settings = dict(config["model"].get("backbone") or config["model"])
    network, _ = parse_model_settings({key: value for key, value in settings.items() if key not in ("name", "model")})
    kept = {key: plain_value(config[key]) for key in _KEPT if key in config}
    # the reason why is below; a config that states the kind is believed
    task = {"energy": kind.name} if kind.name != "unknown" else {}
    return {
        "energy": {"kind": kind.name, "known_from": kind.reason},
        "units": UNITS,
        "cutoff": network.max_radius,
        "max_neighbors": network.max_neighbors,
        "elements": {
            "max_num_elements": network.max_num_elements,
            "symbols": chemical_symbols[1 : network.max_num_elements],
        },
        "normalizers": {
            target: {
                "mean": one.mean.tolist(),
                "rmsd": one.rmsd.tolist(),
                "dtype": _name(one.mean),
            }
            for target, one in normalizers.items()
        },
        "element_references": {target: _by_symbol(one.element_references) for target, one in references.items()},
        "config": {**kept, "dataset": {}, "optim": {}, "task": task},
    }


def content_of(weights: Mapping[str, Tensor], about: Mapping[str, Any], source: object) -> dict[str, Any]:
    """The content of a checkpoint, out of weights and what their sidecar says of them.

    Raises:
        ValueError: If the sidecar lacks something or says it in another way than `described` does.
    """
    try:
        normalizers = {
            target: {key: torch.tensor(one[key], dtype=_dtype(one["dtype"])) for key in ("mean", "rmsd")}
            for target, one in about["normalizers"].items()
        }
        references = {
            target: {"element_references": _table(one)} for target, one in about["element_references"].items()
        }
        config = dict(about["config"])
        stored = dict(about["source"])
    except (AttributeError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"{source}: its sidecar is not one that `ev2 convert` writes ({error!r})") from error
    return {
        "state_dict": dict(weights),
        "config": config,
        "normalizers": normalizers,
        "elementrefs": references,
        "val_metrics": None,
        "amp": None,
        "converted_from": stored,
    }


def _by_symbol(table: Tensor) -> dict[str, Any]:
    values = {
        chemical_symbols[number]: value
        for number, value in enumerate(table.tolist())
        if value == value  # NaN: an element without a reference
    }
    return {"values": values, "length": len(table), "dtype": _name(table)}


def _table(saved: Mapping[str, Any]) -> Tensor:
    table = torch.full((saved["length"],), torch.nan, dtype=_dtype(saved["dtype"]))
    for symbol, value in saved["values"].items():
        table[atomic_numbers[symbol]] = value
    return table


def _name(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _dtype(name: str) -> torch.dtype:
    known = {"float32": torch.float32, "float64": torch.float64, "float16": torch.float16, "bfloat16": torch.bfloat16}
    return known[name]
