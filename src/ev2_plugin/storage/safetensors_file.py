"""Weights as safetensors, with all that is to be known of them in a JSON file beside.

`model.safetensors` holds tensors and nothing else; `model.json`, the sidecar, says what they are. Each holds the
digest of the other, so that a pair that does not belong together, or was changed, is refused.
"""

from __future__ import annotations

import errno
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
from torch import Tensor

from ev2_plugin.storage.atomic import written_atomically
from ev2_plugin.storage.digest import digest_of

SUFFIX = ".safetensors"
FORMAT, VERSION = "ev2_plugin.weights", 1
_DIGEST_OF_SIDECAR = "ev2_plugin.sidecar"


def sidecar_of(path: Path) -> Path:
    """The JSON file beside a file of weights."""
    return path.with_suffix(".json")


def write_weights(path: Path, weights: Mapping[str, Tensor], about: Mapping[str, Any]) -> str:
    """Write weights and their sidecar.

    Args:
        path: Ends in `.safetensors`.
        weights: By name; their order is not kept.
        about: What is to be known of them: texts, finite numbers, true, false, null, lists and mappings of these.

    Returns:
        The digest of the weights.

    Raises:
        ValueError: If the name ends otherwise, or `about` holds something else.
        OSError: If it cannot be written.
    """
    if path.suffix != SUFFIX:
        raise ValueError(f"{path}: a file of weights ends in {SUFFIX}")
    # safetensors refuses views and tensors that share memory
    ordered = {name: weights[name].detach().cpu().contiguous().clone() for name in sorted(weights)}
    digest = digest_of(ordered)
    sidecar = {
        "format": FORMAT,
        "version": VERSION,
        "weights": {
            "file": path.name,
            "digest": digest,
            "tensors": len(ordered),
            "numbers": sum(value.numel() for value in ordered.values()),
        },
        **about,
    }
    try:
        text = json.dumps(sidecar, indent=2, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{sidecar_of(path)}: something to be written there is no JSON ({error})") from error
    header = {"format": "pt", _DIGEST_OF_SIDECAR: digest_of(json.loads(text))}
    content = safetensors.torch.save(ordered, header)
    with written_atomically(path) as file:
        file.write(content)
    with written_atomically(sidecar_of(path)) as file:
        file.write(text.encode() + b"\n")
    return digest


def read_weights(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read weights and their sidecar, and compare the digests.

    Args:
        path: As for `write_weights`.

    Returns:
        Weights by name in alphabetical order; the sidecar's content.

    Raises:
        FileNotFoundError: If there are no weights.
        ValueError: If the sidecar is missing, one of the two is damaged or was changed, or is of another kind.
    """
    if not path.is_file():
        raise FileNotFoundError(errno.ENOENT, "no such file", str(path))
    about = _read_sidecar(path)
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            weights = {name: file.get_tensor(name).clone() for name in sorted(file.keys())}
    except (safetensors.SafetensorError, OSError, RuntimeError, TypeError, ValueError, KeyError) as error:
        raise ValueError(f"{path} cannot be read: it is no safetensors file, or damaged ({error})") from error
    if header.get(_DIGEST_OF_SIDECAR) != digest_of(about):
        raise ValueError(
            f"{sidecar_of(path)} is not what was written beside {path.name}, or was changed since: "
            "`ev2 convert` the checkpoint again"
        )
    if digest_of(weights) != about["weights"]["digest"]:
        raise ValueError(
            f"{path} is damaged: its weights are not those that {sidecar_of(path).name} gives the digest of"
        )
    return weights, about


def _read_sidecar(path: Path) -> dict[str, Any]:
    sidecar = sidecar_of(path)
    if not sidecar.is_file():
        raise ValueError(
            f"{path} needs {sidecar.name} beside it, which says what its weights are; `ev2 convert` writes both"
        )
    try:
        content = json.loads(sidecar.read_bytes(), parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{sidecar} is no JSON, or damaged ({error})") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ValueError(f"{sidecar} is of another kind: its format is not {FORMAT}")
    if content.get("version") != VERSION:
        raise ValueError(
            f"{sidecar} is of version {content.get('version')!r}, this release reads {VERSION}: use the release of "
            "ev2_plugin that wrote it"
        )
    weights = content.get("weights")
    if not isinstance(weights, dict) or not isinstance(weights.get("digest"), str):
        raise ValueError(f"{sidecar} is damaged: it has no digest of the weights")
    return content


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")
