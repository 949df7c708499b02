"""What the shell proposes where Tab is pressed: run files and devices. Options with choices do so by themselves."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any

import ev2_plugin

_PARTS = ("data", "group", "model", "recipe")
"""Folders and files below `configs` that run files include."""
_MOST = 200


def complete_config(incomplete: str) -> list[str]:
    """Run files that begin so: those that the plugin brings, and YAML files here and in the folders below.

    Args:
        incomplete: What is typed already.
    """
    return [name for name in bundled_configs() if name.startswith(incomplete)] + _yaml_files(incomplete)


def complete_flags(ctx: Any, incomplete: str) -> list[str]:
    """Run files after `--config-yml`; other arguments of `ev2 fairchem` are left to the shell.

    Args:
        ctx: Of the command.
        incomplete: What is typed already.
    """
    before = [*(ctx.params.get("arguments") or []), *ctx.args]
    return complete_config(incomplete) if before[-1:] == ["--config-yml"] else []


def complete_device(incomplete: str) -> list[str]:
    """Names of devices that begin so."""
    return [name for name in ("auto", "cpu", "cuda") if name.startswith(incomplete)]


def bundled_configs() -> list[str]:
    """Names of the run files that the plugin brings, like `oc20/s2ef_2M_83M.yml`."""
    folder = Path(ev2_plugin.__file__).parent / "configs"
    paths = (path.relative_to(folder) for path in folder.rglob("*.yml"))
    return sorted(path.as_posix() for path in paths if not {path.stem, *path.parts} & set(_PARTS))


def _yaml_files(incomplete: str) -> list[str]:
    """The files themselves, for a shell would end the word after the name of a folder."""
    typed = Path(incomplete)
    folder, start = (typed, "") if incomplete.endswith("/") or not incomplete else (typed.parent, typed.name)
    patterns = (f"{start}*.y*ml", f"{start}*/*.y*ml", f"{start}*/*/*.y*ml")
    found = (path for pattern in patterns for path in sorted(folder.glob(pattern)) if not path.name.startswith("."))
    return [str(path) for path in islice(found, _MOST)]
