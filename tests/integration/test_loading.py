"""From checkpoints to potentials: what the trainer that wrote them predicts, and refusals of anything incomplete."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from ev2_plugin.integration.fidelity import pinned_frames
from ev2_plugin.integration.loading import choose_device, load_potential
from ev2_plugin.integration.potential import ModelPotential, potential_of_trainer
from ev2_plugin.integration.stand_ins import with_stand_ins
from ev2_plugin.potential.structures import from_atoms
from ev2_plugin.storage.checkpoint_file import read_checkpoint
from helpers import tiny_s2ef
from helpers.models import fill_by_name
from helpers.trainers import config, make_trainer

REFERENCES = {"energy": {"elements": {"Cu": -3.25}}}
NORMALIZER = {"energy": {"mean": -0.75, "rmsd": 2.9}, "forces": {"mean": 0.0, "rmsd": 1.7}}


@pytest.fixture
def trained(dataset: dict[str, Any], tmp_path: Path) -> Callable[..., Any]:
    def make(model: dict[str, Any], trainer: str = "ev2_plugin.Trainer") -> Any:
        data = {**dataset, "transforms": {"normalizer": NORMALIZER, "element_references": REFERENCES}}
        settings = config(data, copy.deepcopy(model))
        made = make_trainer(settings, tmp_path)
        fill_by_name(made.model)
        for shadow in made.ema.shadow_params:
            shadow.copy_(1.01 * shadow)
        return made

    return make


@pytest.mark.parametrize("model", [tiny_s2ef.FLAT_MODEL, tiny_s2ef.HYDRA_MODEL], ids=["flat", "hydra"])
@pytest.mark.parametrize("training_state", [True, False])
def test_loads_what_a_trainer_wrote(model: dict[str, Any], training_state: bool, trained: Any) -> None:
    trainer = trained(model)
    path = trainer.save(training_state=training_state)
    potential = load_potential(Path(path), "cpu")
    structures = from_atoms(tiny_s2ef.slabs(), "abcd")
    assert isinstance(potential, ModelPotential)
    raw = potential_of_trainer(trainer)(structures).energy
    trainer.ema.copy_to()
    expected, predicted = potential_of_trainer(trainer)(structures), potential(structures)
    assert not torch.allclose(raw, expected.energy)
    assert torch.equal(predicted.energy, expected.energy)
    assert torch.equal(predicted.forces, expected.forces)
    assert potential.energy_kind.name == "total"
    assert not potential.model.training


HOST_HYDRA = {
    **tiny_s2ef.HYDRA_MODEL,
    "backbone": {**tiny_s2ef.HYDRA_MODEL["backbone"], "model": "equiformer_v2_backbone", "otf_graph": False},
    "heads": {"energy": {"module": "equiformerV2_scalar_head"}, "forces": {"module": "equiformerV2_vector_head"}},
}


@pytest.mark.parametrize(
    "model", [{**tiny_s2ef.FLAT_MODEL, "name": "equiformer_v2"}, HOST_HYDRA], ids=["equiformer_v2", "hydra"]
)
def test_the_hosts_model_becomes_ours(model: dict[str, Any], trained: Any) -> None:
    trainer = trained(model)
    trainer.ema.copy_to()
    potential = load_potential(trainer.save(), "cpu")
    assert isinstance(potential, ModelPotential)
    structures = from_atoms(tiny_s2ef.slabs(), "abcd")
    with pinned_frames():
        if "backbone" in model:
            trainer._unwrapped_model.backbone.otf_graph = True
        expected = potential_of_trainer(trainer)(structures)
    predicted = potential(structures)
    torch.testing.assert_close(predicted.energy, expected.energy, rtol=1e-6, atol=1e-4)
    torch.testing.assert_close(predicted.forces, expected.forces, rtol=1e-3, atol=1e-4)


def test_older_heads_of_the_host_have_stand_ins() -> None:
    heads = {"e": {"module": "equiformer_v2_energy_head"}, "f": {"module": "equiformer_v2_force_head"}}
    replaced = with_stand_ins({**HOST_HYDRA, "heads": heads})
    assert [head["module"] for head in replaced["heads"].values()] == ["ev2_plugin.EnergyHead", "ev2_plugin.ForceHead"]


def test_a_model_with_a_head_that_has_none_stays_the_hosts() -> None:
    model = {**HOST_HYDRA, "heads": {**HOST_HYDRA["heads"], "extra": {"module": "some.OtherHead"}}}
    assert with_stand_ins(model) == model
    assert with_stand_ins({"name": "schnet", "cutoff": 5.0}) == {"name": "schnet", "cutoff": 5.0}


def rewritten(path: str, change: Callable[[dict[str, Any]], None]) -> Path:
    content = read_checkpoint(Path(path))  # without its digest, as files of others are
    change(content)
    torch.save(content, path)
    return Path(path)


def of_older_form(content: dict[str, Any]) -> None:
    """What releases before 1.0 wrote, by a model in two wrappers."""
    config = content["config"]
    settings = config.pop("model")
    config["model"], config["model_attributes"] = settings.pop("name"), settings
    config["dataset"] = [
        {
            "src": "gone",
            "normalize_labels": True,
            "target_mean": -0.75,
            "target_std": 2.9,
            "grad_target_mean": 0.0,
            "grad_target_std": 1.7,
        }
    ]
    config["task"] = {"dataset": "trajectory_lmdb"}
    for key in ("loss_functions", "evaluation_metrics", "outputs"):
        del config[key]
    normalizers = content["normalizers"]
    content["normalizers"] = {
        "target": {"mean": normalizers["energy"]["mean"], "std": normalizers["energy"]["rmsd"]},
        "grad_target": {"mean": normalizers["forces"]["mean"], "std": normalizers["forces"]["rmsd"]},
    }
    del content["elementrefs"], content["ema"]
    content["state_dict"] = {f"module.module.{name}": value for name, value in content["state_dict"].items()}


@pytest.mark.parametrize("numbers_in", ["file", "config"])
def test_files_of_older_form(numbers_in: str, trained: Any) -> None:
    trainer = trained({**tiny_s2ef.FLAT_MODEL, "name": "equiformer_v2"})
    trainer.ema.copy_to()
    trainer.ema = None
    current = load_potential(trainer.save(), "cpu")
    current.outputs.references.clear()

    def change(content: dict[str, Any]) -> None:
        of_older_form(content)
        if numbers_in == "config":
            content["normalizers"] = {}

    older = load_potential(rewritten(trainer.save(), change), "cpu")
    structures = from_atoms(tiny_s2ef.slabs(), "abcd")
    assert torch.equal(older(structures).energy, current(structures).energy)
    assert torch.equal(older(structures).forces, current(structures).forces)
    assert older.energy_kind.name == "adsorption"


def test_what_a_fine_tuned_model_started_from_is_not_needed(trained: Any) -> None:
    def change(content: dict[str, Any]) -> None:
        content["config"]["model"]["finetune_config"] = {"starting_checkpoint": "gone.pt"}

    load_potential(rewritten(trained(tiny_s2ef.HYDRA_MODEL).save(), change), "cpu")


def test_averages_of_another_shape(trained: Any) -> None:
    def change(content: dict[str, Any]) -> None:
        shadows = content["ema"]["shadow_params"]
        shadows[0], shadows[-1] = shadows[-1], shadows[0]

    path = rewritten(trained(tiny_s2ef.FLAT_MODEL).save(), change)
    with pytest.raises(
        ValueError, match=r"averaged weight sphere_embedding.weight has shape \(.*\) instead of \(90, 16\)"
    ):
        load_potential(path, "cpu")


def test_no_forces_no_potential(trained: Any) -> None:
    def change(content: dict[str, Any]) -> None:
        del content["config"]["outputs"]["forces"]

    path = rewritten(trained(tiny_s2ef.FLAT_MODEL).save(), change)
    with pytest.raises(ValueError, match="the model's outputs are energy: forces missing"):
        load_potential(path, "cpu")


def test_a_file_that_is_no_checkpoint(tmp_path: Path) -> None:
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(ValueError, match="it holds a list, not names and their values"):
        load_potential(tmp_path / "list.pt")


def test_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert choose_device("auto") == torch.device("cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device("auto") == choose_device("cpu") == torch.device("cpu")
    for name in ("cuda", "mps"):
        with pytest.raises(ValueError, match=f"there is no device '{name}' here"):
            choose_device(name)


def test_a_weight_that_was_changed_since_is_seen(trained: Any) -> None:
    path = Path(trained(tiny_s2ef.FLAT_MODEL).save())
    content = torch.load(path, weights_only=True)
    next(iter(content["state_dict"].values())).flatten()[0] += 1e-3
    torch.save(content, path)  # a whole file, its check sums right
    with pytest.raises(ValueError, match="has changed since it was written"):
        load_potential(path, "cpu")
