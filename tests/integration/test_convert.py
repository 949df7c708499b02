"""Conversions keep every bit of the weights and predict the same; what is wrong with a pair of files is said."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ev2_plugin.integration.checkpoint_form import current_form
from ev2_plugin.integration.convert import convert
from ev2_plugin.integration.loading import build_model, load_potential, read_checkpoint
from ev2_plugin.integration.sidecar import content_of
from ev2_plugin.integration.weights import chosen_weights
from ev2_plugin.storage.digest import digest_of
from ev2_plugin.storage.safetensors_file import read_weights
from helpers import official_checkpoints as official
from helpers.official_checkpoints import LAYOUTS, Published, structures


def written(published: Published, folder: Path) -> Path:
    path = folder / "official.pt"
    torch.save(published.content, path)
    return path


def weights_of(path: Path, *, averaged: bool = True) -> dict[str, torch.Tensor]:
    content = current_form(read_checkpoint(path), path)
    return chosen_weights(build_model(content["config"]["model"]), content, path, averaged=averaged)


def assert_same_bits(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> None:
    assert digest_of(dict(sorted(first.items()))) == digest_of(dict(sorted(second.items())))


def assert_same_predictions(first: Path, second: Path) -> None:
    one, other, batch = load_potential(first, "cpu"), load_potential(second, "cpu"), structures()
    assert one.properties == other.properties
    for name, value in one.evaluate(batch, one.properties).items():
        assert torch.equal(value, other.evaluate(batch, other.properties)[name]), name
    assert one.energy_kind.name == other.energy_kind.name


@pytest.mark.parametrize("layout", ["OC20", "OC22", "OMat24", "hydra by head", "DeNS with noise scales"])
def test_there_and_back_keeps_every_bit(layout: str, tmp_path: Path) -> None:
    path = written(LAYOUTS[layout](), tmp_path)
    convert(path, tmp_path / "weights.safetensors")
    made = convert(tmp_path / "weights.safetensors", tmp_path / "back.pt")
    assert not made.averaged
    for other in (tmp_path / "weights.safetensors", tmp_path / "back.pt"):
        assert_same_bits(weights_of(path), weights_of(other))
        assert_same_predictions(path, other)


def test_raw_weights_on_request(tmp_path: Path) -> None:
    path = written(official.oc20(), tmp_path)
    averaged = convert(path, tmp_path / "averaged.safetensors")
    raw = convert(path, tmp_path / "raw.safetensors", raw=True)
    assert (averaged.averaged, raw.averaged) == (True, False)
    assert_same_bits(weights_of(path, averaged=False), weights_of(tmp_path / "raw.safetensors"))
    assert averaged.digest != raw.digest


@pytest.mark.parametrize(
    ("layout", "suffix"),
    [("OC22", ".pt"), ("OC20", ".safetensors"), ("hydra", ".pt"), ("hydra by head", ".safetensors")],
)
def test_the_other_layout_and_back(layout: str, suffix: str, tmp_path: Path) -> None:
    path = written(LAYOUTS[layout](), tmp_path)
    hydra = "hydra" in layout
    other, back = ("flat", "hydra") if hydra else ("hydra", "flat")
    convert(path, tmp_path / f"other{suffix}", layout=other)
    convert(tmp_path / f"other{suffix}", tmp_path / f"back{suffix}", layout=back)
    assert_same_predictions(path, tmp_path / f"other{suffix}")
    assert_same_predictions(path, tmp_path / f"back{suffix}")
    assert_same_bits(weights_of(path), weights_of(tmp_path / f"back{suffix}"))
    names = set(weights_of(tmp_path / f"other{suffix}"))
    assert ("backbone.norm.norm_l0.weight" in names) == (not hydra)


def test_a_model_without_forces_changes_its_layout(tmp_path: Path) -> None:
    path = written(official.odac(direct=True), tmp_path)
    convert(path, tmp_path / "hydra.pt", layout="hydra")
    convert(tmp_path / "hydra.pt", tmp_path / "flat.pt", layout="flat")
    assert list(read_checkpoint(tmp_path / "hydra.pt")["config"]["model"]["heads"]) == ["energy"]
    assert_same_bits(weights_of(path), weights_of(tmp_path / "flat.pt"))


def test_what_a_flat_model_cannot_hold(tmp_path: Path) -> None:
    path = written(official.omat24(), tmp_path)
    with pytest.raises(ValueError, match="this one has energy, forces, stress: only hydra takes it"):
        convert(path, tmp_path / "flat.pt", layout="flat")
    with pytest.raises(ValueError, match="the layout must be flat or hydra, got 'round'"):
        convert(path, tmp_path / "round.pt", layout="round")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["official.pt"]


def test_a_plain_checkpoint_loads_without_executing_anything(tmp_path: Path) -> None:
    convert(written(official.omat24(), tmp_path), tmp_path / "plain.pt")
    content = torch.load(tmp_path / "plain.pt", weights_only=True)
    assert content["converted_from"] == {
        "file": "official.pt",
        "digest_of_state_dict": digest_of(official.omat24().content["state_dict"]),
        "averaged": True,
        "epoch": 1.5,
        "step": 4000,
    }
    assert content["val_metrics"] == {"energy_mae": {"metric": 0.25}}
    assert "optimizer" not in content
    assert content["config"]["model"]["backbone"]["model"] == "ev2_plugin.EquiformerV2Backbone"


def test_what_a_sidecar_says(tmp_path: Path) -> None:
    convert(written(official.omat24(), tmp_path), tmp_path / "omat.safetensors")
    about = json.loads((tmp_path / "omat.json").read_text())
    assert (about["format"], about["version"]) == ("ev2_plugin.weights", 1)
    assert about["weights"]["file"] == "omat.safetensors"
    assert about["weights"]["numbers"] == sum(one.numel() for one in weights_of(tmp_path / "omat.safetensors").values())
    assert about["source"]["file"] == "official.pt"
    assert about["energy"] == {"kind": "total", "known_from": "element references are added"}
    assert about["units"]["stress"] == "eV/Å^3"
    assert (about["cutoff"], about["max_neighbors"]) == (4.0, 60)
    assert about["elements"]["max_num_elements"] == 96
    assert (about["elements"]["symbols"][0], about["elements"]["symbols"][-1]) == ("H", "Am")
    assert about["normalizers"]["energy"]["mean"] == -0.75
    assert about["element_references"]["energy"]["values"] == {
        symbol: float(torch.tensor(value))
        for symbol, value in {"C": -9.1, "O": -4.9, "Na": -1.3, "Cl": -1.8, "Cu": -3.7}.items()
    }
    assert about["config"]["model"]["heads"]["stress"]["module"] == "ev2_plugin.StressHead"
    assert about["config"]["outputs"]["stress"]["decomposition"]["stress_isotropic"] == {"irrep_dim": 0}


def test_other_models_are_not_converted(tmp_path: Path) -> None:
    published = official.oc20()
    published.content["config"]["model"], published.content["config"]["model_attributes"] = "schnet", {}
    with pytest.raises(ValueError, match="is a model 'schnet'; only EquiformerV2 is converted"):
        convert(written(published, tmp_path), tmp_path / "out.pt")


def test_weights_that_do_not_fit_their_config_are_not_converted(tmp_path: Path) -> None:
    published = official.oc20()
    published.content["config"]["model_attributes"]["num_layers"] = 3
    with pytest.raises(ValueError, match=r"official\.pt does not fit .* num_layers 2 where the config says 3"):
        convert(written(published, tmp_path), tmp_path / "out.safetensors")
    assert not (tmp_path / "out.safetensors").exists()


@pytest.mark.parametrize(
    ("out", "message"),
    [("out.bin", "the output ends in .safetensors or .pt"), ("official.pt", "is the checkpoint itself")],
)
def test_where_it_cannot_be_written(out: str, message: str, tmp_path: Path) -> None:
    path = written(official.oc20(), tmp_path)
    with pytest.raises(ValueError, match=message):
        convert(path, tmp_path / out)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["energy", "mean", "H"]), inner),
    max_leaves=6,
)


@settings(max_examples=200, deadline=None)
@given(changes=st.dictionaries(st.sampled_from(["normalizers", "element_references", "config", "source"]), JSON))
def test_whatever_a_sidecar_says_ends_in_one_kind_of_error(changes: dict[str, Any]) -> None:
    """With digests that agree: somebody else wrote it."""
    about = {"normalizers": {}, "element_references": {}, "config": {"model": {}}, "source": {}, **changes}
    try:
        content = content_of({}, about, "odd.safetensors")
    except ValueError as error:
        message = str(error)
    else:
        message = "odd.safetensors"
        assert set(content) >= {"state_dict", "config", "normalizers", "elementrefs"}
    assert "odd.safetensors" in message


def edited(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_a_changed_sidecar_is_refused(tmp_path: Path) -> None:
    convert(written(official.oc20(), tmp_path), tmp_path / "a.safetensors")
    edited(tmp_path / "a.json", cutoff=6.0)
    with pytest.raises(ValueError, match=r"a\.json is not what was written beside a\.safetensors, or was changed"):
        load_potential(tmp_path / "a.safetensors", "cpu")


def test_a_pair_of_two_models_is_refused(tmp_path: Path) -> None:
    path = written(official.oc20(), tmp_path)
    convert(path, tmp_path / "a.safetensors")
    convert(path, tmp_path / "b.safetensors", raw=True)
    (tmp_path / "b.json").replace(tmp_path / "a.json")
    with pytest.raises(ValueError, match=r"a\.json is not what was written beside a\.safetensors"):
        read_weights(tmp_path / "a.safetensors")
