"""`ev2 doctor` in environments that are really broken: it starts, tells everything, and names the line."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from ev2_plugin.doctor.versions import requirements

NO_TORCH = "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)"
BLOCKED = """
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {names!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Blocked())
"""


def doctor(overlay: Path, *arguments: str, here: Path | None = None) -> tuple[int, dict[str, Any]]:
    """Status of `ev2 doctor --json` with modules of a folder before those of the environment, and its findings."""
    search_path = os.pathsep.join([str(overlay), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        [sys.executable, "-m", "ev2_plugin", "doctor", "--json", *arguments],
        cwd=here or overlay,
        env={**os.environ, "PYTHONPATH": search_path},
        capture_output=True,
        text=True,
    )
    assert not done.stderr, done.stderr
    return done.returncode, {one["name"]: one for one in json.loads(done.stdout)["findings"]}


def module(overlay: Path, name: str, source: str) -> None:
    path = overlay / f"{name.replace('.', '/')}.py"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(source)


def metadata(overlay: Path, name: str, version: str) -> None:
    folder = overlay / f"{name}-{version}.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")


@pytest.fixture(scope="module")
def ruins(tmp_path_factory: pytest.TempPathFactory) -> tuple[int, dict[str, Any]]:
    """Almost everything broken at once, each in its own way."""
    overlay = tmp_path_factory.mktemp("ruins")
    module(overlay, "torch", NO_TORCH)
    module(overlay, "lmdb", "import time\ntime.sleep(100)")
    module(overlay, "scipy.__init__", "__version__ = '1.17.0'")
    module(overlay, "scipy.special", "")
    module(overlay, "scipy.spatial", "cKDTree = None")
    metadata(overlay, "scipy", "1.17.0")
    metadata(overlay, "numpy", "2.1.0")
    module(overlay, "sitecustomize", BLOCKED.format(names=["wandb"]))
    return doctor(overlay, "--time-limit", "3")


def test_it_starts_and_ends_with_status_3_though_nothing_works(ruins: tuple[int, dict[str, Any]]) -> None:
    status, findings = ruins
    assert status == 3
    assert findings["python"]["severity"] == "ok"


@pytest.mark.parametrize(
    ("name", "said", "line"),
    [
        ("torch", "2.4.1: crashes (SIGSEGV)", '--force-reinstall --no-deps "torch>=2.4"'),
        ("lmdb", "1.6.2: does not end within 3 s", '--force-reinstall --no-deps "lmdb<1.7"'),
        ("scipy", "1.17.0 is not <1.17; ImportError: cannot import name 'sph_harm'", ' "scipy<1.17"'),
        ("numpy", "2.1.0 is not <2,>=1.26", '"numpy<2,>=1.26"'),
        ("wandb", "ModuleNotFoundError: No module named 'wandb'", '--force-reinstall --no-deps "wandb>=0.17"'),
    ],
)
def test_each_ruin_is_an_error_with_its_cause_and_line(
    name: str, said: str, line: str, ruins: tuple[int, dict[str, Any]]
) -> None:
    found = ruins[1][name]
    assert found["severity"] == "error"
    assert said in found["found"]
    assert line in found["mend"]


@pytest.mark.parametrize("name", ["torch-scatter", "torch-geometric", "fairchem-core", "registry", "ev2-plugin"])
def test_what_cannot_work_without_torch_is_not_blamed(name: str, ruins: tuple[int, dict[str, Any]]) -> None:
    assert ruins[1][name]["found"] == "not tried, because torch does not work"
    assert ruins[1][name]["severity"] == "warning"


def test_the_page_explains_every_finding_in_its_order(ruins: tuple[int, dict[str, Any]]) -> None:
    page = (Path(__file__).parents[2] / "docs/doctor.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([^`]+)` \|", page, re.MULTILINE)
    assert [row for row in rows if not row.startswith("--")] == list(ruins[1])


@pytest.fixture(scope="module")
def healthy(tmp_path_factory: pytest.TempPathFactory) -> tuple[int, dict[str, Any]]:
    return doctor(tmp_path_factory.mktemp("healthy"))


@pytest.mark.slow
def test_this_environment_is_healthy(healthy: tuple[int, dict[str, Any]]) -> None:
    status, findings = healthy
    assert status == 0, findings
    assert findings["fairchem-core"]["found"] == "1.10.0"
    assert findings["ev2-plugin"]["found"].endswith("registered in fairchem")
    assert findings["torch-scatter"]["severity"] == "ok"


def scatter_of_another_torch(overlay: Path) -> None:
    """The library itself, with an operation that needs a symbol which this torch has not."""
    origin = Path(str(find_spec("torch_scatter").submodule_search_locations[0]))  # type: ignore[union-attr]
    shutil.copytree(origin, overlay / "torch_scatter")
    source = overlay / "other.cpp"
    source.write_text("extern void only_in_another_torch(); void (*used)() = only_in_another_torch;")
    (library,) = (overlay / "torch_scatter").glob("_version_*.so")
    subprocess.run(["c++", "-shared", "-fPIC", "-Wl,-z,now", "-o", library, source], check=True)


def scatter_that_is_garbage(overlay: Path) -> None:
    origin = Path(str(find_spec("torch_scatter").submodule_search_locations[0]))  # type: ignore[union-attr]
    shutil.copytree(origin, overlay / "torch_scatter")
    for library in (overlay / "torch_scatter").glob("_version_*.so"):
        library.write_bytes(b"\x7fELF" + bytes(1000))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (scatter_of_another_torch, "undefined symbol"),
        (scatter_that_is_garbage, "OSError"),
    ],
)
def test_an_extension_that_does_not_fit_is_compiled_anew(damage: Any, said: str, tmp_path: Path) -> None:
    damage(tmp_path)
    status, findings = doctor(tmp_path)
    assert status == 3
    scatter = findings["torch-scatter"]
    assert said in scatter["found"]
    assert '--no-build-isolation --no-cache-dir --force-reinstall --no-deps "torch-scatter>=2.1.2"' in scatter["mend"]
    assert findings["torch"]["severity"] == "ok"
    assert findings["fairchem-core"]["found"] == "not tried, because torch_scatter does not work"


@pytest.mark.slow
def test_an_error_that_the_registry_hides_is_told_with_its_file(tmp_path: Path) -> None:
    package = find_spec("fairchem.core")
    assert package is not None
    core = Path(str(package.origin)).parent
    shutil.copytree(core, tmp_path / "fairchem/core", ignore=shutil.ignore_patterns("__pycache__"))
    module(tmp_path, "fairchem.core.models.broken", "\nfrom scipy.special import not_there_any_more\n")
    twice = (
        "from fairchem.core.common.utils import setup_imports\n"
        "try:\n    setup_imports()\nexcept ImportError:\n    pass\n"
        "setup_imports()"
    )
    search_path = os.pathsep.join(filter(None, [str(tmp_path), os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, "PYTHONPATH": search_path}
    subprocess.run([sys.executable, "-W", "ignore", "-c", twice], check=True, env=environment)  # hidden, as expected

    status, findings = doctor(tmp_path)
    assert status == 3
    registry = findings["registry"]
    assert "fairchem.core.models.broken: ImportError: cannot import name 'not_there_any_more'" in registry["found"]
    assert "fairchem/core/models/broken.py, line 2" in registry["found"]
    assert '"scipy<1.17"' in registry["mend"]
    assert findings["ev2-plugin"]["severity"] == "ok"  # `ev2 fairchem` does not import that model


@pytest.mark.slow
def test_the_table_shows_lines_that_can_be_copied(tmp_path: Path) -> None:
    module(tmp_path, "torch", NO_TORCH)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])}
    command = [sys.executable, "-m", "ev2_plugin", "doctor"]
    done = subprocess.run(command, env={**environment, "COLUMNS": "60"}, capture_output=True, text=True)
    assert done.returncode == 3
    (line,) = (line for line in done.stdout.splitlines() if line.endswith('"torch>=2.4"'))
    assert " install --" in line or " pip install " in line
    assert "1 error," in done.stdout


def test_the_command_itself_stands_on_nothing_that_may_be_broken() -> None:
    code = (
        "import sys, ev2_plugin.cli.main, ev2_plugin.doctor.examination, ev2_plugin.doctor.table\n"
        "print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    needed = _direct_requirements() - {"typer", "rich"}
    assert "torch" in needed
    assert needed.isdisjoint(shown.stdout.split())


def _direct_requirements() -> set[str]:
    names = {one.name.replace("-", "_") for one in requirements("ev2-plugin").values()}
    return names | {"fairchem", "yaml", "packaging"}
