"""What was looked at, and what was found."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Severity = Literal["ok", "warning", "error"]
SEVERITIES: tuple[Severity, ...] = ("ok", "warning", "error")
"""From nothing wrong to what keeps runs from working."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        name: Of the thing.
        found: What is there, in a sentence.
        severity: `warning` if something works less well or only some uses fail, `error` if the plugin's own fail.
        mend: The line that mends it, to be pasted into a shell; None if there is nothing to mend or no such line.
    """

    name: str
    found: str
    severity: Severity = "ok"
    mend: str | None = None


def worst(findings: Iterable[Finding]) -> Severity:
    """The worst severity among findings; `ok` of none."""
    return max((one.severity for one in findings), key=SEVERITIES.index, default="ok")
