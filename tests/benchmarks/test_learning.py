"""The learning benchmark and the ablations at the smallest size: everything runs, nothing is said about the numbers."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

import ablations
import learning
from ev2_plugin.demo.dataset import DatasetSize
from learning_figure import draw
from learning_host import host_model_settings, relative_differences, seeded_frames
from learning_tasks import NOISE_ERROR, Scale, Target
from marked_page import replace_section
from training_runs import Curve, TrainingLog

STEPS = 2
TASKS = ("s2ef", "is2re", "is2re_noisy_nodes", "qm9")


@pytest.fixture(scope="module")
def console() -> Console:
    return Console(file=io.StringIO(), width=150)


@pytest.fixture(scope="module")
def results(tmp_path_factory, console):
    scale = Scale(systems=2, s2ef_frames=4, molecules=4, batch_size=2, steps=dict.fromkeys(TASKS, STEPS))
    return learning.measure(tmp_path_factory.mktemp("learning"), scale, 0, console)


def test_every_task_is_trained_and_every_target_measured(results):
    assert tuple(results["tasks"]) == TASKS
    for task in results["tasks"].values():
        assert task["steps"] == STEPS
        assert task["targets"]
        for target in task["targets"]:
            assert np.isfinite(target["final_error"])
            assert target["share_of_baseline"] == target["final_error"] / target["baseline_error"]


def test_host_and_ours_start_from_the_same_weights_and_see_the_same_batches(results):
    losses = results["host_comparison"]["losses"]
    first, second = (np.array([curve["values"][step] for curve in losses.values()]) for step in range(STEPS))
    np.testing.assert_allclose(first, first[0], rtol=1e-5)
    np.testing.assert_allclose(second, second[0], rtol=1e-5)
    assert abs(first[0] - second[0]) > 1e-3 * first[0]


def test_results_are_json_and_drawn_and_shown(results, tmp_path):
    json.dumps(results)
    draw(tmp_path / "figures" / "learning.png", results)
    assert (tmp_path / "figures" / "learning.png").read_bytes().startswith(b"\x89PNG")
    assert "| IS2RE + IS2RS, Noisy Nodes | 2 | displacement |" in learning.tables(results)
    assert "| ours - host |" in learning.tables(results)


def test_the_error_of_noise_is_what_the_loss_adds_to_the_property():
    lines = [
        {"split": "train", "step": step, "loss": 0.5 + 0.1 * step, "property_mae": 0.5, "time": 0.0} for step in (1, 2)
    ]
    curve = learning.error_curve(TrainingLog(lines), Target(NOISE_ERROR, "noise", "σ", "no noise", 0.8))
    assert curve.steps == [1, 2]
    assert curve.values == pytest.approx([1.0, 2.0])


def test_the_hosts_turns_depend_on_their_seed_alone():
    import torch
    from fairchem.core.models.equiformer_v2 import equiformer_v2_deprecated

    vectors = torch.tensor([[1.0, 0.2, 0.3], [0.0, 2.0, 1.0]])

    def drawn(seed: int) -> torch.Tensor:
        with seeded_frames(seed):
            return equiformer_v2_deprecated.init_edge_rot_mat(vectors)

    state = torch.get_rng_state()
    assert torch.equal(drawn(0), drawn(0))
    assert not torch.allclose(drawn(0), drawn(1))
    assert torch.equal(torch.get_rng_state(), state)


def test_a_host_that_cannot_have_our_radial_functions_is_refused():
    with pytest.raises(ValueError, match="600 radial functions, not 64"):
        host_model_settings({"num_radial_basis": 64, "lmax": 2, "mmax": 2})


def test_relative_differences_are_of_the_second_curve():
    losses = {"ours": [1.1, 2.0], "host": [1.0, 4.0]}
    assert relative_differences(losses, "ours", "host") == pytest.approx([0.1, 0.5])


def test_a_thinned_curve_keeps_both_ends():
    thinned = Curve(list(range(1, 1001)), [float(step) for step in range(1, 1001)]).thinned(most=200)
    assert (thinned.steps[0], thinned.steps[-1]) == (1, 1000)
    assert len(thinned.steps) <= 200
    short = Curve([3, 5], [1.0, 2.0])
    assert short.thinned() == short


@pytest.fixture(scope="module")
def ablation_results(tmp_path_factory, console):
    scale = ablations.Scale(DatasetSize(train=2, val=1, test=1, frames=3), batch_size=3, steps=STEPS)
    return ablations.measure(tmp_path_factory.mktemp("ablations"), scale, range(2), console)


def test_every_row_is_trained_with_every_seed(ablation_results):
    assert len(ablation_results["rows"]) == 5
    for row in ablation_results["rows"].values():
        assert row["steps"] == STEPS
        for metric in ("forces_mae", "energy_mae"):
            assert len(set(row[metric])) == 2


def test_each_switch_changes_what_it_should(ablation_results):
    """Row by row, at full size and at the size that is trained."""
    for size in ("full_size", "here"):
        parts = [row[size] for row in ablation_results["rows"].values()]
        counts = [part["parameters"] for part in parts]
        assert counts[1] - counts[0] == parts[1]["alpha_norm_parameters"] > 0 == parts[0]["alpha_norm_parameters"]
        assert [part["activation"] for part in parts] == ["gate", "gate", "s2", "separable_s2", "separable_s2"]
        assert [part["grid_mlp"] for part in parts] == [False, False, True, True, True]
        assert parts[1]["attention_scalars"] > parts[3]["attention_scalars"] > parts[2]["attention_scalars"] == 0
        assert parts[1]["feed_forward_scalars"] > 0 == parts[3]["feed_forward_scalars"]
        assert [part["norm"] for part in parts] == ["DegreeLayerNorm"] * 4 + ["SeparableLayerNorm"]
        assert counts[3] == counts[4]
    assert [row["full_size"]["parameters"] for row in ablation_results["rows"].values()] == [
        *(91_056_322, 91_057_986, 81_458_370, 83_164_802, 83_164_802)  # paper, Table 8
    ]


def test_the_tables_show_every_row(ablation_results):
    tables = ablations.tables(ablation_results)
    assert "| 1: gate, no re-normalisation |" in tables
    assert "| 5 | separable_s2 | LayerNorm (96) | 16, 0 | yes | SeparableLayerNorm |" in tables
    assert "91,057,986" in tables


def test_tables_replace_what_stands_between_the_marks_of_a_page(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- errors: by a script -->\nold\n<!-- end of errors -->\nafter\n")
    for _ in range(2):
        replace_section(page, "errors", "new\nlines")
        assert page.read_text() == ("before\n<!-- errors: by a script -->\nnew\nlines\n<!-- end of errors -->\nafter\n")
    with pytest.raises(ValueError, match="must have one line '<!-- others: ... -->'"):
        replace_section(page, "others", "new")


@pytest.mark.parametrize("name", ["learning", "ablations"])
def test_the_page_has_room_for_the_tables(name, tmp_path):
    page = tmp_path / "learning.md"
    page.write_text((Path(__file__).parents[2] / "docs" / "learning.md").read_text())
    replace_section(page, name, "the tables")
    assert "\nthe tables\n" in page.read_text()
