import numpy as np
import pytest
from PIL import Image

from ev2_plugin.evaluation.breakdowns import Evaluation
from ev2_plugin.evaluation.estimates import Estimate
from ev2_plugin.evaluation.figures import save_by_adsorbate, save_by_element, save_parity, save_thresholds
from ev2_plugin.evaluation.thresholds import DISTANCE_THRESHOLDS


def colors_in(path) -> int:
    """Count the colors of a picture: white paper has one."""
    pixels = np.asarray(Image.open(path).convert("RGB")).astype(np.int32)
    assert min(pixels.shape[:2]) > 200
    return len(np.unique(pixels @ [1, 256, 65536]))


@pytest.mark.parametrize("number", [1, 50, 5000])
def test_parity_of_one_few_and_many(tmp_path, number):
    labels = np.random.default_rng(0).normal(size=number)
    predictions = labels.copy()
    predictions[0] += 40.0
    save_parity(tmp_path / "a.png", labels, predictions, quantity="energy", unit="eV", members="structures")
    assert colors_in(tmp_path / "a.png") > 20


@pytest.mark.parametrize("values", [[0.0], [9.0], np.linspace(0, 0.6, 70)])
def test_thresholds_of_the_best_the_worst_and_between(tmp_path, values):
    save_thresholds(
        tmp_path / "a.png",
        np.array(values, dtype=float),
        DISTANCE_THRESHOLDS,
        score="ADwT",
        quantity="distance",
        unit="Å",
    )
    assert colors_in(tmp_path / "a.png") > 20


@pytest.mark.parametrize("number", [1, 60])
def test_bars_of_few_and_many_groups(tmp_path, number):
    def estimates(index):
        return {
            "energy_mae": Estimate(0.1 * index, None if index == 0 else 0.02, 5, 2),
            **({} if index == 3 else {"forces_mae": Estimate(0.02, 0.2, 9, 3)}),
        }

    groups = {f"group {index}": estimates(index) for index in range(number)}
    evaluation = Evaluation("predictions", 5, 2, estimates(1), {"element": groups, "adsorbate": groups})
    save_by_element(tmp_path / "a.png", evaluation, ["forces_mae", "energy_mae"])
    save_by_adsorbate(tmp_path / "b.png", evaluation, ["energy_mae", "forces_mae"])
    assert colors_in(tmp_path / "a.png") > 20
    assert colors_in(tmp_path / "b.png") > 20
