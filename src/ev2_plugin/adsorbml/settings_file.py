"""`campaign.json`: what each stage was asked for, so that a second call goes on with the same."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from ev2_plugin.storage.plain_files import read_json

NAME = "campaign.json"


def settle(
    folder: Path,
    stage: str,
    given: Mapping[str, Any],
    defaults: Mapping[str, Any],
    movable: Collection[str] = (),
) -> dict[str, Any]:
    """Settle what a stage works with: what is asked for now, what was asked for before, or the default.

    Args:
        folder: The campaign's folder, made if it is missing.
        stage: Section of the file.
        given: What is asked for now, in JSON's types; None where nothing is said.
        defaults: What applies if nothing was ever said; its keys are all there are.
        movable: Settings that may differ from one call to the next, such as the place of a file.

    Returns:
        The settings, written to the file as well.

    Raises:
        ValueError: If something was asked for otherwise before, or a setting has no value.
    """
    sections = read_settings(folder)
    before = sections.get(stage, {})
    settled = {}
    for name, default in defaults.items():
        value, recorded = given.get(name), before.get(name)
        if value is not None and recorded is not None and value != recorded and name not in movable:
            raise ValueError(
                f"{folder}: '{stage}' was begun with {name} {recorded!r}, now it is {value!r}; use the same, another "
                f"campaign folder, or remove what '{stage}' wrote and its section of {NAME}"
            )
        settled[name] = next((one for one in (value, recorded, default) if one is not None), None)
    if settled != before:
        write_json(folder / NAME, {**sections, stage: settled})
    return settled


def read_settings(folder: Path) -> dict[str, dict[str, Any]]:
    """Read what each stage was asked for; empty for a new campaign.

    Raises:
        ValueError: If the file is not JSON.
    """
    path = folder / NAME
    if not path.exists():
        return {}
    found: dict[str, dict[str, Any]] = read_json(path)
    return found


def write_json(path: Path, content: Any) -> None:
    """Write JSON; the file appears when it is complete, whoever else writes it at the same time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f"{path.name}.{os.getpid()}.part")
    scratch.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    scratch.replace(path)
