"""What a checkpoint file is, read from the file alone: no model is built, and nothing in the file is executed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ase.data import chemical_symbols
from torch import Tensor

from ev2_plugin.integration.checkpoint_form import current_form
from ev2_plugin.integration.config import parse_model_settings
from ev2_plugin.integration.energy_kind import energy_kind
from ev2_plugin.integration.loading import read_checkpoint
from ev2_plugin.integration.saved_transforms import saved_normalizers, saved_references
from ev2_plugin.integration.sidecar import plain_value
from ev2_plugin.integration.stand_ins import names_our_model
from ev2_plugin.model.architecture import Architecture, architecture_of, shapes_of_weights
from ev2_plugin.storage.checkpoint_file import DIGEST
from ev2_plugin.storage.digest import digest_of
from ev2_plugin.storage.outline import Unknown, read_outline
from ev2_plugin.storage.safetensors_file import SUFFIX
from ev2_plugin.storage.torch_file import Refused

Facts = dict[str, dict[str, Any]]
"""By section and name: texts, numbers, true, false, null, lists and mappings of these."""

_ORIGIN = ("trainer", "commit", "identifier", "timestamp_id", "seed")


def inspect_checkpoint(path: Path) -> Facts:
    """Say what a checkpoint is.

    Args:
        path: Of any layout, `.pt` or `.safetensors`.

    Returns:
        Sections `file`, `model`, `heads`, `predictions`, `normalizers`, `element_references`, `training`, `origin` and
        `notes`; those of which the file says nothing are empty.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is damaged, or no checkpoint.
    """
    content, refused = _read(path)
    notes: dict[str, str] = {}
    if refused:
        notes["refused"] = (
            f"the file asks for {', '.join(refused)}, which is no data: it loads with trust only. Nothing of it was "
            "executed; what is said here is the rest of the file"
        )
    state = {name: value for name, value in _map(content.get("state_dict")).items() if isinstance(value, Tensor)}
    shapes = shapes_of_weights((str(name), value.shape) for name, value in state.items())
    found = architecture_of(shapes)
    with_notes = _Noting(notes)
    current: dict[str, Any] = with_notes("config", lambda: current_form({**content, "ema": None}, path)) or {}
    config = current.get("config", {})
    return {
        "file": {
            "name": path.name,
            "bytes": path.stat().st_size,
            "kind": "safetensors with a sidecar" if path.suffix == SUFFIX else "torch",
            "digest_of_state_dict": digest_of(state),
            "tensors": len(state),
            "digest_inside": _digest_inside(content),
        },
        "model": with_notes("model", lambda: dict(_model(config, found, shapes))) or {},
        "heads": with_notes("heads", lambda: _heads(config, found)) or {},
        "predictions": with_notes("predictions", lambda: _predictions(current, path)) or {},
        "normalizers": with_notes("normalizers", lambda: _normalizers(current, path)) or {},
        "element_references": with_notes("element_references", lambda: _references(current, path)) or {},
        "training": with_notes("training", lambda: _training(content)) or {},
        "origin": with_notes("origin", lambda: _origin(content)) or {},
        "notes": notes,
    }


class _Noting:
    """Runs one section; what cannot be read of a strange file becomes a note instead of an end."""

    def __init__(self, notes: dict[str, str]) -> None:
        self.notes = notes

    def __call__(self, section: str, make: Callable[[], Any]) -> Any:
        try:
            return make()
        except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
            said = str(error) if isinstance(error, ValueError) else f"not in a form that is known ({error!r})"
            self.notes[section] = said
            return None


def _read(path: Path) -> tuple[Mapping[str, Any], list[str]]:
    if path.suffix == SUFFIX:
        return read_checkpoint(path), []
    content, asked_for = read_outline(path)
    if not {"state_dict", "config"} & set(_map(content)):
        reason = f"; it asks for {', '.join(asked_for)}, which is no data" if asked_for else ""
        raise (Refused if asked_for else ValueError)(
            f"{path} is no checkpoint of a trainer: it has no state_dict and no config{reason}"
        )
    return content, asked_for


def _digest_inside(content: Mapping[str, Any]) -> str:
    """Whether the file is as it was written, if it says so itself."""
    if DIGEST not in content:
        return "none"
    try:
        found = digest_of({key: value for key, value in content.items() if key != DIGEST})
    except TypeError:  # something that is never written beside a digest
        return "differs: the file was changed"
    return "matches" if found == content[DIGEST] else "differs: the file was changed"


def _map(value: Any) -> Mapping[Any, Any]:
    """A mapping, empty where something else stands in its place."""
    return value if isinstance(value, Mapping) else {}


def _model(
    config: Mapping[str, Any], found: Architecture | None, shapes: Mapping[str, tuple[int, ...]]
) -> Iterator[tuple[str, Any]]:
    settings = config.get("model", {})
    if "name" in settings:
        yield "name", plain_value(settings["name"])
    if found is None:
        yield "parameters", sum(_product(shape) for shape in shapes.values())
        yield "equiformer_v2", False
        return
    sizes = asdict(found)
    yield "layout", "hydra" if sizes.pop("hydra") else "flat"
    del sizes["heads"]
    elements = sizes["max_num_elements"]
    yield from sizes.items()
    yield "elements", f"{chemical_symbols[1]} to {chemical_symbols[min(elements, len(chemical_symbols)) - 1]}"
    if "name" not in settings or not names_our_model(settings):
        return
    given = {
        key: value for key, value in (settings.get("backbone") or settings).items() if key not in ("name", "model")
    }
    network, options = parse_model_settings(given)
    yield "cutoff", network.max_radius
    yield "max_neighbors", network.max_neighbors
    yield "max_neighbors_strict", network.enforce_max_neighbors_strictly
    yield "avg_num_nodes", network.avg_num_nodes
    yield "avg_degree", network.avg_degree
    yield "norm_type", network.norm_type
    yield "grid_resolution", network.grid_resolution
    yield "linear_reference_added", options.use_energy_lin_ref


def _heads(config: Mapping[str, Any], found: Architecture | None) -> dict[str, Any]:
    if heads := config.get("model", {}).get("heads"):
        return {str(name): plain_value(head["module"]) for name, head in heads.items()}
    return {} if found is None else {name: "of a flat model" for name in found.heads}


def _predictions(current: Mapping[str, Any], path: Path) -> dict[str, Any]:
    if not current:
        return {}
    config = current["config"]
    kind = energy_kind(config, saved_normalizers(current, path), saved_references(current, path))
    return {
        "outputs": [str(name) for name in config.get("outputs", {})],
        "energy": kind.name,
        "known_from": kind.reason,
    }


def _normalizers(current: Mapping[str, Any], path: Path) -> dict[str, Any]:
    found = saved_normalizers(current, path) if current else {}
    return {target: {"mean": one.mean.tolist(), "rmsd": one.rmsd.tolist()} for target, one in found.items()}


def _references(current: Mapping[str, Any], path: Path) -> dict[str, Any]:
    found = saved_references(current, path) if current else {}
    return {
        target: [chemical_symbols[z] for z, value in enumerate(one.element_references.tolist()) if value == value]
        for target, one in found.items()
    }


def _training(content: Mapping[str, Any]) -> dict[str, Any]:
    averages = content.get("ema")
    facts = {
        **{key: plain_value(content.get(key)) for key in ("epoch", "step", "primary_metric", "best_val_metric")},
        "averaged_weights": len(averages["shadow_params"]) if averages else None,
        "optimizer": bool(content.get("optimizer")),
    }
    metrics = _map(content.get("val_metrics"))
    facts |= {f"val {name}": plain_value(one["metric"]) for name, one in metrics.items()}
    return {name: value for name, value in facts.items() if value is not None}


def _origin(content: Mapping[str, Any]) -> dict[str, Any]:
    config = _map(content.get("config"))
    places = {**_map(config.get("cmd")), **config}
    known = {key: places[key] for key in _ORIGIN if not isinstance(places.get(key), Unknown | None)}
    versions = {key: content[key] for key in ("ev2_plugin", "converted_from", "versions") if key in content}
    return {key: plain_value(value) for key, value in {**known, **versions}.items()}


def _product(shape: tuple[int, ...]) -> int:
    total = 1
    for length in shape:
        total *= length
    return total
