import re

import numpy as np
import pytest
import torch
from fairchem.core.modules.evaluator import Evaluator

from ev2_plugin.data.predictions import StructurePrediction
from ev2_plugin.evaluation.estimates import estimate
from ev2_plugin.evaluation.predictions import FreeForces, score_predictions


def placed(structures):
    return [(f"entry {index}", data) for index, data in enumerate(structures)]


def averages(scored):
    return {name: estimate(tally, scored.catalogue.systems).value for name, tally in scored.tallies().items()}


@pytest.mark.parametrize("width", [1e-3, 0.01, 0.3])
def test_metrics_are_those_of_the_host(random_data, near, width):
    structures = [random_data(sid, fid) for sid in range(20) for fid in range(3)]
    predictions = {f"{data.sid}_{data.fid}": near(data, width) for data in structures}
    scored = score_predictions(placed(structures), dict(sorted(predictions.items())), "set")
    free = [data.fixed == 0 for data in structures]
    target = {
        "energy": torch.tensor([[data.y] for data in structures], dtype=torch.float64),
        "forces": torch.cat([data.force[mask] for data, mask in zip(structures, free, strict=True)]).double(),
        "natoms": torch.tensor([int(mask.sum()) for mask in free]),
    }
    ordered = list(predictions.values())
    prediction = {
        "energy": torch.tensor([[one.energy] for one in ordered], dtype=torch.float64),
        "forces": torch.tensor(np.concatenate([one.free_forces for one in ordered])),
    }
    metrics = {
        "energy": ["mae", "energy_within_threshold"],
        "forces": ["mae", "cosine_similarity", "magnitude_error", "energy_forces_within_threshold"],
    }
    host = Evaluator(eval_metrics=metrics).eval(prediction, target)
    names = {
        "energy_mae": "energy_mae",
        "energy_within_threshold": "energy_within_threshold",
        "forces_mae": "forces_mae",
        "forces_cosine": "forces_cosine_similarity",
        "forces_magnitude_error": "forces_magnitude_error",
        "energy_forces_within_threshold": "energy_forces_within_threshold",
    }
    ours = averages(scored)
    assert ours.keys() == names.keys()
    for name, host_name in names.items():
        assert ours[name] == pytest.approx(host[host_name]["metric"], abs=2e-7), name


def test_only_the_largest_component_decides(random_data, near):
    structures = [random_data(sid) for sid in range(3)]
    predictions = {f"{data.sid}_0": near(data, 0.0) for data in structures}
    predictions["0_0"].free_forces[1, 2] += 0.0299
    predictions["1_0"].free_forces[-1, 0] -= 0.0301
    predictions["2_0"].free_forces[:, :] += 0.0299
    scored = score_predictions(placed(structures), predictions, "set")
    assert scored.tallies()["energy_forces_within_threshold"].sums.tolist() == [1.0, 0.0, 1.0]
    np.testing.assert_allclose(scored.forces.largest_errors, [0.0299, 0.0301, 0.0299], atol=1e-6)


def test_a_force_that_vanishes_has_no_direction():
    forces = FreeForces(
        np.array([[0.0, 0.0, 0.0], [2.0, 0.0, 0.0]]), np.ones((2, 3)), np.zeros(2, int), np.ones(2, int), 1
    )
    np.testing.assert_allclose(forces.cosines, [0.0, 1 / np.sqrt(3)])


def test_energies_alone(random_data):
    structures = [random_data(sid, None) for sid in range(4)]
    for data in structures:
        del data["y"], data["force"]
    scored = score_predictions(placed(structures), {str(data.sid): data.y_relaxed + 0.5 for data in structures}, "set")
    assert averages(scored) == {"energy_mae": pytest.approx(0.5), "energy_within_threshold": 0.0}
    assert scored.forces is None


def test_missing_strange_and_broken_predictions_are_named(random_data, near):
    structures = [random_data(sid) for sid in range(30)]
    good = {f"{data.sid}_0": near(data, 0.1) for data in structures}

    def refused(predictions, message):
        with pytest.raises(ValueError, match=re.escape(message)):
            score_predictions(placed(structures), predictions, "set.lmdb")

    few = {name: good[name] for name in ("0_0", "29_0")}
    refused(few, "28 structures have no prediction: 1_0, 2_0, 3_0, 4_0, 5_0, 6_0, 7_0, 8_0, 9_0, 10_0 and 18 more")
    refused(good | {"99_1": good["0_0"]}, "1 predictions have no structure in set.lmdb: 99_1")
    broken = good["5_0"].free_forces.copy()
    broken[0, 1] = np.nan
    refused(
        good | {"3_0": StructurePrediction(np.inf, good["3_0"].free_forces), "5_0": StructurePrediction(0.0, broken)},
        "2 predictions are not finite: 3_0, 5_0",
    )
    refused(
        good | {"4_0": StructurePrediction(0.0, np.zeros((2, 3)))},
        "structure 4_0: predicted forces of shape (2, 3) for",
    )


def test_faulty_datasets_are_refused(random_data, near):
    data = random_data(0)
    good = {"0_0": near(data, 0.1)}
    with pytest.raises(ValueError, match=re.escape("1 identifiers belong to several structures of set: 0_0")):
        score_predictions(placed([data, data.clone()]), good, "set")
    with pytest.raises(ValueError, match="set holds no structures"):
        score_predictions([], good, "set")
    for key, value, message in (
        ("y", float("nan"), "entry 0: the label y is not finite"),
        ("force", data.force * np.inf, "entry 0: the label force is not finite"),
        ("fixed", torch.ones(data.natoms), "structure 0_0 has no free atoms"),
    ):
        faulty = data.clone()
        faulty[key] = value
        with pytest.raises(ValueError, match=message):
            score_predictions(placed([faulty]), good, "set")
    faulty = data.clone()
    del faulty["force"]
    with pytest.raises(ValueError, match="entry 0 has no label forces or force"):
        score_predictions(placed([faulty]), good, "set")
