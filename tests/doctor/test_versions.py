"""Versions and bounds, beside the library that defines how they are read."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, distributions

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from ev2_plugin.doctor.versions import normalised, requirements, within

RELEASES = st.lists(st.integers(0, 12), min_size=1, max_size=3).map(lambda parts: ".".join(map(str, parts)))
SUFFIXES = st.sampled_from(["", "", "", "a1", "b2", "rc1", ".post1", ".dev3", "rc1.dev0", ".post0.dev1"])
VERSIONS = st.tuples(RELEASES, SUFFIXES).map("".join)
CLAUSES = st.one_of(
    st.tuples(st.sampled_from(["==", "!=", "<=", ">=", "<", ">"]), VERSIONS).map("".join),
    st.lists(st.integers(0, 12), min_size=2, max_size=3).map(lambda parts: "~=" + ".".join(map(str, parts))),
    st.tuples(st.sampled_from(["==", "!="]), RELEASES).map(lambda both: f"{both[0]}{both[1]}.*"),
)


@given(VERSIONS, st.lists(CLAUSES, max_size=2).map(",".join))
def test_bounds_are_those_of_the_standard(version: str, bounds: str) -> None:
    assert within(version, bounds) == SpecifierSet(bounds).contains(version, prereleases=True)


def test_a_local_build_counts_as_its_release() -> None:
    assert within("2.4.1+cu121", "~=2.4.0,>=2.4")


def test_what_is_no_version_is_named() -> None:
    with pytest.raises(ValueError, match="'new' is no version"):
        within("new", ">=1")
    with pytest.raises(ValueError, match="'1.0' is no bound"):
        within("1.0", "1.0")


def test_requirements_of_every_installed_package_are_read_as_the_standard_reads_them() -> None:
    read = 0
    for package in distributions():
        without_marker = [one for one in map(Requirement, package.requires or []) if one.marker is None]
        expected = {normalised(one.name): SpecifierSet(str(one.specifier)) for one in without_marker}
        found = requirements(package.name)
        assert {name: SpecifierSet(one.bounds) for name, one in found.items()} == expected, package.name
        read += len(found)
    assert read > 100


def test_an_extra_has_requirements_of_its_own() -> None:
    assert "torch-sparse" in requirements("ev2-plugin", extra="host")
    assert "torch-sparse" not in requirements("ev2-plugin")


def test_a_package_that_is_not_installed_has_no_requirements() -> None:
    with pytest.raises(PackageNotFoundError):
        requirements("no-such-package")
