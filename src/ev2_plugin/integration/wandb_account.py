"""Whether Weights & Biases knows who runs this, and what to do where it does not: ask nobody, write locally."""

from __future__ import annotations

import configparser
import logging
import netrc
import os
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

import wandb

WANDB_LOGGERS = ("wandb", "wandb_singleton")
"""The host's loggers that are Weights & Biases."""

_SETTLED = ("WANDB_MODE", "WANDB_DISABLED", "WANDB_API_KEY", "WANDB_IDENTITY_TOKEN_FILE")
_FIRST_SERVER = "https://api.wandb.ai"  # of versions before the present one's default


def offline_without_account() -> None:
    """Have wandb write locally if no account is configured, and say so; and be quiet wherever it is offline.

    By itself wandb would ask for a key on the terminal, or end the run where there is none. An account is a key in
    the environment, in the netrc file or in wandb's settings; who sets WANDB_MODE has decided.
    """
    if not is_settled():
        os.environ["WANDB_MODE"] = "offline"
        logging.warning(
            "logger wandb: no account is configured (WANDB_API_KEY or `wandb login`). The run is recorded here; "
            "`wandb sync` uploads it later"
        )
    if os.environ.get("WANDB_MODE") == "offline":
        os.environ.setdefault("WANDB_SILENT", "true")
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # it would look for the network


def is_settled() -> bool:
    """Whether there is an account, or a mode was chosen: then wandb asks nobody."""
    settings = _settings_files()
    in_settings = any(settings.get(name) for name in ("api_key", "mode"))
    return in_settings or any(os.environ.get(name) for name in _SETTLED) or _has_key(_servers(settings))


def _settings_files() -> Mapping[str, str]:
    """Wandb's settings of the user and of this folder; `wandb offline` writes the latter."""
    of_user = Path(os.environ.get("WANDB_CONFIG_DIR") or "~/.config/wandb").expanduser()
    files = configparser.ConfigParser(interpolation=None)
    files.read([of_user / "settings", Path("wandb") / "settings"])
    return files["default"] if files.has_section("default") else {}


def _servers(settings: Mapping[str, str]) -> list[str]:
    chosen = os.environ.get("WANDB_BASE_URL") or settings.get("base_url")
    return [chosen] if chosen else [wandb.Settings().base_url, _FIRST_SERVER]


def _has_key(servers: list[str]) -> bool:
    path = Path(os.environ.get("NETRC") or "~/.netrc").expanduser()
    if not path.exists():
        return False
    try:
        known = netrc.netrc(path).hosts
    except netrc.NetrcParseError as error:
        logging.warning(f"no key for wandb is read from {path}: {error}")
        return False
    return any(urlsplit(server).netloc in known for server in servers)
