"""Whether a version is within the bounds of a requirement (PEP 440); the library for it may be broken or missing."""

from __future__ import annotations

import re
from importlib.metadata import PackageNotFoundError, requires
from typing import NamedTuple

_VERSION = re.compile(
    r"v?(?P<release>\d+(\.\d+)*)([-_.]?(?P<phase>a|b|c|rc|alpha|beta|pre|preview)[-_.]?(?P<number>\d*))?"
    r"(?P<post>[-_.]?post[-_.]?\d*|-\d+)?(?P<dev>[-_.]?dev[-_.]?\d*)?(\+[a-z0-9._-]+)?"
)
_REQUIREMENT = re.compile(r"(?P<name>[A-Za-z0-9._-]+)\s*(\[[^]]*\])?\s*\(?(?P<bounds>[^;()]*)\)?\s*(;(?P<marker>.*))?")
_EXTRA = re.compile(r"\s*extra\s*==\s*['\"]([^'\"]+)['\"]\s*")
_PHASES = {"a": 0, "alpha": 0, "b": 1, "beta": 1, "c": 2, "rc": 2, "pre": 2, "preview": 2}
_FINAL = 3


class Requirement(NamedTuple):
    """A package that another one needs.

    Attributes:
        name: As it is written there.
        bounds: Of the version, `<2,>=1.26`; empty for any.
    """

    name: str
    bounds: str

    def __str__(self) -> str:
        return f"{self.name}{self.bounds}"


def normalised(name: str) -> str:
    """The name under which indexes know a package."""
    return re.sub(r"[-_.]+", "-", name).lower()


def requirements(package: str, extra: str | None = None) -> dict[str, Requirement]:
    """What an installed package says it needs, by normalised name; what only some systems need is left out.

    Args:
        package: Its name.
        extra: Only the requirements of this extra; None for those outside all extras.

    Raises:
        PackageNotFoundError: If it is not installed.
    """
    found = (_REQUIREMENT.fullmatch(text.strip()) for text in requires(package) or [])
    return {
        normalised(match["name"]): Requirement(match["name"], match["bounds"].replace(" ", ""))
        for match in found
        if match and _extra_of(match["marker"]) == extra
    }


def requirements_if_installed(package: str) -> dict[str, Requirement]:
    """As `requirements`; empty if the package is not installed."""
    try:
        return requirements(package)
    except PackageNotFoundError:
        return {}


def within(version: str, bounds: str) -> bool:
    """Whether a version satisfies bounds such as `<2,>=1.26`, `==1.10.0`, `~=2.4.0`; pre-releases count as versions.

    Raises:
        ValueError: If one of them cannot be read.
    """
    return all(_satisfies(version, clause.strip()) for clause in bounds.split(",") if clause.strip())


def _extra_of(marker: str | None) -> str | None:
    match = _EXTRA.fullmatch(marker or "")
    return match[1] if match else marker


def _satisfies(version: str, clause: str) -> bool:
    match = re.fullmatch(r"(===|==|!=|~=|<=|>=|<|>)\s*(.+)", clause)
    if match is None:
        raise ValueError(f"{clause!r} is no bound of a version")
    operator, bound = match.groups()
    if operator == "~=":
        series = ".".join(_match(bound)["release"].split(".")[:-1])
        return _key(version) >= _key(bound) and _starts_with(version, series)
    if bound.endswith(".*"):
        return _starts_with(version, bound.removesuffix(".*")) == (operator == "==")
    mine, other = _key(version), _key(bound)
    return {
        "==": mine == other,
        "===": version == bound,
        "!=": mine != other,
        "<=": mine <= other,
        ">=": mine >= other,
        "<": mine < (other if _is_pre(bound) else _key(f"{bound}.dev0")),
        ">": mine > other and (mine[0] != other[0] or _is_post(bound) or not _is_post(version)),
    }[operator]


def _key(version: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Release without zeros at its end, and the place within the life of the release."""
    match = _match(version)
    release = [int(part) for part in match["release"].split(".")]
    while release and release[-1] == 0:
        release.pop()
    post, dev = _number(match["post"]), _number(match["dev"])
    if match["phase"]:
        place = (_PHASES[match["phase"]], int(match["number"] or 0))
    elif match["dev"] and not match["post"]:
        place = (-1, 0)
    else:
        place = (_FINAL, 0)
    post_place = -1 if post is None else post
    dev_place = 2**62 if dev is None else dev
    return tuple(release), (*place, post_place, dev_place)


def _number(part: str | None) -> int | None:
    return None if part is None else int("".join(re.findall(r"\d+", part)) or 0)


def _is_pre(version: str) -> bool:
    return bool(_match(version)["phase"] or _match(version)["dev"])


def _is_post(version: str) -> bool:
    return bool(_match(version)["post"])


def _starts_with(version: str, series: str) -> bool:
    wanted = [int(part) for part in series.split(".")]
    release = [int(part) for part in _match(version)["release"].split(".")]
    return [*release, *[0] * len(wanted)][: len(wanted)] == wanted


def _match(version: str) -> re.Match[str]:
    match = _VERSION.fullmatch(version.strip().lower())
    if match is None:
        raise ValueError(f"{version!r} is no version")
    return match
