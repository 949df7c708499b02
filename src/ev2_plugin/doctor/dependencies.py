"""What the plugin needs, what that needs in turn, and what of it is missing or of a wrong version, by the metadata."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

from ev2_plugin.doctor.finding import Finding
from ev2_plugin.doctor.installer import install
from ev2_plugin.doctor.versions import Requirement, normalised, requirements_if_installed, within

PLUGIN, HOST = "ev2-plugin", "fairchem-core"


def installed_version(package: str) -> str | None:
    """Version of an installed package; None if it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


@dataclass(frozen=True, kw_only=True)
class Needs:
    """What has to be installed.

    Attributes:
        ours: Direct requirements of the plugin, by normalised name.
        hosts: Direct requirements of fairchem.
        all: Every requirement with the bounds of all that state one; `of` says who.
        of: Names of the packages that need a package.
    """

    ours: Mapping[str, Requirement]
    hosts: Mapping[str, Requirement]
    all: Mapping[str, Requirement]
    of: Mapping[str, tuple[str, ...]]

    @classmethod
    def read(cls) -> Needs:
        """Of what is installed."""
        bounds: dict[str, Requirement] = {}
        of: dict[str, tuple[str, ...]] = {}
        left, seen = [PLUGIN, HOST], set()
        while left:
            package = left.pop()
            if package in seen:
                continue
            seen.add(package)
            for name, requirement in requirements_if_installed(package).items():
                both = [bounds[name].bounds] if name in bounds else []
                joined = ",".join(dict.fromkeys(one for one in [*both, requirement.bounds] if one))
                bounds[name] = Requirement(requirement.name, joined)
                of[name] = (*of.get(name, ()), package)
                left.append(name)
        return cls(ours=requirements_if_installed(PLUGIN), hosts=requirements_if_installed(HOST), all=bounds, of=of)

    def requirement(self, package: str) -> Requirement:
        """With the plugin's own bounds if it has some, else with those of all others."""
        name = normalised(package)
        return self.ours.get(name) or self.all.get(name) or Requirement(package, "")

    def is_unmet(self, package: str) -> bool:
        """Whether a package is missing, or of a version that the plugin does not take."""
        present = installed_version(package)
        return present is None or not within(present, self.requirement(package).bounds)


def python_finding(running: str, wanted: str) -> Finding:
    """Whether this Python is one that the plugin is for.

    Args:
        running: Its version.
        wanted: Bounds, as the plugin's metadata give them.
    """
    if within(running, wanted):
        return Finding(name="python", found=running)
    return Finding(
        name="python",
        found=f"{running}, but the plugin is for {wanted}",
        severity="error",
        mend="uv venv --python 3.11",
    )


def other_packages(needs: Needs, shown: set[str]) -> Finding:
    """What is needed, directly or not, and has no finding of its own.

    Args:
        needs: What is needed.
        shown: Normalised names of packages with findings of their own.
    """
    rest = {name: one for name, one in needs.all.items() if name not in shown}
    missing = [name for name in rest if installed_version(name) is None]
    others = [name for name, present in _present(rest) if not within(present, rest[name].bounds)]
    if not missing and not others:
        return Finding(name="other packages", found=f"{len(rest)}, all within their bounds")
    said = [f"{name} is missing (needed by {', '.join(needs.of[name])})" for name in missing]
    said += [f"{name} is {installed_version(name)}, not {rest[name].bounds}" for name in others]
    return Finding(
        name="other packages",
        found="; ".join(said),
        severity="error" if missing or any(name in needs.ours for name in others) else "warning",
        mend=install(*(rest[name] for name in [*missing, *others])),
    )


def _present(needed: Mapping[str, Requirement]) -> Iterator[tuple[str, str]]:
    for name in needed:
        present = installed_version(name)
        if present is not None:
            yield name, present
