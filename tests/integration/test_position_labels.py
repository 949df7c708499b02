"""IS2RS displacements and Noisy Nodes through the trainer."""

import pickle
from pathlib import Path
from typing import Any

import lmdb
import pytest
import torch
from fairchem.core.preprocessing import AtomsToGraphs

from ev2_plugin.integration.trainer import Trainer
from helpers import tiny_s2ef
from helpers.trainers import config, make_trainer

AUXILIARY = {
    **tiny_s2ef.HYDRA_MODEL,
    "heads": {
        "energy": {"module": "ev2_energy_head"},
        "displacement": {"module": "ev2_plugin.VectorHead", "output_name": "displacement"},
    },
}
NOISE = {
    **tiny_s2ef.HYDRA_MODEL,
    "heads": {
        "energy": {"module": "ev2_energy_head"},
        "noise": {"module": "ev2_vector_head", "output_name": "noise"},
    },
}


@pytest.fixture(scope="module")
def relaxations(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The slabs as initial structures; relaxed positions are wrapped into the cell, as some codes write them."""
    folder = tmp_path_factory.mktemp("is2re") / "data"
    folder.mkdir()
    converter = AtomsToGraphs(r_energy=False, r_forces=False, r_fixed=True, r_pbc=True, r_edges=False)
    environment = lmdb.open(str(folder / "data.lmdb"), map_size=2**24, subdir=False)
    with environment.begin(write=True) as transaction:
        for index, slab in enumerate(tiny_s2ef.slabs()):
            data = converter.convert(slab)
            relaxed = slab.copy()
            way = torch.randn(len(slab), 3, generator=torch.Generator().manual_seed(index)) * 0.1
            relaxed.positions += way.numpy() * (slab.get_tags() == 1)[:, None]
            relaxed.wrap()
            data.tags = torch.tensor(2 - slab.get_tags())  # ase counts layers from the top, 1 first; here 1 is surface
            data.pos_relaxed, data.sid = torch.tensor(relaxed.positions, dtype=torch.float32), index
            data.way = way * (data.tags == 1)[:, None]
            data.y_relaxed = float(slab.get_potential_energy())
            transaction.put(str(index).encode(), pickle.dumps(data, protocol=-1))
        transaction.put(b"length", pickle.dumps(tiny_s2ef.NUM_STRUCTURES))
    environment.close()
    return {"format": "lmdb", "src": str(folder / "data.lmdb"), "key_mapping": {"y_relaxed": "energy"}}


def auxiliary(relaxations: dict[str, Any], noisy_nodes: dict[str, Any] | None, **optim: Any) -> dict[str, Any]:
    made = config(relaxations, AUXILIARY, **optim)
    made["outputs"] = {
        "energy": made["outputs"]["energy"],
        "displacement": {"irrep_dim": 1, "level": "atom", "train_on_free_atoms": True, "eval_on_free_atoms": True},
    }
    made["loss_functions"] = [
        {"energy": {"fn": "mae", "coefficient": 1}},
        {"displacement": {"fn": "mae", "coefficient": 15, "final_coefficient": 1}},
    ]
    made["evaluation_metrics"] = {
        "metrics": {"energy": ["mae"], "displacement": ["mae"]},
        "primary_metric": "energy_mae",
    }
    if noisy_nodes is not None:
        made["task"]["noisy_nodes"] = noisy_nodes
    return made


def denoising(dataset: dict[str, Any], **noisy_nodes: Any) -> dict[str, Any]:
    made = auxiliary(dataset, noisy_nodes or None)
    made["model"] = NOISE
    made["outputs"]["noise"] = made["outputs"].pop("displacement")
    made["loss_functions"][1] = {"noise": {"fn": "l2mae", "coefficient": 0.1}}
    made["evaluation_metrics"]["metrics"] = {"energy": ["mae"]}
    return made


def one_batch(trainer: Trainer) -> Any:
    (batch,) = list(trainer.train_loader)
    return batch


@pytest.mark.parametrize("fixed", [False, True])
def test_displacements_are_those_of_the_relaxation(fixed: bool, relaxations: dict[str, Any], tmp_path: Path) -> None:
    trainer = make_trainer(auxiliary(relaxations, None, batch_size=4), tmp_path)
    batch = one_batch(trainer)
    start = batch.pos.clone()
    if fixed:
        batch.fixed[batch.tags == 1] = 1
    else:
        batch.fixed.zero_()
    trainer.step = 1
    trainer.model.train()
    if fixed:
        with pytest.raises(ValueError, match="learns from free atoms with tag 1 .surface. or 2 .adsorbate."):
            trainer._forward(batch)
        return
    trainer._forward(batch)
    assert torch.equal(batch.pos, start)
    torch.testing.assert_close(batch.displacement, batch.way, atol=1e-5, rtol=0)
    assert torch.equal(batch.displacement_mask, batch.tags == 1)


def test_the_auxiliary_loss_counts_tagged_free_atoms_with_a_decaying_weight(
    relaxations: dict[str, Any], tmp_path: Path
) -> None:
    settings = auxiliary(relaxations, None, batch_size=4, max_epochs=8)
    settings["dataset"]["train"]["transforms"] = {"normalizer": {"displacement": {"mean": 0.0, "rmsd": 0.5}}}
    trainer = make_trainer(settings, tmp_path)
    trainer.model.eval()
    batch = one_batch(trainer)
    out = trainer._forward(batch)
    counted = (batch.tags == 1) & (batch.fixed == 0)
    error = (out["displacement"] - batch.way / 0.5)[counted].abs().mean().item()
    energy = (out["energy"].flatten() - batch.energy).abs().mean().item()
    for step, coefficient in ((0, 15.0), (4, 8.0), (8, 1.0)):
        trainer.step = step
        assert trainer._compute_loss(out, batch).item() == pytest.approx(energy + coefficient * error, rel=1e-4)


def test_corrupted_structures_and_their_way_home(relaxations: dict[str, Any], tmp_path: Path) -> None:
    noisy_nodes = {"std": 0.3, "probability": 0.5, "interpolate": True}
    trainer = make_trainer(auxiliary(relaxations, noisy_nodes, batch_size=4), tmp_path)
    source = one_batch(trainer)
    trainer.model.train()
    corrupted = []
    for step in range(1, 21):
        batch = source.clone()
        trainer.step = step
        trainer._forward(batch)
        moved = (batch.pos != source.pos).any(dim=1)
        assert not (moved & ~((batch.tags == 1) & (batch.fixed == 0))).any()
        torch.testing.assert_close(batch.displacement, source.way + source.pos - batch.pos, atol=1e-5, rtol=0)
        corrupted += [bool(moved[batch.batch == index].any()) for index in range(4)]
    assert 0.3 < sum(corrupted) / 80 < 0.7

    trainer.step = 5
    again = [source.clone(), source.clone()]
    for batch in again:
        trainer._forward(batch)
    assert torch.equal(again[0].pos, again[1].pos)  # a restarted run sees the same noise

    trainer.model.eval()
    batch = source.clone()
    trainer._forward(batch)
    assert torch.equal(batch.pos, source.pos)


def test_noise_is_asked_for_on_moved_atoms_only(dataset: dict[str, Any], tmp_path: Path) -> None:
    settings = denoising(dataset, std=0.02, probability=0.5, corrupt_ratio=0.25)
    settings["optim"]["batch_size"] = 4
    settings["dataset"]["train"]["transforms"] = {"normalizer": {"noise": {"mean": 0.0, "rmsd": 0.02}}}
    trainer = make_trainer(settings, tmp_path)
    source = one_batch(trainer)
    trainer.model.train()
    some = False
    for trainer.step in range(1, 9):
        batch = source.clone()
        out = trainer._forward(batch)
        torch.testing.assert_close(batch.pos, source.pos + batch.noise)
        moved = (batch.pos != source.pos).any(dim=1)
        assert torch.equal(moved, batch.noise_mask)
        energy = (out["energy"].flatten() - batch.energy).abs().mean()
        error = torch.linalg.vector_norm(out["noise"] - batch.noise / 0.02, dim=1)[moved]
        expected = energy + 0.1 * (error.mean() if moved.any() else 0.0)
        assert trainer._compute_loss(out, batch).item() == pytest.approx(expected.item(), rel=1e-5)
        some |= bool(moved.any())
    assert some


@pytest.mark.parametrize("kind", ["auxiliary", "denoising"])
def test_it_trains_validates_and_predicts(
    kind: str, relaxations: dict[str, Any], dataset: dict[str, Any], tmp_path: Path
) -> None:
    if kind == "auxiliary":
        settings = auxiliary(relaxations, {"std": 0.3, "probability": 0.5, "interpolate": True})
        settings["dataset"]["test"] = dataset  # structures without relaxed positions
        settings["dataset"]["test"] = {**dataset, "use_train_settings": False}
    else:
        settings = denoising(dataset, std=0.02, probability=0.5, corrupt_ratio=0.5)
    trainer = make_trainer(settings, tmp_path)
    trainer.train(disable_eval_tqdm=True)
    assert trainer.step == 4
    assert trainer.skipped.total == 0
    if kind == "auxiliary":
        predicted = trainer.predict(trainer.test_loader, disable_tqdm=True)
        assert len(predicted["energy"]) == tiny_s2ef.NUM_STRUCTURES


@pytest.mark.parametrize(
    ("noisy_nodes", "outputs", "message"),
    [
        ({"std": 0.3, "probability": 0.5}, ["energy"], "'displacement' or 'noise' that learns from it"),
        (None, ["energy", "noise"], "the output 'noise' needs task.noisy_nodes"),
        ({"std": 0.3}, ["displacement"], "task.noisy_nodes: .*probability"),
        ({"std": 0.3, "probability": 0.5, "ratio": 1.0}, ["noise"], "task.noisy_nodes: .*ratio"),
        ({"std": "3e-1", "probability": 0.5}, ["noise"], "task.noisy_nodes.std must be a number, got '3e-1'"),
        ([0.3, 0.5], ["noise"], r"task.noisy_nodes must give std and probability, got \[0\.3, 0\.5\]"),
        ({"std": 0.3, "probability": 0.5, "interpolate": 1}, ["noise"], "interpolate must be true or false, got 1"),
    ],
)
def test_settings_that_cannot_be_meant(
    noisy_nodes: Any, outputs: list[str], message: str, dataset: dict[str, Any], tmp_path: Path
) -> None:
    settings = config(dataset)
    settings["outputs"] = {name: settings["outputs"]["energy"] for name in outputs}
    if noisy_nodes is not None:
        settings["task"]["noisy_nodes"] = noisy_nodes
    with pytest.raises(ValueError, match=message):
        make_trainer(settings, tmp_path)


def test_training_data_without_relaxed_positions_are_refused(dataset: dict[str, Any], tmp_path: Path) -> None:
    trainer = make_trainer(auxiliary(dataset, None), tmp_path)
    with pytest.raises(ValueError, match="the output 'displacement' needs 'pos_relaxed' in the training data"):
        trainer.train(disable_eval_tqdm=True)


def test_data_without_tags_are_refused(relaxations: dict[str, Any], tmp_path: Path) -> None:
    trainer = make_trainer(auxiliary(relaxations, None), tmp_path)
    (batch, *_) = list(trainer.train_loader)
    del batch.tags
    with pytest.raises(ValueError, match="the output 'displacement' needs 'tags' in the data"):
        trainer._forward(batch)
