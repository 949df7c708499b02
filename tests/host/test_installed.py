"""An ordinary installation, used from an empty folder with no checkout around.

Run by `make test-host` in an environment where the plugin is installed from its wheel.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.host


def ev2(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the installed command in `folder`, with nothing but the environment to import from."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [Path(sys.executable).with_name("ev2"), *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


def test_the_package_comes_from_site_packages(tmp_path: Path) -> None:
    code = "import ev2_plugin, ev2_plugin.cli.main; print(ev2_plugin.__file__, ev2_plugin.cli.main.__file__)"
    shown = subprocess.run([sys.executable, "-I", "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert [Path(file).parts.count("site-packages") for file in shown.stdout.split()] == [1, 1]


def test_help_lists_the_commands(tmp_path: Path) -> None:
    shown = ev2(tmp_path, "--help")
    assert shown.returncode == 0, shown.stderr
    assert {"check", "demo", "doctor", "fairchem", "relax"} <= set(shown.stdout.split())


def test_the_doctor_finds_the_installation_healthy(tmp_path: Path) -> None:
    shown = ev2(tmp_path, "doctor", "--json")
    findings = {one["name"]: one for one in json.loads(shown.stdout)["findings"]}
    assert shown.returncode == 0, findings
    assert findings["ev2-plugin"]["found"].endswith("registered in fairchem")
    assert list(tmp_path.iterdir()) == []


def test_bundled_run_files_are_found_and_read(tmp_path: Path) -> None:
    """What is wrong is the data that is not there, so the run file, its parts and its keys were read."""
    shown = ev2(tmp_path, "check", "oc20/s2ef_2M_83M.yml", "--cpu")
    assert shown.returncode == 1
    assert "dataset.train" in shown.stderr
    assert "does not exist" in shown.stderr


def test_the_demo_goes_all_its_way(tmp_path: Path) -> None:
    shown = ev2(tmp_path, "demo", "--quick")
    assert shown.returncode == 0, shown.stderr[-4000:]
    (run,) = (tmp_path / "runs").iterdir()
    assert list(run.rglob("*.png"))
    assert list(run.rglob("*.pt"))
