"""Findings on fairchem: its import, its registry with the errors that it hides, and the plugin within it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ev2_plugin.doctor.dependencies import HOST, PLUGIN, Needs
from ev2_plugin.doctor.finding import Finding
from ev2_plugin.doctor.installer import install
from ev2_plugin.doctor.packages import mend_import, mend_package, told, untried
from ev2_plugin.doctor.trials import Trial

_SHOWN = 3


def registry_finding(trial: Trial, needs: Needs) -> Finding:
    """What the plain `fairchem` command imports at its start; at a second attempt it hides what went wrong."""
    if trial.untried:
        return untried("registry", trial.untried)
    if trial.failure:
        mend = mend_import(HOST, trial.module, needs)
        return Finding(name="registry", found=told(trial), severity="error", mend=mend)
    failures = trial.facts["failures"]
    causes = _causes(failures)
    serious = {said: cause for said, cause in causes.items() if cause["module"] != "torch_sparse"}
    if serious:
        shown = [f"{one['first']}: {said} (at {one['place']})" for said, one in list(serious.items())[:_SHOWN]]
        more = len(serious) - len(shown)
        return Finding(
            name="registry",
            found="; ".join(shown) + (f"; and {more} more" if more else ""),
            severity="error",
            mend=_mend(next(iter(serious.values())), needs),
        )
    if causes:
        said = f"{len(failures)} modules of fairchem's other models need torch-sparse; `ev2 fairchem` does without them"
        return Finding(name="registry", found=said)
    return Finding(name="registry", found="every module of fairchem imports")


def plugin_finding(trial: Trial, needs: Needs, checkout: str | None) -> Finding:
    """The plugin's own classes, and their names in fairchem's registry.

    Args:
        trial: Of importing and registering them.
        needs: What is needed.
        checkout: Folder of the sources, if it runs from one.
    """
    if trial.untried:
        return untried(PLUGIN, trial.untried)
    if trial.failure:
        mend = mend_import(PLUGIN, trial.module, needs) if trial.module else None
        return Finding(name=PLUGIN, found=told(trial), severity="error", mend=mend)
    version = trial.facts["version"]
    if not needs.ours:
        said = f"{version}, not installed: what it needs is not known, its short names are not in plain `fairchem`"
        return Finding(name=PLUGIN, found=said, severity="warning", mend=install(checkout or PLUGIN))
    return Finding(name=PLUGIN, found=f"{version}, registered in fairchem")


def _causes(failures: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Different errors, with the module where each came up first: a package that fails takes all its modules along."""
    causes: dict[str, dict[str, Any]] = {}
    for module, failure in failures.items():
        causes.setdefault(failure["said"], {"first": module, **failure})
    return causes


def _mend(cause: Mapping[str, Any], needs: Needs) -> str | None:
    if cause["module"] is None or cause["module"].startswith("fairchem"):
        return mend_package(HOST, needs)  # a file of its own that is damaged
    return mend_import(HOST, cause["module"], needs)
