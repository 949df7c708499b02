"""The hydra layout."""

import re

import pytest
import torch
from fairchem.core.common.registry import registry
from fairchem.core.models.base import BackboneInterface, HeadInterface, HydraModel
from torch import nn

import ev2_plugin
from ev2_plugin.integration.backbone import EquiformerV2, EquiformerV2Backbone
from ev2_plugin.integration.heads import EnergyHead, ForceHead, StressHead
from helpers.models import fill_by_name
from helpers.settings import settings_of
from helpers.structures import TINY, assorted, host_batch, slab

HEADS = {"energy": EnergyHead, "forces": ForceHead, "stress": StressHead}


def hydra(heads: dict[str, dict], **options: object) -> HydraModel:
    backbone = {"model": "ev2_plugin.EquiformerV2Backbone", **settings_of(TINY), **options}
    return HydraModel(backbone=backbone, heads=heads, otf_graph=True, pass_through_head_outputs=True)


ALL_HEADS = {
    "energy": {"module": "ev2_plugin.EnergyHead"},
    "forces": {"module": "ev2_plugin.ForceHead"},
    "stress": {"module": "ev2_plugin.StressHead", "decompose": True, "use_source_target_embedding": True},
}


def test_hydra_model_by_dotted_paths() -> None:
    model = hydra(ALL_HEADS)
    assert isinstance(model.backbone, BackboneInterface)
    assert all(isinstance(head, HeadInterface) for head in model.output_heads.values())
    out = model.eval()(host_batch(assorted()))
    assert {name: tuple(value.shape) for name, value in out.items()} == {
        "energy": (6,),
        "forces": (sum(map(len, assorted())), 3),
        "stress_isotropic": (6, 1),
        "stress_anisotropic": (6, 5),
    }


def test_hydra_layout_is_the_flat_model() -> None:
    flat = fill_by_name(EquiformerV2(**settings_of(TINY))).eval()
    model = hydra({name: ALL_HEADS[name] for name in ("energy", "forces")}).eval()
    flat_name = {"energy_block": "output_heads.energy.", "force_block": "output_heads.forces."}
    state = {flat_name.get(name.split(".")[0], "backbone.") + name: value for name, value in flat.state_dict().items()}
    model.load_state_dict(state, strict=True)
    data = host_batch(assorted())
    out, expected = model(data), flat(data)
    assert torch.equal(out["energy"], expected["energy"])
    assert torch.equal(out["forces"], expected["forces"])


def test_names_of_outputs() -> None:
    backbone = EquiformerV2Backbone(**settings_of(TINY)).eval()
    data = host_batch([slab()])
    embedding = backbone(data)
    names = {name: set(head(backbone, output_name="total")(data, embedding)) for name, head in HEADS.items()}
    assert names == {"energy": {"total"}, "forces": {"total"}, "stress": {"total"}}
    parts = StressHead(backbone, output_name="virial", decompose=True)(data, embedding)
    assert set(parts) == {"virial_isotropic", "virial_anisotropic"}


def test_whole_stress() -> None:
    backbone = EquiformerV2Backbone(**settings_of(TINY)).eval()
    data = host_batch(assorted())
    assert StressHead(backbone)(data, backbone(data))["stress"].shape == (18, 3)


def test_mean_energy() -> None:
    model = hydra({reduce: {"module": "ev2_plugin.EnergyHead", "output_name": reduce, "reduce": reduce}
                   for reduce in ("sum", "mean")}).eval()  # fmt: skip
    model.output_heads["mean"].load_state_dict(model.output_heads["sum"].state_dict())
    data = host_batch(assorted())
    out = model(data)
    torch.testing.assert_close(out["mean"] * data.natoms, out["sum"] * TINY.avg_num_nodes)


@pytest.mark.parametrize("use", [True, False])
def test_linear_reference_is_added_only_when_asked(use: bool) -> None:
    data, heads = host_batch([slab()]), {"energy": ALL_HEADS["energy"]}
    torch.manual_seed(0)
    plain = hydra(heads).eval()
    model = hydra(heads, load_energy_lin_ref=True, use_energy_lin_ref=use).eval()
    model.backbone.energy_lin_ref.data.copy_(torch.arange(90.0))
    model.load_state_dict(plain.state_dict(), strict=False)
    difference = model(data)["energy"] - plain(data)["energy"]
    torch.testing.assert_close(difference, torch.tensor([float(slab().numbers.sum()) * use]), atol=1e-4, rtol=0)


class SomeBackbone(nn.Module):
    """Not ours."""


@pytest.mark.parametrize("head", HEADS.values())
def test_foreign_backbone(head: type) -> None:
    unchecked = getattr(head.__init__, "__wrapped__", head.__init__)  # annotations would refuse it first
    message = f"{head.__name__} reads the features of ev2_plugin.EquiformerV2Backbone, .* is .*SomeBackbone"
    with pytest.raises(ValueError, match=message):
        unchecked(object.__new__(head), SomeBackbone())


def test_wrong_switch_of_the_stress_head() -> None:
    backbone = EquiformerV2Backbone(**settings_of(TINY))
    for switches, message in (
        ({"decomposed": True}, "stress head: unknown model key 'decomposed'; did you mean 'decompose'?"),
        ({"num_mlp_layers": 0}, "num_mlp_layers must be at least 1, got 0"),
        ({"avg_num_nodes": 0.0}, "avg_num_nodes must be a positive number, got 0.0"),
    ):
        with pytest.raises(ValueError, match=re.escape(message)):
            StressHead(backbone, **switches)


def test_the_hosts_fallback_norm_of_the_stress_head_is_accepted() -> None:
    StressHead(EquiformerV2Backbone(**settings_of(TINY)), default_norm_type="layer_norm_sh")


@pytest.mark.parametrize("name", ["EquiformerV2", "EquiformerV2Backbone", "EnergyHead", "ForceHead", "StressHead"])
def test_registry_finds_every_class_by_dotted_path(name: str) -> None:
    assert registry.get_model_class(f"ev2_plugin.{name}") is getattr(ev2_plugin, name)
