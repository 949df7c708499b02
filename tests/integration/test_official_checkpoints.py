"""Every published layout, made with the host's own classes: we load it and predict what the host predicts."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from ev2_plugin.integration.checkpoint_form import current_form
from ev2_plugin.integration.convert import convert
from ev2_plugin.integration.fidelity import relative
from ev2_plugin.integration.loading import build_model, load_potential
from ev2_plugin.integration.model_outputs import ModelOutputs, with_parts
from ev2_plugin.integration.potential import ModelPotential, is_of_plugin, potential_of_trainer
from ev2_plugin.integration.weights import check_weights
from ev2_plugin.model.architecture import architecture_of, shapes_of_weights
from helpers import official_checkpoints as official
from helpers.official_checkpoints import LAYOUTS, NETWORK, PAPER, Published, structures
from helpers.trainers import config as trainer_config
from helpers.trainers import make_trainer

TOLERANCE = 5e-5
"""Of norms, in float32."""


def written(published: Published, folder: Path) -> Path:
    path = folder / "official.pt"
    torch.save(published.content, path)
    return path


def assert_predicts(path: Path, published: Published) -> None:
    potential, batch = load_potential(path, "cpu"), structures()
    assert isinstance(potential, ModelPotential)
    expected = published.predict(batch)
    found = potential.evaluate(batch, potential.properties)
    assert relative(found["energy"], expected["energy"]) < TOLERANCE
    assert relative(found["forces"], expected["forces"]) < TOLERANCE
    if "stress_isotropic" in expected:
        parts = ModelOutputs(with_parts(official.STRESS), {}, {})
        host = parts.physical(expected, batch, ("stress",))["stress"]
        assert relative(found["stress"], host) < TOLERANCE


@pytest.mark.parametrize("layout", LAYOUTS)
def test_predicts_what_the_host_predicts(layout: str, tmp_path: Path) -> None:
    published = LAYOUTS[layout]()
    assert_predicts(written(published, tmp_path), published)


def test_the_tolerance_is_far_below_what_raw_weights_would_predict(tmp_path: Path) -> None:
    published = official.oc20()
    published.content["ema"] = None
    with pytest.raises(AssertionError, match="relative"):
        assert_predicts(written(published, tmp_path), published)


def test_averages_of_all_parameters_frozen_ones_too(tmp_path: Path) -> None:
    published = official.oc22()
    ema = published.content["ema"]
    ema["shadow_params"] = [published.content["state_dict"]["module.module.energy_lin_ref"], *ema["shadow_params"]]
    assert_predicts(written(published, tmp_path), published)


def test_energies_of_oc22_are_referenced_until_the_reference_is_used(tmp_path: Path) -> None:
    published = official.oc22()
    potential = load_potential(written(published, tmp_path), "cpu")
    assert potential.energy_kind.name == "referenced"
    assert potential.model.energy_lin_ref.shape == (90,)
    published.content["config"]["model_attributes"]["use_energy_lin_ref"] = True
    published.model.use_energy_lin_ref = True
    path = written(published, tmp_path)
    assert load_potential(path, "cpu").energy_kind.name == "total"
    assert_predicts(path, published)


def test_a_dens_file_that_was_published_without_its_extras(tmp_path: Path) -> None:
    """Named by the DeNS classes, with the weights of the plain model."""
    published = official.omat24()
    heads = {name: dict(head) for name, head in official.DENS_HEADS.items()}
    published.content["config"]["model"] |= {
        "backbone": official.hydra_settings(heads, "equiformer_v2_dens_backbone", **official.OMAT)["backbone"],
        "heads": heads,
    }
    assert_predicts(written(published, tmp_path), published)


def test_what_is_left_of_a_dens_model_is_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = written(official.dens(), tmp_path)
    with caplog.at_level(logging.INFO):
        load_potential(path, "cpu")
    said = [record.getMessage() for record in caplog.records if "DeNS" in record.getMessage()]
    assert len(said) == 1
    assert "official.pt is a DeNS model's. Its encodings of forces and noise are added" in said[0]
    assert "of the head that predicts noise are left out" in said[0]


def test_the_bias_of_the_force_encoding_matters(tmp_path: Path) -> None:
    """It is there without forces too: leaving the encoding out would be wrong."""
    published = official.dens()
    shadows, biases = published.content["ema"]["shadow_params"], dict(published.model.named_parameters())
    bias = biases["backbone.force_embedding.bias"]
    (position,) = [number for number, one in enumerate(shadows) if torch.equal(one, bias)]
    shadows[position] = torch.zeros_like(bias)
    with pytest.raises(AssertionError, match="relative"):
        assert_predicts(written(published, tmp_path), published)


def test_averages_of_a_dens_model_that_are_too_few(tmp_path: Path) -> None:
    published = official.dens()
    published.content["ema"]["shadow_params"].pop()
    with pytest.raises(ValueError, match=r"averaged weights beside \d+ trained ones of a DeNS model"):
        load_potential(written(published, tmp_path), "cpu")


def test_a_model_without_forces_is_read_and_refused_as_a_potential(tmp_path: Path) -> None:
    published = official.odac(direct=True)
    content = current_form(published.content, "direct.pt")
    model = build_model(content["config"]["model"])
    check_weights(model, content["state_dict"], "direct.pt")
    with pytest.raises(ValueError, match="the model's outputs are energy: forces missing"):
        load_potential(written(published, tmp_path), "cpu")


@pytest.mark.parametrize("form", ["a list", "splits", "one split", "nothing", "no task"])
def test_forms_of_the_oldest_configs(form: str, tmp_path: Path) -> None:
    published = official.oc20()
    config = published.content["config"]
    train, val = config["dataset"]
    config["dataset"] = {"splits": {"train": train, "val": val}, "one split": train, "nothing": None}.get(form, [train])
    if form == "no task":
        config["task"] = {}
    assert_predicts(written(published, tmp_path), published)


CODE = [
    "subprocess.Popen",
    "ev2_plugin.integration.loading.load_potential",
    "fairchem.core.models.base.load_model_and_weights_from_checkpoint",
    "fairchem.core.models.no_such.Model",
]


@pytest.mark.parametrize("name", CODE)
def test_a_file_does_not_choose_what_is_called(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*args: object, **kwargs: object) -> None:
        raise AssertionError("called")

    monkeypatch.setattr("subprocess.Popen", never)
    flat, hydra = official.oc20(), official.hydra()
    flat.content["config"]["model"] = name
    flat.content["config"]["model_attributes"] = {"args": ["true"]}
    hydra.content["config"]["model"]["heads"]["forces"]["module"] = name
    for published in (flat, hydra):
        with pytest.raises(ValueError, match=f"its config names the class {name}, which is neither"):
            load_potential(written(published, tmp_path), "cpu")


@pytest.mark.parametrize("config", [{}, {"model": 3}, {"model": {}}, {"model": "equiformer_v2"}, [1]])
def test_a_config_of_no_known_form(config: Any) -> None:
    content = {**official.oc20().content, "config": config}
    with pytest.raises(ValueError, match=r"odd\.pt.*(no form|no mappings)"):
        current_form(content, "odd.pt")


@pytest.mark.parametrize("outputs", [None, [], {"energy": 3}])
def test_a_config_without_outputs(outputs: Any) -> None:
    content = official.hydra().content
    content["config"]["outputs"] = outputs
    with pytest.raises(ValueError, match=r"odd\.pt: its config does not say what is predicted"):
        current_form(content, "odd.pt")


# The published sizes, from the keys of their YAML files: name -> lmax, mmax, blocks, parameters.
FLAT_SIZES: Mapping[str, tuple[dict[str, Any], int]] = {
    "eq2_83M_2M.pt": ({"lmax_list": [6], "mmax_list": [2], "num_layers": 12}, 83_164_802),
    "eq2_31M_ec4_allmd.pt": ({"lmax_list": [4], "mmax_list": [2], "num_layers": 8}, 31_058_690),
    "eq2_153M_ec4_allmd.pt": ({"lmax_list": [6], "mmax_list": [3], "num_layers": 20}, 153_602_690),
    "eq2_121M_e4_f100_oc22_s2ef.pt": (
        {"lmax_list": [6], "mmax_list": [2], "num_layers": 18, "load_energy_lin_ref": True},
        121_526_492,
    ),
    "eqv2_31M.pt (ODAC)": (
        {"lmax_list": [4], "mmax_list": [2], "num_layers": 8, "max_num_elements": 100, "max_radius": 8.0},
        31_085_570,
    ),
    "Equiformer_V2_Large.pt (ODAC)": (
        {"lmax_list": [6], "mmax_list": [3], "num_layers": 20, "max_num_elements": 100, "max_radius": 8.0},
        153_660_290,
    ),
    "Equiformer_V2_Direct.pt (ODAC)": (
        {"lmax_list": [4], "mmax_list": [2], "num_layers": 8, "max_num_elements": 100, "regress_forces": False},
        27_953_665,
    ),
}
HYDRA_SIZES: Mapping[str, tuple[dict[str, Any], int]] = {
    "31M": ({"lmax_list": [4], "mmax_list": [2], "num_layers": 8}, 31_207_434),
    "86M": ({"lmax_list": [6], "mmax_list": [4], "num_layers": 10}, 86_589_068),
    "153M": ({"lmax_list": [6], "mmax_list": [3], "num_layers": 20}, 153_769_868),
}


def ours_without_numbers(content: dict[str, Any]) -> torch.nn.Module:
    with torch.device("meta"):
        return build_model(content["config"]["model"])


def assert_same_names_and_shapes(content: dict[str, Any], parameters: int) -> None:
    current = current_form(content, "official.pt")
    ours = ours_without_numbers(current)
    assert is_of_plugin(ours)
    check_weights(ours, current["state_dict"], "official.pt")
    expected = {name: tuple(value.shape) for name, value in ours.state_dict().items()}
    shapes = shapes_of_weights((name, value.shape) for name, value in current["state_dict"].items())
    assert list(shapes.items()) == list(expected.items())  # the order too, which lists of averages rely on
    assert sum(value.numel() for value in ours.parameters()) == parameters
    found = architecture_of(shapes)
    settings = current["config"]["model"]
    network = settings.get("backbone", settings)
    assert found is not None
    assert (found.lmax, found.mmax, found.num_layers) == (
        network["lmax_list"][0],
        network["mmax_list"][0],
        network["num_layers"],
    )
    assert found.max_num_elements == network["max_num_elements"]
    assert found.parameters == parameters


def renamed(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {prefix + name: value for name, value in state.items()}


@pytest.mark.parametrize("name", FLAT_SIZES)
def test_flat_files_of_every_size(name: str) -> None:
    changes, parameters = FLAT_SIZES[name]
    settings = {**PAPER, **changes}
    with official.without_numbers():
        host = official.flat_model(**settings)
    assert sum(value.numel() for value in host.parameters()) == parameters
    content = {"state_dict": renamed(host.state_dict(), "module.module."), "config": official.old_config(settings)}
    assert_same_names_and_shapes(content, parameters)


@pytest.mark.parametrize("size", HYDRA_SIZES)
def test_omat24_files_of_every_size(size: str) -> None:
    changes, parameters = HYDRA_SIZES[size]
    settings = official.hydra_settings(official.OLDER_HEADS, **{**PAPER, **official.OMAT, **changes})
    with official.without_numbers():
        host = official.hydra_model(settings)
    assert sum(value.numel() for value in host.parameters()) == parameters
    content = {
        "state_dict": renamed(host.state_dict(), "module."),
        "config": official.new_config(settings, {**official.OUTPUTS, **official.STRESS}),
    }
    assert_same_names_and_shapes(content, parameters)


@pytest.mark.parametrize("size", HYDRA_SIZES)
def test_dens_files_of_every_size(size: str) -> None:
    """Without what only denoising uses they have as many parameters as the plain models."""
    changes, parameters = HYDRA_SIZES[size]
    backbone = "equiformer_v2_dens_backbone"
    settings = official.hydra_settings(official.DENS_HEADS, backbone, **{**PAPER, **official.OMAT, **changes})
    with official.without_numbers():
        host = official.hydra_model(settings)
    assert sum(value.numel() for value in host.parameters()) > parameters
    state = {name: value.to("meta") for name, value in host.state_dict().items()}
    config = official.new_config(settings, {**official.OUTPUTS, **official.STRESS})
    assert_same_names_and_shapes({"state_dict": renamed(state, "module."), "config": config}, parameters)


def test_narrow_models_differ_in_every_width() -> None:
    """So that the comparisons above cannot take one for another."""
    found = architecture_of(
        shapes_of_weights((name, value.shape) for name, value in official.flat_model().state_dict().items())
    )
    assert found is not None
    for key in ("sphere_channels", "attn_hidden_channels", "num_heads", "attn_alpha_channels", "attn_value_channels"):
        assert getattr(found, key) == NETWORK[key]
    assert (found.ffn_hidden_channels, found.edge_channels, found.num_radial_basis) == (7, 9, 600)
    assert (found.heads, found.hydra, found.denoising) == (("energy", "forces"), False, False)


@pytest.mark.parametrize(
    ("layout", "suffix"), [("OC22", ".pt"), ("DeNS, flat", ".pt"), ("OC20", ".safetensors"), ("hydra", ".safetensors")]
)
def test_trainers_take_the_same_files(layout: str, suffix: str, dataset: dict[str, Any], tmp_path: Path) -> None:
    published = LAYOUTS[layout]()
    path = written(published, tmp_path)
    potential = load_potential(path, "cpu")
    if suffix == ".safetensors":
        convert(path, path.with_suffix(suffix))
    settings = current_form(published.content, path)["config"]["model"]
    data = {**dataset, "transforms": {"normalizer": {"energy": official.ENERGY, "forces": official.FORCES}}}
    trainer = make_trainer(trainer_config(data, settings), tmp_path)
    trainer.load_checkpoint(str(path.with_suffix(suffix)), inference_only=True)
    if trainer.ema is not None:
        trainer.ema.copy_to()
    for name, value in potential.evaluate(structures(), ("energy", "forces")).items():
        found = potential_of_trainer(trainer).evaluate(structures(), ("energy", "forces"))[name]
        assert torch.equal(found, value), name
