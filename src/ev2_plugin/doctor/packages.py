"""Findings on single packages: installed, within bounds, and importable."""

from __future__ import annotations

from ev2_plugin.doctor.dependencies import Needs, installed_version
from ev2_plugin.doctor.finding import Finding
from ev2_plugin.doctor.installer import compile_anew, install
from ev2_plugin.doctor.trials import Trial
from ev2_plugin.doctor.versions import Requirement, normalised, within

COMPILED = ("torch-scatter", "torch-sparse")
"""They come as sources and fit only the torch that they were compiled against."""


def package_finding(package: str, trial: Trial, needs: Needs) -> Finding:
    """Whether a package is there, of a version that the plugin takes, and works.

    Args:
        package: Name of the distribution.
        trial: Of its import.
        needs: What is needed.
    """
    requirement, present = needs.requirement(package), installed_version(package)
    if trial.untried:
        return untried(package, trial.untried)
    if present is None and trial.module is not None and normalised(trial.module) == normalised(package):
        return Finding(name=package, found="not installed", severity="error", mend=mend_package(package, needs))
    shown = present or trial.facts.get("version") or "without metadata"
    if trial.failure:
        said = f"{shown}: {told(trial)}"
        if present and not within(present, requirement.bounds):
            said = f"{shown} is not {requirement.bounds}; {told(trial)}"
        return Finding(name=package, found=said, severity="error", mend=mend_import(package, trial.module, needs))
    if present and not within(present, requirement.bounds):
        return Finding(
            name=package, found=f"{shown} is not {requirement.bounds}", severity="error", mend=install(requirement)
        )
    return Finding(name=package, found=str(shown))


def untried(name: str, cause: str) -> Finding:
    """What was not looked at, because it cannot work before something else does."""
    return Finding(name=name, found=f"not tried, because {cause} does not work", severity="warning")


def told(trial: Trial) -> str:
    """What went wrong and where."""
    return f"{trial.failure}{f' (at {trial.place})' if trial.place else ''}"


def mend_import(package: str, module: str | None, needs: Needs) -> str | None:
    """The line for a package whose import fails.

    Args:
        package: Its name.
        module: The module that the ImportError names; it may be another's.
        needs: What is needed.
    """
    culprit = normalised((module or package).partition(".")[0])
    if culprit == normalised(package) or module is None:
        return mend_package(package, needs)
    if culprit in needs.all or culprit in COMPILED:
        return mend_package(culprit, needs)
    return None


def mend_package(package: str, needs: Needs) -> str:
    """The line that installs a package that is missing, of a wrong version, or damaged."""
    requirement = needs.requirement(package)
    if normalised(package) in COMPILED:
        return compile_anew(Requirement(package, requirement.bounds))
    return install(requirement, anew=not needs.is_unmet(package))
