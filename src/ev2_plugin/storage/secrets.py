"""Keys and passwords taken out of what is written down about a run."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

REMOVED = "(removed)"

_WORDS = "api_?key|apikey|token|secret|password|passwd|credentials?|private_?key|access_?key"
_NAME = re.compile(rf"(?:^|[^a-z])(?:{_WORDS})(?:$|[^a-z])", re.IGNORECASE)
_LOGIN = re.compile(r"(?<=://)[^/@\s]+@")
_SETTING = re.compile(rf"((?:[\w.-]*[^a-z])?(?:{_WORDS})(?:[^a-z\s=][\w.-]*)?=)([^\s&'\"]+)", re.IGNORECASE)
_SHORTEST = 6  # characters of a value that is looked for everywhere: a shorter one would be found by chance


def is_secret_name(name: str) -> bool:
    """Whether a key, an option or a variable of this name holds a secret."""
    return _NAME.search(name) is not None


def without_secrets(value: Any, environment: Mapping[str, str]) -> Any:
    """A copy of nested mappings and lists in which nothing secret is left.

    What stands under a name like `api_key` or `token` goes, in mappings, in `--option=value` and in addresses; so do
    logins in addresses (`s3://user:password@host`), and the values of such variables of the environment wherever they
    appear.

    Args:
        value: Mappings, lists and tuples of texts and whatever else, which is kept.
        environment: Of the process.
    """
    known = [text for name, text in environment.items() if is_secret_name(name) and len(text) >= _SHORTEST]
    return _cleaned(value, known)


def _cleaned(value: Any, known: list[str]) -> Any:
    if isinstance(value, Mapping):
        return {
            key: REMOVED if is_secret_name(str(key)) and value[key] is not None else _cleaned(value[key], known)
            for key in value
        }
    if isinstance(value, list | tuple):
        return [_cleaned(one, known) for one in value]
    if isinstance(value, str):
        for secret in known:
            value = value.replace(secret, REMOVED)
        return _SETTING.sub(rf"\1{REMOVED}", _LOGIN.sub(f"{REMOVED}@", value))
    return value
