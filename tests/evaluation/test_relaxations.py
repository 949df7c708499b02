import re
from itertools import product

import numpy as np
import pytest
import torch
from fairchem.core.modules.evaluator import Evaluator

from ev2_plugin.evaluation.estimates import estimate
from ev2_plugin.evaluation.relaxations import score_relaxations


def placed(structures):
    return [(f"entry {index}", data) for index, data in enumerate(structures)]


def ended_near(structures, width):
    rng = np.random.default_rng(1)
    return {str(data.sid): data.pos_relaxed.numpy() + width * rng.normal(size=data.pos.shape) for data in structures}


@pytest.mark.parametrize(("cell", "width"), [("cubic", 0.02), ("cubic", 0.6), ("skewed", 0.02), ("skewed", 0.3)])
def test_metrics_are_those_of_the_host(random_data, cell, width):
    structures = [random_data(sid, None, cell=cell) for sid in range(40)]
    positions = ended_near(structures, width)
    rng = np.random.default_rng(2)
    for data in structures:  # whole lattice vectors, as where atoms were wrapped into the cell
        positions[str(data.sid)] += rng.integers(-1, 2, size=(data.natoms, 3)) @ data.cell[0].numpy()
    energies = {name: 0.05 * rng.normal() + structures[int(name)].y_relaxed for name in positions}
    scored = score_relaxations(placed(structures), dict(sorted(positions.items())), energies, "set")
    ours = {name: estimate(tally, scored.catalogue.systems).value for name, tally in scored.tallies().items()}
    free = [data.fixed == 0 for data in structures]
    common = {
        "cell": torch.cat([data.cell for data in structures]).double(),
        "pbc": torch.tensor([True, True, True]),
        "natoms": torch.tensor([int(mask.sum()) for mask in free]),
    }
    reference = [data.pos_relaxed[mask] for data, mask in zip(structures, free, strict=True)]
    ended = [positions[str(data.sid)][mask.numpy()] for data, mask in zip(structures, free, strict=True)]
    host = Evaluator(
        eval_metrics={"positions": ["average_distance_within_threshold"], "energy": ["mae", "energy_within_threshold"]}
    ).eval(
        common
        | {
            "positions": torch.tensor(np.concatenate(ended)),
            "energy": torch.tensor([*energies.values()], dtype=torch.float64),
        },
        common
        | {
            "positions": torch.cat(reference).double(),
            "energy": torch.tensor([data.y_relaxed for data in structures], dtype=torch.float64),
        },
    )
    for name, host_name in (
        ("average_distance_within_threshold", "positions_average_distance_within_threshold"),
        ("energy_mae", "energy_mae"),
        ("energy_within_threshold", "energy_within_threshold"),
    ):
        assert ours[name] == pytest.approx(host[host_name]["metric"], abs=1e-9), name
    assert ours["average_distance_within_threshold"] > 0 or width == 0.6


@pytest.mark.parametrize("pbc", list(product([True, False], repeat=3)))
def test_distances_are_the_shortest_over_the_periodic_images_of_each_structure(random_data, pbc):
    """Where atoms move by more than half a skewed cell, the host's displacement is not the shortest: brute force is."""
    structures = [random_data(sid, None, pbc=pbc if sid % 2 else (True, True, True)) for sid in range(6)]
    positions = ended_near(structures, 3.0)
    scored = score_relaxations(placed(structures), positions, None, "set")
    shifts = np.array(list(product(range(-4, 5), repeat=3)))
    for data, distance in zip(structures, scored.distances, strict=True):
        periodic = data.pbc.numpy()[0]
        images = shifts[(shifts[:, ~periodic] == 0).all(axis=1)] @ data.cell[0].numpy()
        moved = (positions[str(data.sid)] - data.pos_relaxed.numpy())[2:]
        shortest = np.linalg.norm(moved[:, None] + images, axis=-1).min(axis=1)
        assert distance == pytest.approx(shortest.mean(), abs=1e-5)


def test_forces_of_the_oracle_become_metrics(random_data):
    structures = [random_data(sid, None) for sid in range(3)]
    scored = score_relaxations(placed(structures), ended_near(structures, 0.1), None, "set")
    assert set(scored.tallies()) == {"distance", "average_distance_within_threshold"}
    tallies = scored.with_forces(np.array([0.0, 0.0495, 1.0])).tallies()
    assert tallies["force_below_threshold"].sums.tolist() == [1.0, 1.0, 0.0]
    np.testing.assert_allclose(tallies["average_force_below_threshold"].sums, [1.0, 351 / 391, 0.0])
    assert tallies["largest_force"].sums.tolist() == [0.0, 0.0495, 1.0]


def test_missing_strange_and_broken_relaxations_are_named(random_data):
    structures = [random_data(sid, None) for sid in range(4)]
    positions = ended_near(structures, 0.1)
    energies = dict.fromkeys(positions, 0.0)

    def refused(positions, energies, message):
        with pytest.raises(ValueError, match=re.escape(message)):
            score_relaxations(placed(structures), positions, energies, "set")

    few = {name: value for name, value in positions.items() if name != "2"}
    refused(few, None, "1 structures have no relaxation or no relaxed energy: 2")
    refused(positions, {"0": 0.0}, "3 structures have no relaxation or no relaxed energy: 1, 2, 3")
    refused(positions | {"9": positions["0"]}, None, "1 relaxations have no structure in set: 9")
    refused(positions, energies | {"9": 0.0}, "1 relaxations have no structure in set: 9")
    refused(positions | {"3": positions["3"] * np.nan}, None, "1 relaxations are not finite: 3")
    refused(positions, energies | {"1": float("nan")}, "1 relaxations are not finite: 1")
    refused(positions | {"3": positions["3"][1:]}, None, "positions of system 3: shape")
    del structures[0]["pos_relaxed"]
    refused(positions, None, "entry 0 has no label pos_relaxed")


def test_every_structure_is_handed_on_where_it_ended(random_data):
    structures = [random_data(sid, None) for sid in range(2)]
    positions = ended_near(structures, 0.1)
    seen = []
    score_relaxations(
        placed(structures), positions, None, "set", on_relaxed=lambda data, ended: seen.append((data.sid, ended))
    )
    assert [sid for sid, _ in seen] == [0, 1]
    assert all(ended is positions[str(sid)] for sid, ended in seen)
