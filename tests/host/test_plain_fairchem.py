"""The plain `fairchem` command finds the plugin's short names in an ordinary installation.

Run by `make test-host` in an environment where the plugin is installed from its wheel.
"""

import os
import subprocess
import sys
from importlib.metadata import files
from pathlib import Path

import numpy as np
import pytest

import ev2_plugin

pytestmark = pytest.mark.host
STAND_INS = Path(__file__).parent / "stand_ins"


def fairchem(folder: Path, *arguments: str) -> None:
    """Run the host's own command in `folder`."""
    command = Path(sys.executable).with_name("fairchem")
    search_path = os.pathsep.join(filter(None, [str(STAND_INS), os.environ.get("PYTHONPATH")]))
    result = subprocess.run(
        [command, *arguments, "--cpu"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": search_path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr[-4000:]


def test_the_installation_is_that_of_a_wheel() -> None:
    assert "site-packages" in Path(ev2_plugin.__file__).parts
    installed = {str(path) for path in files("ev2-plugin") or []}
    assert "fairchem/experimental/.include" in installed
    assert "fairchem/experimental/ev2_plugin/register.py" in installed


def test_the_wheel_brings_every_config() -> None:
    repository = Path(__file__).parents[2] / "configs"
    installed = Path(ev2_plugin.__file__).parent / "configs"

    def names(folder: Path) -> set[Path]:
        return {path.relative_to(folder) for path in folder.rglob("*.yml")}

    assert names(repository)
    assert names(installed) == names(repository)


@pytest.mark.parametrize("form", ["flat", "hydra"])
def test_plain_fairchem_trains_and_predicts_by_short_names(form: str, tmp_path: Path) -> None:
    from helpers import tiny_s2ef

    models = {"flat": {**tiny_s2ef.FLAT_MODEL, "name": "ev2"}, "hydra": tiny_s2ef.HYDRA_MODEL}
    dataset = tiny_s2ef.write_dataset("lmdb", tmp_path / "data")
    config = tiny_s2ef.write_config(tmp_path / "run.yml", tiny_s2ef.config(dataset, models[form], "ocp"))

    arguments = ["--config-yml", str(config), "--timestamp-id", "short-names"]
    fairchem(tmp_path, "--mode", "train", *arguments)
    checkpoint = tmp_path / "checkpoints/short-names/checkpoint.pt"
    assert checkpoint.is_file()

    fairchem(tmp_path, "--mode", "predict", *arguments, "--checkpoint", str(checkpoint))
    with np.load(tmp_path / "results/short-names/ocp_predictions.npz") as predictions:
        assert predictions["energy"].size == tiny_s2ef.NUM_STRUCTURES
        assert np.isfinite(predictions["forces"]).all()
