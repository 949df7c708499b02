"""What a run was: sections from its record and its config."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import yaml

from ev2_plugin.report.parts import Cell, Code, Folded, Part, Section, Table
from ev2_plugin.report.run_folder import Run
from ev2_plugin.storage.secrets import without_secrets


def run_section(run: Run) -> Section | None:
    """When, where and with which versions a run was made; None if nothing was recorded."""
    if not run.attempts:
        return None
    parts: list[Part] = [_environment(without_secrets(run.last, os.environ))]
    if len(run.attempts) > 1:
        parts.append(_attempts(run))
    return Section("run", "Run", tuple(parts))


def config_section(run: Run) -> Section | None:
    """The config of a run's newest attempt, its secrets removed; None if it is not there.

    Raises:
        ValueError: If it is no YAML.
    """
    config = read_config(run)
    if config is None:
        return None
    text = yaml.safe_dump(config, sort_keys=False, allow_unicode=True)
    whole = Folded("The whole config", (Code("The whole config, as YAML", text),))
    return Section("config", "Configuration", (_main_settings(config), whole))


def read_config(run: Run) -> dict[str, Any] | None:
    """Read the config of a run's newest attempt, its secrets removed; None if it is not there.

    Raises:
        ValueError: If it is no YAML.
    """
    files = sorted(run.logs.glob("config-*.yml"), key=lambda path: path.stat().st_mtime)
    named = run.logs / str(run.last.get("config"))
    path = named if named.is_file() else next(reversed(files), None)
    if path is None:
        return None
    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is no YAML, or damaged: {error}") from error
    if not isinstance(config, dict):
        raise ValueError(f"{path} is not the config of a run: it should be a mapping")
    return without_secrets(config, os.environ)


def _environment(last: Mapping[str, Any]) -> Table:
    commit = last.get("commit")
    places = [f"{one.get('host')}: {one.get('device')}" for one in last.get("places") or []]
    error = last.get("error")
    rows: dict[str, Any] = {
        "state": last.get("state"),
        "error": None if error is None else f"{error.get('class')}: {error.get('message')}",
        "mode": last.get("mode"),
        "started": last.get("started"),
        "ended": last.get("ended"),
        "steps (batches)": last.get("step"),
        "epochs": last.get("epoch"),
        "command": " ".join(map(str, last.get("command") or [])),
        "checkpoint": last.get("checkpoint"),
        "seed": last.get("seed"),
        "processes": last.get("ranks"),
        "devices": "; ".join(dict.fromkeys(places)),
        "SLURM": ", ".join(f"{key} {value}" for key, value in (last.get("slurm") or {}).items()),
        "commit": None if commit is None else f"{commit.get('id')}{' (changed)' if commit.get('changed') else ''}",
        **{
            f"dataset {split}": f"{one.get('src')} ({structures:,} structures)"
            for split, one in (last.get("datasets") or {}).items()
            if (structures := one.get("structures")) is not None
        },
        **{f"version of {name}": version for name, version in (last.get("versions") or {}).items()},
        "config digest": last.get("config_digest"),
    }
    kept = tuple((name, str(value)) for name, value in rows.items() if value not in (None, ""))
    return Table("Where the run was made", ("what", "value"), kept)


def _attempts(run: Run) -> Table:
    names = ("started", "ended", "state", "resumed_from_step", "step")
    rows = tuple((number, *(one.get(name) for name in names)) for number, one in enumerate(run.attempts, start=1))
    return Table("Attempts", ("attempt", "started", "ended", "state", "resumed from step", "step"), rows)


def _main_settings(config: Mapping[str, Any]) -> Table:
    """The handful of settings that one asks for first."""
    wanted = {
        "model": ("name", "num_layers", "sphere_channels", "lmax_list", "mmax_list", "max_radius", "max_neighbors"),
        "optim": ("batch_size", "lr_initial", "optimizer", "max_epochs", "clip_grad_norm", "ema_decay", "precision"),
    }
    rows: list[tuple[Cell, ...]] = []
    for section, names in wanted.items():
        settings = config.get(section)
        if isinstance(settings, Mapping):
            rows += [(f"{section}.{name}", str(settings[name])) for name in names if name in settings]
    return Table("Main settings", ("setting", "value"), tuple(rows))
