"""Every benchmark at the smallest size, and the page made of what they write."""

import gc
import json
import shutil
from argparse import Namespace
from pathlib import Path

import pytest
import torch

import bench_growth
import bench_inference_training
import bench_latency
import bench_operations
import bench_table8
import harness
import performance_page
import performance_tables
from ceilings import measure_ceilings
from ev2_plugin.integration import pairing, timing
from ev2_plugin.integration.fidelity import batch_with_edges
from ev2_plugin.integration.pairing import HOST, OURS, Contender, Setting, check, contenders
from performance_targets import TARGETS
from problems import RULE, TABLE_8, settings, slab

REPOSITORY = Path(__file__).parents[2]
pytestmark = pytest.mark.filterwarnings("ignore:.*torch.cpu.amp.autocast:FutureWarning")


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """What all benchmarks write, by name."""
    folder = tmp_path_factory.mktemp("results")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(timing, "SAMPLE_SECONDS", 1e-9)  # one call per sample
        patch.setattr(harness, "commit", lambda: "abc1234")
        gc.freeze()  # nothing to search for garbage in before each measurement of memory
        measure_all(folder)
        gc.unfreeze()
    return folder


def measure_all(folder):
    def file(module):
        args = Namespace(device="cpu", smoke=True, out=folder / f"{module.NAME}_cpu.json")
        return harness.result_file(args, module.NAME, module.QUESTION, module.IDENTITY)

    for case in (
        bench_inference_training.Case("31M", 1, 1, 1, ("ours, bf16",)),
        bench_inference_training.Case("86M-OMat", 1, 1, 1, ("ours, bf16", "ours, edges again", "ours, blocks again")),
    ):
        bench_inference_training.measure(case, "cpu", file(bench_inference_training), small=True)
    bench_latency.measure("31M", "cpu", file(bench_latency), small=True)
    growing = contenders(settings("31M", small=True), bench_growth.SETTINGS["cpu"], "cpu")
    row = None
    for side in (1, 2):
        row = bench_growth.measure(slab(side), row, growing, "cpu", samples=1)
        file(bench_growth).add(row)
    bench_table8.measure("gate, LN", "cpu", file(bench_table8), small=True)
    ceilings = measure_ceilings("cpu", share=0.02)
    bench_operations.measure("31M", bench_operations.SMALL, 3, "cpu", ceilings, file(bench_operations))


def rows(folder, name):
    return json.loads((folder / f"{name}_cpu.json").read_text())["rows"]


def test_inference_and_training_of_both_layouts_are_compared_and_timed(results):
    found = rows(results, "inference_training")
    assert [(row["model"], row["task"]) for row in found] == [
        ("31M", "inference"), ("31M", "training"), ("86M-OMat", "inference"), ("86M-OMat", "training"),
    ]  # fmt: skip
    for row in found:
        assert {"host", "ours"} <= set(row["seconds"]) == set(row["peak_mb"])
        assert set(row["agreement"]) == set(row["seconds"]) - {"host"}
        assert all("worst gradient" in one for one in row["agreement"].values())
        assert all(value <= 4e-4 for one in row["agreement"].values() for value in one.values())
    assert any(name.startswith("stress") for name in found[-1]["agreement"]["ours"])


def test_the_other_questions_get_rows_of_their_own(results):
    assert [row["atoms"] for row in rows(results, "latency")] == [18]
    assert [row["atoms"] for row in rows(results, "growth")] == [6, 18]
    assert [row["task"] for row in rows(results, "table8")] == ["inference", "training"]
    operations = rows(results, "operations")
    assert {row["operation"] for row in operations} > {"convolved_messages", "silu_on_sphere", "rotate_back_and_sum"}
    assert all(row["floor_s"] > 0 and row["seconds"]["auto"]["median"] > 0 for row in operations)


@pytest.fixture(scope="module")
def small():
    torch.manual_seed(0)
    batch = batch_with_edges([slab(1)], RULE, torch.float32)
    return contenders(settings("31M", small=True), {"host": HOST, "ours": OURS}, "cpu"), batch


def test_both_sides_hold_the_same_tensors_and_training_leaves_them(small):
    found, batch = small
    host, ours = (dict(found[name].model.named_parameters()) for name in ("host", "ours"))
    assert set(host) == set(ours)
    assert all(ours[name] is host[name] for name in host)
    before = [parameter.detach().clone() for parameter in host.values()]
    found["ours"].train_step(batch)
    assert any(parameter.grad.abs().sum() > 0 for parameter in host.values() if parameter.grad is not None)
    assert all(torch.equal(old, new) for old, new in zip(before, host.values(), strict=True))
    found["ours"].release()
    assert all(parameter.grad is None for parameter in host.values())


class Off(torch.nn.Module):
    """A model whose energy is a little off."""

    def __init__(self, model, factor):
        super().__init__()
        self.model, self.factor = model, factor

    def forward(self, batch):
        outputs = self.model(batch)
        return {**outputs, "energy": outputs["energy"] * self.factor}


@pytest.mark.parametrize("factor", [1 + 1e-4, float("nan")])
def test_models_that_disagree_are_not_timed(small, factor, monkeypatch):
    found, batch = small
    ours = found["ours"]
    wrong = Contender(Off(ours.model, factor), ours.setting, ours.optimizer, ours.scaler)
    monkeypatch.setattr(bench_inference_training, "alternating", lambda *_, **__: pytest.fail("the clock started"))
    with pytest.raises(RuntimeError, match="timing them would mean nothing"):
        next(
            bench_inference_training.compared_and_timed(
                {"host": found["host"], "ours": wrong}, {"inference": ("host", "ours")}, batch, {"inference": 1}, "cpu"
            )
        )


def test_a_wrong_gradient_is_found(small):
    found, batch = small
    handle = found["ours"].model.sphere_embedding.weight.register_hook(lambda grad: 1.01 * grad)
    try:
        alone = {"host": found["host"]}
        expected = alone["host"].answer(batch, gradients=True)  # the parameter is shared: so is the hook
    finally:
        handle.remove()
    actual = found["ours"].answer(batch, gradients=True)
    with pytest.raises(RuntimeError, match="gradient of sphere_embedding.weight"):
        pairing._deviation(expected, actual, 2e-5)


def test_what_does_not_fit_is_left_out_and_named(small, monkeypatch):
    found, batch = small
    too_large = {"host": found["host"], **contenders(settings("31M", small=True), {"h": HOST, "ours": OURS}, "cpu")}

    def out_of_memory(_):
        raise torch.cuda.OutOfMemoryError("no")

    monkeypatch.setattr(too_large["host"].model, "forward", out_of_memory)
    agreement = check(too_large, batch, gradients=False)
    assert agreement.too_large == ("host",)
    assert agreement.reference == "h"
    assert set(agreement.deviations) == {"ours"}


def test_inference_is_compared_apart_where_gradients_do_not_fit(small, monkeypatch):
    found, batch = small
    answer = Contender.answer

    def gradients_do_not_fit(self, batch, *, gradients):
        if gradients and self is found["host"]:
            raise torch.cuda.OutOfMemoryError("no")
        return answer(self, batch, gradients=gradients)

    monkeypatch.setattr(Contender, "answer", gradients_do_not_fit)
    tasks = ("inference", "training")
    made = bench_inference_training.compared_and_timed(
        found, dict.fromkeys(tasks, tuple(found)), batch, dict.fromkeys(tasks, 1), "cpu"
    )
    inference, training = (row for _, row in made)
    assert (inference["compared_with"], set(inference["seconds"])) == ("host", {"host", "ours"})
    assert inference["out_of_memory"] == []
    assert (training["compared_with"], set(training["seconds"])) == ("ours", {"ours"})
    assert training["out_of_memory"] == ["host"]


def test_growth_stops_a_side_that_would_not_fit_or_would_take_too_long(monkeypatch):
    monkeypatch.setattr(bench_growth, "available_megabytes", lambda device: 1000.0)
    row = {
        "atoms": 100,
        "seconds": {"fits": {"median": 1.0}, "large": {"median": 1.0}, "slow": {"median": 30.0}},
        "peak_mb": {"fits": 100.0, "large": 600.0, "slow": 1.0},
        "skipped": {"gone": "memory ran out"},
    }
    reasons = {name: bench_growth.reason_to_skip(name, row, 200, "cpu") for name in ("fits", "large", "slow", "gone")}
    assert reasons == {
        "fits": None,
        "large": "would need about 1.2 GB, 1 GB were free",
        "slow": "would take about 60 s",
        "gone": "memory ran out",
    }
    assert bench_growth.reason_to_skip("fits", None, 200, "cpu") is None


def test_rows_of_table_8_have_the_papers_parameters():
    counts = {"gate, LN": 91_057_986, "S2, LN": 81_458_370, "base, M = 6": 106_627_202, "153M": 153_602_690}
    for name, count in counts.items():
        with torch.device("meta"):
            model = pairing.EquiformerV2(**settings("83M", **TABLE_8[name]))
        assert sum(parameter.numel() for parameter in model.parameters()) == count


def test_precision_decides_how_far_answers_may_be_apart():
    assert Setting({"precision": "high"}).precision == "high"
    assert Setting({}, torch.float16).precision == "fp16"
    assert HOST.precision == OURS.precision == "highest"


def test_the_page_shows_what_the_files_say(results, tmp_path):
    page = tmp_path / "docs" / "performance.md"
    page.parent.mkdir()
    shutil.copy(REPOSITORY / "docs" / "performance.md", page)
    performance_page.main(["--results", str(results), "--page", str(page)])
    text = page.read_text()
    row = rows(results, "inference_training")[1]
    ratio = row["seconds"]["host"]["median"] / row["seconds"]["ours"]["median"]
    assert f"| 31M, batch 1 | ours | {performance_tables.spread(row['seconds']['ours'])} | {ratio:.2f} |" in text
    assert f"31M, batch 1: {ratio:.2f}" in next(line for line in text.splitlines() if "| training step |" in line)
    assert text.count("GPU: not measured.") == len(performance_page.SECTIONS)
    assert "| CPU | neighbour search, 1,000 atoms | 10 | not measured |" in text
    for target in (target for target in TARGETS if target.file != "neighbors"):
        line = next(line for line in text.splitlines() if f"| {target.what} | {target.goal:g} |" in line)
        assert ("not measured" in line) == (target.device == "cuda" or target.ours == "ours, bf16")
    for name in ("inference_training", "latency", "growth", "operations", "table8"):
        assert (page.parent / "performance" / f"{name}_cpu.png").read_bytes().startswith(b"\x89PNG")
        assert f"performance/{name}_cpu.png" in text


def test_the_committed_page_is_that_of_the_committed_files(tmp_path):
    page = REPOSITORY / "docs" / "performance.md"
    shutil.copy(page, tmp_path / "performance.md")
    performance_page.write(tmp_path / "performance.md", performance_page.load(harness.RESULTS))
    assert (tmp_path / "performance.md").read_text() == page.read_text()


def test_a_target_counts_the_largest_batch_that_both_sides_could_run():
    def row(size, task, ways):
        return {"model": "31M", "batch_size": size, "task": task, "seconds": {way: {"median": 1.0} for way in ways}}

    found = TARGETS[0].ratios(
        [row(1, "inference", ("host", "ours")), row(2, "inference", ("host", "ours")), row(4, "inference", ("ours",))]
    )
    assert found == {"31M, batch 2": 1.0}
