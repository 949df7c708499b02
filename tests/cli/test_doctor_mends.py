"""The lines that `ev2 doctor` prints, run as they are printed, in an environment broken by real packages."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
LOCKED = Path(sysconfig.get_path("purelib"))


class Environment:
    """A virtual environment with the packages of this one, into which others are installed.

    Args:
        folder: Where.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = os.pathsep.join([str(folder / "bin"), str(ROOT / ".uv/bin"), os.environ["PATH"]])
        self.python = folder / "bin/python"

    def run(self, *command: object, shell: bool = False) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command[0] if shell else [str(part) for part in command],  # type: ignore[arg-type]
            shell=shell,
            cwd=self.folder,
            env={**os.environ, "PATH": self.path},
            capture_output=True,
            text=True,
        )

    def doctor(self) -> tuple[int, dict[str, Any]]:
        done = self.run(self.python, "-m", "ev2_plugin", "doctor", "--json")
        assert not done.stderr, done.stderr
        return done.returncode, {one["name"]: one for one in json.loads(done.stdout)["findings"]}

    def versions(self, *packages: str) -> list[str]:
        code = "import sys; from importlib.metadata import version; print(*map(version, sys.argv[1:]))"
        return self.run(self.python, "-c", code, *packages).stdout.split()


@pytest.fixture
def environment(tmp_path: Path) -> Environment:
    """Packages that are replaced are copied, the others linked."""
    found = shutil.which("uv", path=os.pathsep.join([str(ROOT / ".uv/bin"), os.environ["PATH"]]))
    if found is None:
        pytest.skip("uv is not installed")
    made = Environment(tmp_path / "environment")
    subprocess.run([found, "venv", "--quiet", "--python", sys.executable, made.folder], check=True)
    site = made.folder / "lib" / LOCKED.parent.name / "site-packages"
    for name in ("numpy", "scipy"):
        for part in (name, f"{name}.libs", f"{name}-{version(name)}.dist-info"):
            shutil.copytree(LOCKED / part, site / part)
    (site / "locked.pth").write_text(f"import site; site.addsitedir({str(LOCKED)!r})\n")
    return made


def test_scipy_and_numpy_that_are_too_new_are_mended_by_the_printed_lines(environment: Environment) -> None:
    broken = environment.run(
        "uv", "pip", "install", "--quiet", "--python", environment.python, "scipy>=1.17", "numpy>=2"
    )
    if broken.returncode:
        pytest.skip(f"the package index is not reached: {broken.stderr[-300:]}")
    before = environment.versions("numpy", "scipy")
    assert before[0].startswith("2.")

    status, findings = environment.doctor()
    assert status == 3
    for name, present in zip(("numpy", "scipy"), before, strict=True):
        assert findings[name]["found"].startswith(f"{present} is not ")
        assert findings[name]["severity"] == "error"
    assert "sph_harm" in findings["registry"]["found"]
    assert findings["registry"]["mend"] == findings["scipy"]["mend"]

    for line in dict.fromkeys(one["mend"] for one in findings.values() if one["severity"] == "error"):
        mended = environment.run(line, shell=True)
        assert mended.returncode == 0, mended.stderr
    status, findings = environment.doctor()
    assert status == 0, findings
    assert environment.versions("numpy", "scipy")[0].startswith("1.26")
    assert findings["registry"]["severity"] == "ok"
