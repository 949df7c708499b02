"""The scripts of examples/: run as a user runs them, one after the other in a folder that was empty."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import ase.io
import pytest

import ev2_plugin

EXAMPLES = Path(__file__).parents[2] / "examples"
SCRIPTS = sorted(EXAMPLES.glob("*.py"))
NEEDS_THE_FIRST = [path.name for path in SCRIPTS if path.name != "01_train.py"]


def run(script: str, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(EXAMPLES / script), *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=900)


def printed(script: str, folder: Path) -> str:
    done = run(script, folder)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


def numbers(pattern: str, text: str) -> list[float]:
    """The groups of the one place in a text that a pattern matches."""
    (found,) = re.finditer(pattern, text)
    return [float(one) for one in found.groups()]


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder of the examples after the first one, and what that printed."""
    folder = tmp_path_factory.mktemp("examples")
    return folder, printed("01_train.py", folder)


def test_there_are_five_and_each_says_what_it_does_in_cells() -> None:
    assert [path.name[:3] for path in SCRIPTS] == ["01_", "02_", "03_", "04_", "05_"]
    for path in SCRIPTS:
        text = path.read_text(encoding="utf-8")
        assert ast.get_docstring(ast.parse(text))
        assert text.count("\n# %%") >= 3
        assert "# %% [markdown]" in text


@pytest.mark.slow
@pytest.mark.parametrize("script", NEEDS_THE_FIRST)
def test_without_the_first_one_the_others_say_so(script: str, tmp_path: Path) -> None:
    done = run(script, tmp_path)
    assert done.returncode == 1
    assert "run 01_train.py first, in this folder" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_a_model_is_trained_and_predicts(first: tuple[Path, str]) -> None:
    folder, text = first
    assert "energy: total, cutoff: 5 Å, elements: O Cu" in text
    force, of_zero = numbers(r"force MAE ([\d.]+) eV/Å; ([\d.]+) of a model", text)
    assert force < 0.5 * of_zero
    assert ev2_plugin.load(folder / "model.pt").energy_kind.name == "total"


@pytest.mark.slow
def test_a_model_is_tuned_to_another_facet(first: tuple[Path, str]) -> None:
    before, after = numbers(r"([\d.]+) eV/Å before, ([\d.]+) after", printed("02_finetune.py", first[0]))
    assert after < 0.8 * before
    assert (first[0] / "tuned" / "tuned.pt").exists()


@pytest.mark.slow
def test_structures_are_relaxed(first: tuple[Path, str]) -> None:
    text = printed("03_relax.py", first[0])
    relaxed = ase.io.read(first[0] / "relaxed.traj", ":")
    assert [atoms.info["id"] for atoms in relaxed] == ["starts_0", "starts_1", "starts_2"]
    changes = re.findall(r"by EMT (-?[\d.]+) -> (-?[\d.]+) eV", text)
    assert len(changes) == 3
    assert all(float(end) < float(start) for start, end in changes)


@pytest.mark.slow
def test_an_adsorption_energy_is_near_that_of_the_labels_method(first: tuple[Path, str]) -> None:
    (difference,) = numbers(r"difference ([\d.]+) eV", printed("04_adsorption_energy.py", first[0]))
    assert difference < 0.5


@pytest.mark.slow
def test_a_run_is_checked_estimated_and_submitted(first: tuple[Path, str]) -> None:
    text = printed("05_slurm.py", first[0])
    assert "best_checkpoint.pt is there" in text
    assert "largest batch" in text.lower()
    assert (first[0] / "runs/cluster/checkpoints/example/best_checkpoint.pt").exists()
