"""Tab on the command line, through the shell itself and through what it asks for."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

import ev2_plugin
from ev2_plugin.cli.completion import bundled_configs
from ev2_plugin.cli.main import app
from ev2_plugin.integration.run_config import load_config

CONFIGS = Path(ev2_plugin.__file__).parent / "configs"


def complete(line: str) -> list[str]:
    """What bash is told for a line whose last word is being typed."""
    words = line.split(" ")
    asked = {"_EV2_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1)}
    return CliRunner().invoke(app, [], prog_name="ev2", env=asked).stdout.split()


def test_commands_and_options() -> None:
    assert complete("ev2 adsor") == ["adsorbml"]
    assert complete("ev2 data ins") == ["inspect"]
    assert complete("ev2 relax --opt") == ["--optimizer"]


def test_options_with_choices_offer_them() -> None:
    assert complete("ev2 relax --optimizer ") == ["lbfgs", "fire"]
    assert complete("ev2 data prepare --layout a") == ["aselmdb"]
    assert complete("ev2 relax --device c") == ["cpu", "cuda"]


def test_run_files_are_offered_where_one_is_wanted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data" / "mine").mkdir(parents=True)
    (tmp_path / "mine.yaml").write_text("")
    (tmp_path / "data" / "mine" / "run.yml").write_text("")
    for command in ("train", "check", "estimate", "fairchem --mode train --config-yml"):
        assert complete(f"ev2 {command} qm9/m") == ["qm9/mu.yml", "qm9/mu_noisy_nodes.yml"]
        assert complete(f"ev2 {command} data/") == ["data/mine/run.yml"]
        assert {"oc20/s2ef_2M_83M.yml", "mine.yaml", "data/mine/run.yml"} <= set(complete(f"ev2 {command} "))
    assert complete("ev2 data prepare --recipe qm9/al") == ["qm9/alpha.yml", "qm9/alpha_noisy_nodes.yml"]
    assert complete("ev2 relax qm9/m") == []  # bash then offers the files that are there


def test_what_is_offered_are_run_files_and_nothing_else_is() -> None:
    offered = bundled_configs()
    assert len(offered) > 40
    for name in offered:
        assert {"model", "dataset", "task"} <= load_config(CONFIGS / name)[0].keys(), name
    paths = [path.resolve() for path in CONFIGS.rglob("*.yml")]
    included = {
        (folder / include).resolve()
        for path in paths
        for folder in (path.parent, CONFIGS)
        for include in yaml.safe_load(path.read_text(encoding="utf-8")).get("includes", [])
    }
    run_files = {path.relative_to(CONFIGS.resolve()).as_posix() for path in paths if path not in included}
    assert run_files <= set(offered)


def test_bash_completes(tmp_path: Path) -> None:
    program = tmp_path / "bin" / "ev2"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m ev2_plugin "$@"\n')
    program.chmod(0o755)
    script = f"""
        PATH="{program.parent}:$PATH"
        eval "$(ev2 --show-completion)"
        complete -p ev2
        COMP_WORDS=(ev2 train oc20/is2) COMP_CWORD=2
        _ev2_completion ev2
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    ran = subprocess.run(["bash", "-c", script], capture_output=True, text=True, cwd=tmp_path, check=True)
    assert ran.stdout.splitlines() == [
        "complete -o default -F _ev2_completion ev2",
        "oc20/is2re_36M.yml",
        "oc20/is2re_95M_noisy_nodes.yml",
    ], ran.stderr


@pytest.mark.parametrize(("shell", "file"), [("bash", ".bashrc"), ("zsh", ".zshrc"), ("fish", ".config/fish")])
def test_completion_installs_itself(shell: str, file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr("shellingham.detect_shell", lambda: (shell, f"/bin/{shell}"))
    result = CliRunner().invoke(app, ["--install-completion"], prog_name="ev2")
    assert result.exit_code == 0, result.output
    assert (tmp_path / file).exists()
    shown = CliRunner().invoke(app, ["--show-completion"], prog_name="ev2")
    assert "_EV2_COMPLETE" in shown.stdout
