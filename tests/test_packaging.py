"""What an installation must bring, and where the locked environment comes from."""

import subprocess
import sys
import tomllib
from importlib.metadata import entry_points, version
from pathlib import Path
from urllib.parse import urlsplit

import pytest

import ev2_plugin

ROOT = Path(__file__).parents[1]


def test_version_is_that_of_the_installed_package() -> None:
    assert version("ev2-plugin") == ev2_plugin.__version__


def test_ev2_command_is_installed() -> None:
    (command,) = entry_points(group="console_scripts", name="ev2")
    assert command.load().info.name == "ev2"


def test_lock_names_no_index_but_the_public_default() -> None:
    locked = tomllib.loads((ROOT / "uv.lock").read_text(encoding="utf-8"))
    hosts = set()
    for package in locked["package"]:
        sources = [package["source"].get("registry")]
        files = [*package.get("wheels", []), package.get("sdist", {})]
        hosts |= {urlsplit(url).netloc for url in [*sources, *(file.get("url") for file in files)] if url}
    assert hosts == {"pypi.org", "files.pythonhosted.org"}


def test_public_names_are_declared_and_listed() -> None:
    assert set(ev2_plugin.__all__) == {*ev2_plugin._MODULE_OF, "__version__"}
    assert set(ev2_plugin.__all__) <= set(dir(ev2_plugin))


@pytest.mark.parametrize("name", sorted(ev2_plugin._MODULE_OF))
def test_public_name_is_the_class_or_function_of_that_name(name: str) -> None:
    assert getattr(ev2_plugin, name).__name__ == name


def test_unknown_name_is_an_attribute_error_that_lists_the_known() -> None:
    with pytest.raises(AttributeError, match=r"no attribute 'EquiformerV3'.*EquiformerV2"):
        _ = ev2_plugin.EquiformerV3


def test_failing_module_of_a_public_name_is_not_taken_for_an_unknown_name(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "breaks_on_import.py").write_text("import torch\ntorch.no_such_thing\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(ev2_plugin._MODULE_OF, "Broken", "breaks_on_import")
    with pytest.raises(ImportError, match=r"ev2_plugin.Broken.*no_such_thing"):
        _ = ev2_plugin.Broken


def test_importing_the_package_loads_neither_torch_nor_fairchem() -> None:
    code = "import sys, ev2_plugin; sys.exit(bool({'torch', 'fairchem'} & set(sys.modules)))"
    subprocess.run([sys.executable, "-c", code], check=True)
