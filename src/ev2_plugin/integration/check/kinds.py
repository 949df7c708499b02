"""Sections of a config that are of another kind than everybody who reads them relies on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

MAPPING, LIST, TEXT, COUNT = "a mapping of keys to values", "a list", "a text", "a whole number"
_TYPES: dict[str, type | tuple[type, ...]] = {MAPPING: Mapping, LIST: list, TEXT: str, COUNT: int}

_KINDS = {
    "model": MAPPING,
    "model.name": TEXT,
    "model.backbone": MAPPING,
    "model.backbone.model": TEXT,
    "model.heads": MAPPING,
    "model.heads.*": MAPPING,
    "model.heads.*.module": TEXT,
    "dataset": MAPPING,
    "dataset.*": MAPPING,
    "dataset.*.format": TEXT,
    "dataset.*.key_mapping": MAPPING,
    "dataset.*.transforms": MAPPING,
    "dataset.*.transforms.*": MAPPING,
    **{f"dataset.*.{key}": COUNT for key in ("first_n", "sample_n", "max_atoms")},
    "outputs.*": MAPPING,
    "outputs.*.decomposition": MAPPING,
    "outputs.*.decomposition.*": MAPPING,
    "loss_functions.*": MAPPING,
    "evaluation_metrics": MAPPING,
    "evaluation_metrics.metrics": MAPPING,
    "evaluation_metrics.metrics.*": LIST,
    "task": MAPPING,
    "task.relax_opt": MAPPING,
    "optim.optimizer_params": MAPPING,
    "optim.scheduler_params": MAPPING,
    "slurm": MAPPING,
}
"""What stands at a place, if something does; `*` is any name there, or any entry of a list."""

_REQUIRED = ("model", "model.name", "dataset")


def check_kinds(config: Mapping[str, Any]) -> None:
    """Refuse the first section that is of another kind.

    Raises:
        ValueError: With the place, what stands there and what belongs there.
    """
    for place, kind in _KINDS.items():
        found = list(_at(config, place.split("."), ""))
        if not found and place in _REQUIRED:
            raise ValueError(f"{place} is missing: it must be {kind}")
        for where, value in found:
            if not isinstance(value, _TYPES[kind]) or isinstance(value, bool):
                raise ValueError(f"{where} must be {kind}, got {value!r}")
    for where, source in _at(config, ["dataset", "*", "src"], ""):
        if not isinstance(source, str) and not (
            isinstance(source, list) and all(isinstance(one, str) for one in source)
        ):
            raise ValueError(f"{where} must be a file or folder, or a list of them, got {source!r}")


def _at(value: Any, path: list[str], above: str) -> Iterator[tuple[str, Any]]:
    """What stands at a path, with its place; nothing where the path ends before, or at null."""
    if not path:
        if value is not None:
            yield above.removeprefix("."), value
        return
    key, *below = path
    if key != "*":
        if isinstance(value, Mapping) and key in value:
            yield from _at(value[key], below, f"{above}.{key}")
        return
    entries = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list) else ()
    for name, entry in entries:
        yield from _at(entry, below, f"{above}.{name}")
