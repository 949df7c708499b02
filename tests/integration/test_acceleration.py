"""The keys `compile` and `cuda_graph_atoms` through the models the host builds."""

import copy
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from ev2_plugin.integration.backbone import EquiformerV2, EquiformerV2Backbone
from ev2_plugin.integration.heads import EnergyHead, ForceHead
from ev2_plugin.model.replay import GraphReplay
from helpers.models import fill_by_name
from helpers.settings import settings_of
from helpers.structures import TINY, assorted, host_batch, slab

COMPILED_TRAINING = """
import sys
from pathlib import Path
from helpers import tiny_s2ef, trainers
folder = Path(sys.argv[1])
dataset = tiny_s2ef.write_dataset("lmdb", folder / "data")
weights = []
for compiled in (False, True):
    model = {**tiny_s2ef.FLAT_MODEL, "compile": compiled}
    trainer = trainers.make_trainer(trainers.config(dataset, model, max_epochs=1), folder / str(compiled))
    if compiled:
        trainer.model.run.predict = type(trainer.model.run.predict)(trainer.model.run.predict.predict, "aot_eager")
    trainer.train()
    weights.append(trainers.weights(trainer))
trainers.assert_same(*weights, atol=1e-6, rtol=1e-5)
print("same weights")
"""


def test_graph_replay_is_not_for_the_cpu_which_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    plain, model = (fill_by_name(EquiformerV2(**settings_of(TINY), **given)).eval() for given in ({}, REPLAYED))
    with caplog.at_level(logging.INFO), torch.no_grad():
        outputs = [model(host_batch(assorted())) for _ in range(2)]
        expected = plain(host_batch(assorted()))
    assert [record.message for record in caplog.records if "cuda_graph_atoms" in record.message] == [
        "cuda_graph_atoms: the model is on cpu, where nothing is replayed"
    ]
    assert torch.equal(outputs[1]["forces"], expected["forces"])
    assert isinstance(model.run.replay, GraphReplay)


REPLAYED = {"cuda_graph_atoms": 100}


def test_wrong_number_of_atoms() -> None:
    with pytest.raises(ValueError, match="cuda_graph_atoms must be a positive number of atoms or null, got 0"):
        EquiformerV2(**settings_of(TINY), cuda_graph_atoms=0)


def test_heads_read_the_backbones_features_and_train_it() -> None:
    backbone = fill_by_name(EquiformerV2Backbone(**settings_of(TINY)))
    data = host_batch([slab()])
    out = backbone(data)
    direct = backbone.embed(*backbone.read(data))
    for head in (EnergyHead(backbone), ForceHead(backbone)):
        ours, expected = head(data, out), head.predict(direct)
        (value,) = ours.values()
        assert torch.equal(value, expected)
    value.sum().backward()
    assert backbone.sphere_embedding.weight.grad.abs().sum() > 0


def test_models_can_be_copied() -> None:
    model = EquiformerV2(**settings_of(TINY), compile=True, cuda_graph_atoms=100)
    assert copy.deepcopy(model).run is not model.run


@pytest.mark.slow
def test_compiled_training_gives_the_same_weights(tmp_path: Path) -> None:
    """In an interpreter of its own, because checks of annotations cannot be compiled."""
    root = Path(__file__).parents[2]
    command = [sys.executable, "-W", "ignore", "-c", COMPILED_TRAINING, str(tmp_path)]
    done = subprocess.run(
        command, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(root / "tests")}, capture_output=True, text=True
    )
    assert "same weights" in done.stdout, done.stderr[-4000:]
