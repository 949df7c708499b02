"""Imports that raise, crash, hang or end the process, in real processes."""

from __future__ import annotations

from pathlib import Path

import pytest

from ev2_plugin.doctor.trials import run_trials

MODULES = {
    "works": "print('libraries talk'); __version__ = '1.2'",
    "raises": "import dictionary_of_nobody",
    "crashes": "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)",
    "aborts": "import os; os.abort()",
    "hangs": "import time\ntime.sleep(60)",
    "leaves": "import sys; sys.exit(4)",
    "vanishes": "import os; os._exit(5)",
    "misspelt": "def f(:",
}


@pytest.fixture
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, source in MODULES.items():
        (tmp_path / f"{name}.py").write_text(source)
    (tmp_path / "garbage.so").write_bytes(b"\x7fELF" + bytes(100))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return tmp_path


def test_each_stage_is_judged_by_itself_whatever_happens_to_the_others(modules: Path) -> None:
    names = ["works", "crashes", "raises", "hangs", "misspelt", "leaves", "aborts", "vanishes", "garbage"]
    trials = run_trials([*names, "json"], time_limit=1.0)
    assert list(trials) == [*names, "json"]
    said = {name: trial.failure for name, trial in trials.items()}
    assert trials["works"].facts == {"version": "1.2"}
    assert said["works"] is None
    assert said["crashes"] == "crashes (SIGSEGV)"
    assert said["aborts"] == "crashes (SIGABRT)"
    assert said["raises"] == "ModuleNotFoundError: No module named 'dictionary_of_nobody'"
    assert said["hangs"] == "does not end within 1 s"
    assert said["leaves"] == "SystemExit: 4"
    assert said["vanishes"] == "ends the process with status 5"
    assert str(said["misspelt"]).startswith("SyntaxError")
    assert str(said["garbage"]).startswith("ImportError")
    assert said["json"] is None
    assert [name for name in names if trials[name].died] == ["crashes", "hangs", "aborts", "vanishes"]


@pytest.mark.parametrize(("name", "line"), [("crashes", 1), ("hangs", 2), ("raises", 1), ("misspelt", 1)])
def test_the_place_is_the_line_that_does_it(name: str, line: int, modules: Path) -> None:
    trial = run_trials([name], time_limit=1.0)[name]
    assert trial.place == f"{modules / name}.py, line {line}"


def test_an_import_error_tells_the_module(modules: Path) -> None:
    assert run_trials(["raises"], time_limit=5.0)["raises"].module == "dictionary_of_nobody"


def test_files_beside_the_probe_and_in_the_current_folder_are_not_taken_for_libraries(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "only_here.py").touch()
    monkeypatch.chdir(tmp_path)
    trials = run_trials(["only_here", "probe"], time_limit=5.0)
    assert all(str(trial.failure).startswith("ModuleNotFoundError") for trial in trials.values())


def test_what_stands_on_something_broken_is_not_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "torch.py").write_text("import os; os.abort()")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    trials = run_trials(["torch", "torch_scatter", "torch_geometric", "fairchem.core._cli", "plugin"], 30.0)
    assert trials["torch"].failure == "crashes (SIGABRT)"
    assert {trial.untried for name, trial in trials.items() if name != "torch"} == {"torch"}


def test_what_would_take_a_crash_along_is_not_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "torch.py").touch()
    (tmp_path / "torch_sparse.py").write_text("import os; os.abort()")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    trials = run_trials(["torch_sparse", "torch_geometric"], 30.0)
    assert trials["torch_geometric"].untried == "torch_sparse"


def test_what_a_failed_import_leaves_behind_is_not_there_for_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "half").mkdir()
    (tmp_path / "half/inner.py").touch()
    (tmp_path / "half/__init__.py").write_text("from half import inner\nraise ImportError('the other half')")
    (tmp_path / "next_one.py").write_text("import sys\nassert 'half.inner' not in sys.modules")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    trials = run_trials(["half", "next_one"], time_limit=30.0)
    assert trials["half"].failure == "ImportError: the other half"
    assert trials["next_one"].failure is None
