import pytest
import torch

from ev2_plugin.model.backbone import Backbone
from ev2_plugin.model.equiformer_v2 import EquiformerV2
from ev2_plugin.model.heads import EnergyHead
from ev2_plugin.model.state_dict import strip_module_prefix
from helpers.models import filled_model
from helpers.structures import TINY

DERIVED = {
    "SO3_rotation.0.mapping.l_harmonic": torch.zeros(3),
    "mappingReduced.to_m": torch.zeros(3),
    "SO3_grid.0.0.mapping.to_m": torch.zeros(3),
    "distance_expansion.offset": torch.zeros(600),
    "norm.balance_degree_weight": torch.zeros(9, 1),
    "blocks.0.ga.proj.expand_index": torch.zeros(9),
    "blocks.1.ffn.SO3_grid.to_grid_mat": torch.zeros(2, 2),
}


def assert_same(model: torch.nn.Module, state: dict[str, torch.Tensor]) -> None:
    loaded = model.state_dict()
    assert set(loaded) == set(state)
    assert all(torch.equal(loaded[name], value) for name, value in state.items())


def test_own_state_dict_holds_parameters_only() -> None:
    model = EquiformerV2(TINY)
    assert set(model.state_dict()) == {name for name, _ in model.named_parameters()}
    assert not list(model.buffers())


@pytest.mark.parametrize("prefix", ["", "module.", "module.module."])
@pytest.mark.parametrize("hydra", [False, True])
def test_flat_model_reads_every_layout(prefix: str, hydra: bool) -> None:
    state = filled_model(TINY).state_dict()

    def name_in_file(name: str) -> str:
        if not hydra:
            return prefix + name
        heads = {"energy_block": "output_heads.energy.", "force_block": "output_heads.forces."}
        return prefix + heads.get(name.split(".")[0], "backbone.") + name

    model = EquiformerV2(TINY).double()
    model.load_state_dict({name_in_file(name): value for name, value in (state | DERIVED).items()}, strict=True)
    assert_same(model, state)


def test_backbone_and_head_drop_derived_buffers() -> None:
    backbone, head = Backbone(TINY), EnergyHead(TINY)
    state = Backbone(TINY).state_dict()
    backbone.load_state_dict(state | DERIVED, strict=True)
    assert_same(backbone, state)
    state = EnergyHead(TINY).state_dict()
    head.load_state_dict(state | {"energy_block.so3_linear_1.expand_index": torch.zeros(9)}, strict=True)
    assert_same(head, state)


def test_what_does_not_fit_is_an_error() -> None:
    model, state = EquiformerV2(TINY), EquiformerV2(TINY).state_dict()
    with pytest.raises(RuntimeError, match="nothing_of_ours.weight"):
        model.load_state_dict(state | {"nothing_of_ours.weight": torch.zeros(1)})
    with pytest.raises(RuntimeError, match="norm.affine_weight"):
        model.load_state_dict({name: value for name, value in state.items() if name != "norm.affine_weight"})
    with pytest.raises(RuntimeError, match="size mismatch for sphere_embedding.weight"):
        model.load_state_dict(state | {"sphere_embedding.weight": torch.zeros(100, 6)})


def test_loading_leaves_the_given_dictionary_alone() -> None:
    state = {f"module.{name}": value for name, value in (EquiformerV2(TINY).state_dict() | DERIVED).items()}
    names = list(state)
    EquiformerV2(TINY).load_state_dict(state)
    assert list(state) == names


def test_prefix() -> None:
    assert strip_module_prefix("module.module.norm.module.weight") == "norm.module.weight"
    assert strip_module_prefix("modules.norm") == "modules.norm"
