"""What is published: archive and wheel, and the files that describe the project."""

from __future__ import annotations

import re
import shutil
import subprocess
import tarfile
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest
import yaml

import ev2_plugin

ROOT = Path(__file__).parents[1]
NOT_PUBLISHED = {".ci/run", "src/ev2_plugin/configs"}
"""Of the files under version control; the second is a link, in whose place the archive has files."""


def build(source: Path, out: Path, *kinds: str) -> Path:
    """Build without a word of warning; return the file of the last kind."""
    uv = ROOT / ".uv/bin/uv"
    if not uv.exists():
        pytest.skip("uv of `make setup` is not there")
    done = subprocess.run(
        [uv, "build", *kinds, "--out-dir", out, source], capture_output=True, text=True, cwd=out.parent
    )
    if done.returncode and "error sending request" in done.stderr:
        pytest.skip("the package index, from which the build backend comes, is not reached")
    assert done.returncode == 0, done.stderr
    assert "warn" not in done.stderr.lower(), done.stderr
    (file,) = out.glob("*.whl" if kinds[-1] == "--wheel" else "*.tar.gz")
    return file


def content(wheel: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(ROOT, tmp_path_factory.mktemp("archive") / "dist", "--sdist")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(ROOT, tmp_path_factory.mktemp("wheel") / "dist", "--wheel")


@pytest.mark.slow
def test_the_archive_is_what_is_under_version_control(archive: Path) -> None:
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True)
    with tarfile.open(archive) as opened:
        members = [(member.name.partition("/")[2], member.isfile()) for member in opened]
    assert all(is_file for _, is_file in members), "links do not survive everywhere"
    names = {name for name, _ in members}
    configs = {name for name in names if name.startswith("src/ev2_plugin/configs/")}
    assert {f"src/ev2_plugin/{path.relative_to(ROOT)}" for path in (ROOT / "configs").rglob("*.yml")} == configs
    assert names - configs - {"PKG-INFO"} == set(tracked.stdout.splitlines()) - NOT_PUBLISHED


@pytest.mark.slow
def test_a_wheel_from_the_archive_is_the_one_from_the_tree(archive: Path, wheel: Path, tmp_path: Path) -> None:
    shutil.unpack_archive(archive, tmp_path / "unpacked", filter="data")
    (unpacked,) = (tmp_path / "unpacked").iterdir()
    assert content(build(unpacked, tmp_path / "dist", "--wheel")) == content(wheel)


@pytest.mark.slow
def test_the_wheel_brings_the_package_whole(wheel: Path) -> None:
    files = content(wheel)
    package = ROOT / "src/ev2_plugin"
    expected = {str(path.relative_to(package.parent)) for path in package.rglob("*") if path.is_file()}
    expected |= {f"ev2_plugin/{path.relative_to(ROOT)}" for path in (ROOT / "configs").rglob("*.yml")}
    expected = {name for name in expected if "__pycache__" not in name}
    assert {name for name in files if name.startswith("ev2_plugin/")} == expected
    assert "ev2_plugin/py.typed" in files
    (metadata,) = (text.decode() for name, text in files.items() if name.endswith("dist-info/METADATA"))
    licences = re.findall(r"^License-File: (.*)$", metadata, re.MULTILINE)
    assert "LICENSE" in licences
    assert {Path(path).name for path in licences} >= {path.name for path in package.rglob("*LICENSE*")}
    assert f"\nVersion: {ev2_plugin.__version__}\n" in metadata


@pytest.mark.slow
def test_what_the_wheel_asks_for_can_be_had(wheel: Path, tmp_path: Path) -> None:
    """Nobody's lock: the newest of everything within the bounds, which must agree with each other."""
    asked = tmp_path / "asked.in"
    asked.write_text(f"ev2-plugin @ {wheel.as_uri()}\n")
    done = subprocess.run(
        [ROOT / ".uv/bin/uv", "pip", "compile", "--quiet", "--python-version", "3.11", "--no-header", asked],
        capture_output=True,
        text=True,
        cwd=ROOT,  # its [tool.uv] states what torch-scatter needs, which its sources tell only beside a torch
    )
    if done.returncode and "error sending request" in done.stderr:
        pytest.skip("the package index is not reached")
    assert done.returncode == 0, done.stderr
    assert "\nfairchem-core==1.10.0\n" in done.stdout
    assert re.search(r"^torch==2\.4\.", done.stdout, re.MULTILINE)


def test_the_citation_is_complete_and_of_this_version() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["cff-version"] == "1.2.0"
    assert citation["type"] == "software"
    assert citation["version"] == ev2_plugin.__version__
    assert citation["authors"] == [{"name": "The ev2_plugin developers"}]
    for cited in (citation, citation["preferred-citation"], *citation["references"]):
        assert {"title", "authors", "type"} <= set(cited)
        assert all(set(author) in ({"name"}, {"family-names", "given-names"}) for author in cited["authors"])
    assert citation["message"]
    assert citation["preferred-citation"]["title"].startswith("EquiformerV2: Improved Equivariant Transformer")
    assert citation["preferred-citation"]["year"] == 2024


def test_the_changelog_has_unreleased_on_top_then_this_version_then_older_ones() -> None:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    headings = re.findall(r"^## \[([^\]]+)\](?: - (\d{4}-\d{2}-\d{2}))?$", text, re.MULTILINE)
    assert len(headings) == len(re.findall(r"^## ", text, re.MULTILINE)), "a heading is of another form"
    assert headings[0] == ("Unreleased", "")
    released = [name for name, _ in headings[1:]]
    assert released[0] == ev2_plugin.__version__
    numbers = [tuple(map(int, name.split("."))) for name in released]
    assert numbers == sorted(numbers, reverse=True)
    assert all(date for _, date in headings[1:])
    kinds = set(re.findall(r"^### (.*)$", text, re.MULTILINE))
    assert kinds <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}


@pytest.mark.parametrize("name", ["bug", "question", "feature"])
def test_issue_forms_are_forms(name: str) -> None:
    form = yaml.safe_load((ROOT / f".github/ISSUE_TEMPLATE/{name}.yml").read_text(encoding="utf-8"))
    assert {"name", "description", "body"} <= set(form)
    identities = [part["id"] for part in form["body"]]
    assert len(identities) == len(set(identities))
    assert all(part["type"] == "textarea" and part["attributes"]["label"] for part in form["body"])


def test_reports_of_bugs_ask_for_the_environment() -> None:
    form = yaml.safe_load((ROOT / ".github/ISSUE_TEMPLATE/bug.yml").read_text(encoding="utf-8"))
    required = {part["attributes"]["label"] for part in form["body"] if part.get("validations", {}).get("required")}
    assert {"`ev2 doctor --json`", "`ev2 version`"} <= required


def table_rows(page: str) -> dict[str, list[str]]:
    rows = re.findall(r"^\| `([^`]+)` \| (.*?) \|$", page, re.MULTILINE)
    return {name: [cell.strip() for cell in rest.split(" | ")] for name, rest in rows}


def test_the_page_of_versions_states_what_is_admitted_and_locked() -> None:
    rows = table_rows((ROOT / "docs/compatibility.md").read_text(encoding="utf-8"))
    project: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lock = tomllib.loads((ROOT / "uv.lock").read_text(encoding="utf-8"))
    locked = {package["name"]: package.get("version") for package in lock["package"]}
    admitted: dict[str, set[str]] = {}
    for requirement in project["dependencies"]:
        name, bounds = re.fullmatch(r"([a-z0-9-]+)(.*)", requirement).groups()  # type: ignore[union-attr]
        admitted[name] = set(bounds.split(","))
    admitted["python"] = set(project["requires-python"].split(","))
    for name, bounds in admitted.items():
        assert set(rows[name][0].strip("`").split(",")) == bounds, name
        if name != "python":
            assert rows[name][1] == locked[name], name
    extras = {re.match(r"[a-z0-9-]+", one)[0] for some in project["optional-dependencies"].values() for one in some}  # type: ignore[index]
    for name in {*extras, "triton"}:
        assert rows[name][0] == locked[name], name
    assert set(rows) == {*admitted, *extras, "triton"}
