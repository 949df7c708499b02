"""Config and environment of a run as parts of a report."""

import re
from pathlib import Path

import pytest

from ev2_plugin.report.page import render
from ev2_plugin.report.parts import Report
from ev2_plugin.report.record import config_section, run_section
from ev2_plugin.report.run_folder import find_run


def test_secrets_are_in_neither_config_nor_environment(run_directory: Path) -> None:
    run = find_run(run_directory)
    config, environment = config_section(run), run_section(run)
    assert config is not None
    assert environment is not None
    page = render(Report("a", "b", (config, environment), ()))
    assert "very-secret" not in page
    assert page.count("(removed)") == 2
    assert "num_layers" in page
    assert "version of torch" in page


def test_what_was_not_recorded_has_no_section(run_directory: Path) -> None:
    folder = run_directory / "logs/local/first"
    (folder / "run.json").unlink()
    (folder / "config-1234.yml").unlink()
    run = find_run(run_directory)
    assert run_section(run) is None
    assert config_section(run) is None


@pytest.mark.parametrize(("content", "what"), [("a: [", "is no YAML, or damaged"), ("- a", "it should be a mapping")])
def test_a_damaged_config_is_named(run_directory: Path, content: str, what: str) -> None:
    (run_directory / "logs/local/first/config-1234.yml").write_text(content)
    with pytest.raises(ValueError, match=rf"config-1234.yml .*{re.escape(what)}"):
        config_section(find_run(run_directory))
