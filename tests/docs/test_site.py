"""The site: what is generated is up to date, and every page can be reached."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

from ev2_plugin.integration.known_keys import OUR_OPTIM
from helpers.documentation import ROOT

DOCS = ROOT / "docs"


def module(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, DOCS / f"_site/{name}.py")
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


def test_config_reference_is_what_the_classes_say() -> None:
    assert (DOCS / "config.md").read_text(encoding="utf-8") == module("config_reference").reference()


def test_config_reference_has_every_key_of_our_trainer() -> None:
    assert set(module("config_reference").OPTIM) == set(OUR_OPTIM)


def test_every_page_is_in_the_navigation_once() -> None:
    named = re.findall(r": (\w+\.md)$", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(named) == sorted(path.name for path in DOCS.glob("*.md"))


def test_equations_become_mathml_and_links_out_of_the_folder_become_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    shown = module("hooks").on_page_markdown("$`x^2`$ [results](../benchmarks/results)\n\n```math\ny = 1\n```\n")
    assert shown.count("<math") == 2
    assert 'display="block"' in shown
    assert "results" in shown
    assert "](" not in shown
    changes = module("hooks").on_page_markdown(Path("docs/changelog.md").read_text(encoding="utf-8"))
    assert "# Changelog" in changes
    assert "](docs/" not in changes
