import numpy as np
import pytest
from matplotlib.image import imread

from ev2_plugin.data.errors import S2EFComparison, TargetComparison
from ev2_plugin.data.training_log import LearningCurve
from ev2_plugin.demo.figures import (
    save_energy_parity,
    save_force_parity,
    save_learning_curves,
    save_relaxations,
)
from ev2_plugin.demo.relaxations import RelaxationTrace


@pytest.fixture
def comparison() -> S2EFComparison:
    rng = np.random.default_rng(0)
    energies, forces = rng.normal(size=(2, 20)), rng.normal(size=(2, 300))
    return S2EFComparison(
        TargetComparison(*energies, mean_prediction=0.0),
        TargetComparison(*forces, mean_prediction=0.0),
        sids=np.repeat([3, 8], 10),
    )


def colors_in(path) -> int:
    """Count the colors of a picture: white paper has one."""
    pixels = imread(path)
    assert min(pixels.shape[:2]) > 400
    return len(np.unique(pixels.reshape(-1, pixels.shape[-1]), axis=0))


def test_learning_curves(tmp_path, comparison):
    metrics = {"loss": [9.0, 5.0, 3.0], "energy_mae": [2.0, 1.0, 0.5], "forces_mae": [0.3, 0.2, 0.1]}
    curve = LearningCurve([1.0, 2.0, 3.0], metrics)
    save_learning_curves(tmp_path / "a.png", curve, curve, comparison)
    assert colors_in(tmp_path / "a.png") > 50


def test_energy_parity_shows_each_adsorbate(tmp_path, comparison):
    save_energy_parity(tmp_path / "one.png", comparison, {3: "O", 8: "O"})
    save_energy_parity(tmp_path / "two.png", comparison, {3: "O", 8: "CO"})
    assert colors_in(tmp_path / "two.png") > colors_in(tmp_path / "one.png") > 50


def test_force_parity(tmp_path, comparison):
    save_force_parity(tmp_path / "a.png", comparison)
    assert colors_in(tmp_path / "a.png") > 50


def test_relaxations_of_different_lengths_and_a_single_point(tmp_path):
    traces = [
        RelaxationTrace(sid, np.linspace(1.0, 0.0, length), np.geomspace(2.0, 0.03, length))
        for sid, length in enumerate((1, 5, 9))
    ]
    save_relaxations(tmp_path / "a.png", traces, fmax=0.05)
    assert colors_in(tmp_path / "a.png") > 50
