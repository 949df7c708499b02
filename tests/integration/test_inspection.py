"""What a file says of itself, without executing anything in it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch

from ev2_plugin.integration.convert import convert
from ev2_plugin.integration.inspection import inspect_checkpoint
from ev2_plugin.storage.digest import digest_of
from ev2_plugin.storage.outline import Unknown, read_outline
from ev2_plugin.storage.torch_file import Refused
from helpers import official_checkpoints as official
from helpers.official_checkpoints import LAYOUTS, NETWORK


def written(content: Any, folder: Path) -> Path:
    path = folder / "some.pt"
    torch.save(content, path)
    return path


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_published_layout(layout: str, tmp_path: Path) -> None:
    content = LAYOUTS[layout]().content
    facts = inspect_checkpoint(written(content, tmp_path))
    hydra, stress = layout not in ("OC20", "OC20, first release", "OC22", "ODAC23", "DeNS, flat"), "stress"
    assert not facts["notes"]
    assert facts["file"]["digest_of_state_dict"] == digest_of(content["state_dict"])
    assert facts["file"]["bytes"] == (tmp_path / "some.pt").stat().st_size
    model = facts["model"]
    assert model["layout"] == ("hydra" if hydra else "flat")
    assert (model["lmax"], model["mmax"], model["num_layers"]) == (3, 2, 2)
    for width in ("sphere_channels", "num_heads", "ffn_hidden_channels", "edge_channels"):
        assert model[width] == NETWORK[width]
    assert model["max_neighbors"] == 60
    assert model["cutoff"] == (5.0 if layout == "ODAC23" else 4.0)
    last = {90: "Ac", 96: "Am", 100: "Es"}[model["max_num_elements"]]
    assert model["elements"] == f"H to {last}"
    assert model["denoising"] == layout.startswith("DeNS")
    assert model["linear_reference"] == (layout == "OC22")
    assert set(facts["heads"]) == {"energy", "forces", *([stress] if stress in str(content["config"]) else [])}
    kinds = {"OC22": "referenced", "OMat24": "total", "DeNS": "total", "DeNS with noise scales": "total"}
    # the host's mean and deviation of OC20, to a percent
    assert facts["predictions"]["energy"] == kinds.get(layout, "adsorption")
    assert facts["normalizers"]["energy"] == {"mean": -0.75, "rmsd": pytest.approx(2.9)}
    if "energy" in facts["element_references"]:
        assert facts["element_references"]["energy"] == ["C", "O", "Na", "Cl", "Cu"]
    training = facts["training"]
    assert (training["epoch"], training["step"], training["best_val_metric"]) == (1.5, 4000, 0.25)
    assert training["averaged_weights"] == len(content["ema"]["shadow_params"])
    assert "abc1234" in facts["origin"]["commit"]


def test_a_converted_file_says_where_it_comes_from(tmp_path: Path) -> None:
    content = official.omat24().content
    path = written(content, tmp_path)
    convert(path, tmp_path / "omat.safetensors")
    convert(path, tmp_path / "plain.pt")
    for file in ("omat.safetensors", "plain.pt"):
        facts = inspect_checkpoint(tmp_path / file)
        assert facts["origin"]["converted_from"]["digest_of_state_dict"] == digest_of(content["state_dict"])
        assert facts["origin"]["converted_from"]["step"] == 4000
        assert facts["predictions"]["energy"] == "total"
        assert facts["heads"]["stress"] == "ev2_plugin.StressHead"
        assert facts["element_references"]["energy"] == ["C", "O", "Na", "Cl", "Cu"]


class Hostile:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.folder),)


@pytest.mark.parametrize("place", ["beside", "config", "ema", "normalizers", "model_attributes", "state_dict", "task"])
def test_a_refused_file_is_told_of_as_far_as_it_goes(place: str, tmp_path: Path) -> None:
    content = official.oc20().content
    hostile = Hostile(tmp_path / "made")
    if place in ("beside", "config", "ema", "normalizers", "state_dict"):
        content[place] = hostile
    else:
        content["config"][place] = hostile
    facts = inspect_checkpoint(written(content, tmp_path))
    assert not (tmp_path / "made").exists()
    assert facts["notes"]["refused"].startswith("the file asks for posix.mkdir, which is no data")
    if place != "state_dict":
        assert facts["model"]["lmax"] == 3
    if place in ("beside", "ema"):
        assert facts["predictions"]["energy"] == "adsorption"
    assert facts["training"].get("step") == 4000 or place == "ema"


def test_a_refused_file_that_is_no_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(Refused, match=r"has no state_dict and no config; it asks for posix\.mkdir"):
        inspect_checkpoint(written(Hostile(tmp_path / "made"), tmp_path))
    assert not (tmp_path / "made").exists()


def test_whatever_is_done_to_the_unknown_does_nothing(tmp_path: Path) -> None:
    class Odd(list):  # type: ignore[type-arg]
        pass

    Odd.__module__, Odd.__qualname__ = "somewhere", "Odd"
    import sys
    import types

    sys.modules["somewhere"] = types.ModuleType("somewhere")
    sys.modules["somewhere"].Odd = Odd  # type: ignore[attr-defined]
    odd = Odd([1, 2])
    odd.more = {"a": 1}  # type: ignore[attr-defined]
    path = written({"odd": odd, "rest": torch.ones(2)}, tmp_path)
    del sys.modules["somewhere"]
    content, asked_for = read_outline(path)
    assert asked_for == ["somewhere.Odd"]
    assert isinstance(content["odd"], Unknown)
    assert torch.equal(content["rest"], torch.ones(2))


def test_a_file_changed_since_it_was_written(tmp_path: Path) -> None:
    convert(written(official.oc20().content, tmp_path), tmp_path / "plain.pt")
    assert inspect_checkpoint(tmp_path / "plain.pt")["file"]["digest_inside"] == "matches"
    content = torch.load(tmp_path / "plain.pt", weights_only=True)
    content["state_dict"]["norm.norm_l0.bias"][0] += 1
    torch.save(content, tmp_path / "plain.pt")
    assert inspect_checkpoint(tmp_path / "plain.pt")["file"]["digest_inside"] == "differs: the file was changed"


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        inspect_checkpoint(tmp_path / "none.pt")
    with pytest.raises(ValueError, match="is no checkpoint of a trainer"):
        inspect_checkpoint(written([1, 2], tmp_path))
    whole = written(official.oc20().content, tmp_path)
    whole.write_bytes(whole.read_bytes()[:-2000])
    with pytest.raises(ValueError, match=r"some\.pt cannot be read"):
        inspect_checkpoint(whole)


def test_other_models_are_told_of_too(tmp_path: Path) -> None:
    content = official.oc20().content
    content["config"]["model"], content["config"]["model_attributes"] = "painn", {"hidden_channels": 8}
    content["state_dict"] = {"message_layers.0.weight": torch.zeros(3, 4)}
    facts = inspect_checkpoint(written(content, tmp_path))
    assert facts["model"] == {"name": "painn", "parameters": 12, "equiformer_v2": False}
    assert facts["heads"] == {}
