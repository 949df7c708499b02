import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ase.build import bulk, molecule
from fairchem.core.datasets import data_list_collater
from fairchem.core.preprocessing import AtomsToGraphs
from torch import nn

from ev2_plugin.integration import precision
from ev2_plugin.integration.precision import available, deviations, network_of, with_edges
from ev2_plugin.integration.precision_source import ModelSource, deviation_table, read_batches, read_source
from ev2_plugin.integration.reading import read_batch
from ev2_plugin.ops.linear import PRECISIONS
from helpers import tiny_s2ef
from helpers.tf32_units import emulate_units, serve_cpu

CPU = torch.device("cpu")
MODELS = {"flat": tiny_s2ef.FLAT_MODEL, "hydra": tiny_s2ef.HYDRA_MODEL}


def source(settings: Mapping[str, Any]) -> ModelSource:
    return ModelSource(copy.deepcopy(dict(settings)), None, {})


def slab_batches(sizes: tuple[int, ...] = (3, 1)) -> list[Any]:
    convert = AtomsToGraphs(r_pbc=True, r_edges=False).convert
    objects = [convert(slab) for slab in tiny_s2ef.slabs()]
    starts = np.cumsum((0, *sizes))
    return [data_list_collater(objects[i:j], otf_graph=True) for i, j in zip(starts, starts[1:], strict=False)]


@pytest.mark.parametrize("name", MODELS)
def test_each_precision_is_as_far_from_float64_as_it_should_be(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    emulate_units(monkeypatch)
    serve_cpu(monkeypatch)
    rows = deviations(source(MODELS[name]).build, slab_batches(), PRECISIONS, CPU)
    assert [row.precision for row in rows] == list(PRECISIONS)
    relative = {row.precision: row.outputs["forces"].relative for row in rows}
    assert relative["highest"] < 2e-5
    assert relative["high"] < 5e-5
    assert 5e-5 < relative["tf32"] < 1e-2
    assert relative["tf32"] < relative["bf16"] < 0.1


class Shifted(nn.Module):
    """Our model with errors of known size at float32."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, data: Any) -> dict[str, Any]:
        out = {name: value.double() for name, value in self.model(data).items()}
        if next(self.model.parameters()).dtype == torch.float64:
            return {"energy": torch.full_like(out["energy"], 3.0), "forces": torch.full_like(out["forces"], 1.0)}
        forces = torch.full_like(out["forces"], 1.0)
        forces[-1] += torch.tensor([3.0, 0.0, 4.0])
        energy = torch.full_like(out["energy"], 3.0)
        energy[0] -= 0.5
        return {"energy": energy, "forces": forces}


def test_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    find = network_of
    monkeypatch.setattr(precision, "network_of", lambda model: find(getattr(model, "model", model)))
    (row,) = deviations(
        lambda p: Shifted(source(tiny_s2ef.FLAT_MODEL).build(p)), slab_batches((4,)), ["bf16"], CPU, {"energy": 10.0}
    )
    energy, forces = row.outputs["energy"], row.outputs["forces"]
    assert (energy.relative, energy.mean, energy.largest) == pytest.approx((0.5 / 6, 1.25, 5.0))
    assert (forces.relative, forces.mean, forces.largest) == pytest.approx((5 / 96**0.5, 5 / 32, 5.0))


def test_a_whole_stress_is_compared_by_structure() -> None:
    settings = copy.deepcopy(tiny_s2ef.HYDRA_MODEL)
    settings["heads"]["stress"] = {"module": "ev2_plugin.StressHead"}
    (row,) = deviations(source(settings).build, slab_batches(), ["highest"], CPU)
    assert 0 < row.outputs["stress"].relative < 1e-3


def test_weights_are_the_same_at_every_precision_and_the_generator_is_left_alone() -> None:
    state = torch.get_rng_state()
    first, second = (source(tiny_s2ef.FLAT_MODEL).build(one) for one in ("highest", "bf16"))
    assert torch.equal(torch.get_rng_state(), state)
    for ours, other in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(ours, other)
    assert (first.config.precision, second.config.precision) == ("highest", "bf16")


@pytest.mark.parametrize("backend", ["reference", "triton"])
def test_backends_that_lack_a_precision_are_not_asked_for_it(backend: str) -> None:
    assert source(tiny_s2ef.FLAT_MODEL | {"backend": backend}).build("high").config.backend == "auto"


def test_edges_of_a_batch_are_those_the_model_finds() -> None:
    model = source(tiny_s2ef.FLAT_MODEL).build("highest")
    atoms = [tiny_s2ef.slabs()[0], bulk("NaCl", "rocksalt", a=5.64, cubic=True), molecule("CH3CH2OH", cell=[9, 9, 9])]
    atoms[1].rattle(0.1, seed=1)
    convert = AtomsToGraphs(r_pbc=True, r_edges=False).convert
    batch = data_list_collater([convert(one) for one in atoms], otf_graph=True)
    before = batch.clone()
    exact = batch.clone()
    exact.pos = batch.pos.double()
    found = read_batch(exact, model.config, model.options, torch.float64).graph
    given = with_edges(batch, model)
    assert batch.keys() == before.keys()
    model.options = type(model.options)(otf_graph=False)
    given.pos = given.pos.double()
    read = read_batch(given, model.config, model.options, torch.float64).graph
    assert torch.equal(read.senders, found.senders)
    assert torch.equal(read.receivers, found.receivers)
    torch.testing.assert_close(read.vectors, found.vectors, rtol=0, atol=1e-12)


def test_what_float64_cannot_say_is_an_error() -> None:
    def broken(one: Any) -> nn.Module:
        model = source(tiny_s2ef.FLAT_MODEL).build(one)
        next(model.parameters()).data.fill_(torch.nan)
        return model

    with pytest.raises(ValueError, match="energy is not finite in float64"):
        deviations(broken, slab_batches((1,)), ["highest"], CPU)


def test_other_models_are_refused() -> None:
    with pytest.raises(ValueError, match="the model is Linear: only those of ev2_plugin"):
        network_of(nn.Linear(1, 1))


def test_cpus_have_two_precisions() -> None:
    assert available(CPU) == ("highest", "bf16")
    assert available(torch.device("cuda", 1)) == PRECISIONS


class TestSource:
    @staticmethod
    def checkpoint(folder: Path, settings: Mapping[str, Any], normalizers: Mapping[str, Any]) -> Path:
        model = source(settings).build("highest")
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.mul_(1.5)
        state = {f"module.{name}": value for name, value in model.state_dict().items()}
        path = folder / "checkpoint.pt"
        torch.save({"state_dict": state, "config": {"model": dict(settings)}, "normalizers": normalizers}, path)
        return path

    @pytest.mark.parametrize("name", MODELS)
    @pytest.mark.parametrize("with_config", [True, False])
    def test_checkpoint(self, name: str, with_config: bool, tmp_path: Path) -> None:
        scales = {"energy": {"mean": torch.tensor(-3.0), "rmsd": torch.tensor(2.5)}}
        checkpoint = self.checkpoint(tmp_path, MODELS[name], scales)
        config = None
        if with_config:
            content = tiny_s2ef.config({"src": "unused"}, MODELS[name], "ocp")
            content["dataset"]["train"]["transforms"] = {
                "normalizer": {"energy": {"mean": 0.0, "rmsd": 9.0}, "forces": {"mean": 0.0, "stdev": 4.0}}
            }
            config = tiny_s2ef.write_config(tmp_path / "run.yml", content)
        read = read_source(config, checkpoint)
        assert read.scales == ({"energy": 2.5, "forces": 4.0} if with_config else {"energy": 2.5})
        expected = source(MODELS[name]).build("highest").state_dict()
        weights = read.build("high").state_dict()
        assert weights.keys() == expected.keys()
        for key, value in weights.items():
            assert torch.equal(value, expected[key] * 1.5)

    def test_normalizers_of_older_checkpoints(self, tmp_path: Path) -> None:
        old = {"target": {"mean": 0.0, "std": 2.0}, "grad_target": {"mean": 0.0, "std": torch.tensor(3.0)}}
        path = self.checkpoint(tmp_path, tiny_s2ef.FLAT_MODEL, old)
        assert read_source(None, path).scales == {"energy": 2.0, "forces": 3.0}

    def test_normalizers_to_be_fitted_are_not_known(self, tmp_path: Path) -> None:
        content = tiny_s2ef.config({"src": "unused"}, tiny_s2ef.FLAT_MODEL, "ocp")
        content["dataset"]["train"]["transforms"] = {
            "normalizer": {"fit": {"targets": ["forces"]}, "file": "norms.pt", "energy": {"file": "energy.pt"}}
        }
        assert read_source(tiny_s2ef.write_config(tmp_path / "run.yml", content), None).scales == {}

    def test_nothing_given(self) -> None:
        with pytest.raises(ValueError, match="give --config-yml or --checkpoint"):
            read_source(None, None)

    def test_missing_files(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError, match="no such file"):
            read_source(None, tmp_path / "no.pt")
        with pytest.raises(FileNotFoundError, match="no config"):
            read_source(tmp_path / "no.yml", None)

    def test_no_model_section(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match=r"has no model section with a name, got \{'lmax': 2\}"):
            read_source(tiny_s2ef.write_config(tmp_path / "run.yml", {"model": {"lmax": 2}}), None)

    def test_weights_of_another_model(self, tmp_path: Path) -> None:
        path = self.checkpoint(tmp_path, tiny_s2ef.FLAT_MODEL, {})
        content = {"model": {**tiny_s2ef.FLAT_MODEL, "num_layers": 2}}
        read = read_source(tiny_s2ef.write_config(tmp_path / "run.yml", content), path)
        with pytest.raises(RuntimeError, match="blocks.1"):
            read.build("highest")


@pytest.mark.parametrize("layout", ["lmdb", "ase_db"])
def test_structures_of_a_dataset(layout: str, tmp_path: Path) -> None:
    tiny_s2ef.write_dataset(layout, tmp_path / "data")
    batches = list(read_batches(tmp_path / "data", 3, 2))
    assert [batch.num_graphs for batch in batches] == [2, 1]
    known = [torch.tensor(slab.get_positions(wrap=True), dtype=torch.float32) for slab in tiny_s2ef.slabs()]
    found = [data.pos for batch in batches for data in batch.to_data_list()]
    same = [[torch.allclose(one, other, rtol=0, atol=1e-5) for other in known] for one in found]
    assert [sum(row) for row in same] == [1, 1, 1]
    assert max(sum(column) for column in zip(*same, strict=True)) == 1
    assert sum(batch.num_graphs for batch in read_batches(tmp_path / "data", 100, 8)) == tiny_s2ef.NUM_STRUCTURES


def test_no_dataset(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="does not exist"):
        list(read_batches(tmp_path / "nowhere", 1, 1))


def test_units_of_the_table() -> None:
    one = precision.OutputDeviation(1e-6, 2e-6, 3e-6)
    row = precision.PrecisionRow("tf32", {"energy": one, "forces": one, "noise": one})
    table = deviation_table([row], {"energy": 2.0, "noise": 1.0}, "title")
    columns = {column.header: list(column.cells) for column in table.columns}
    assert columns["output"] == ["energy", "forces", "noise"]
    assert columns["unit"] == ["eV", "normalised", "of the labels"]
    assert columns["largest"] == ["3.00e-06"] * 3
