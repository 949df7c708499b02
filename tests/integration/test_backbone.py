"""The models as the host builds and calls them."""

from typing import Any

import pytest
import torch

import ev2_plugin
from ev2_plugin.integration.backbone import EquiformerV2, EquiformerV2Backbone
from ev2_plugin.model.config import ModelConfig
from ev2_plugin.model.equiformer_v2 import EquiformerV2 as FlatModel
from ev2_plugin.model.parameter_groups import no_weight_decay
from helpers.models import fill_by_name
from helpers.settings import settings_of
from helpers.structures import GATE, TINY, assorted, atom_batch, host_batch, slab


def flat(config: ModelConfig = TINY, **options: Any) -> EquiformerV2:
    return fill_by_name(EquiformerV2(**settings_of(config), **options)).eval()


def test_public_names() -> None:
    assert ev2_plugin.EquiformerV2 is EquiformerV2
    assert ev2_plugin.EquiformerV2Backbone is EquiformerV2Backbone


def test_flat_model_is_the_network_on_the_hosts_batch() -> None:
    model, network = flat(), FlatModel(TINY).eval()
    network.load_state_dict(model.state_dict())
    out, expected = model(host_batch(assorted())), network.predict(atom_batch(assorted(), TINY, torch.float32))
    assert set(out) == {"energy", "forces"}
    assert out["energy"].shape == (6,)
    assert out["forces"].shape == (sum(map(len, assorted())), 3)
    assert torch.equal(out["energy"], expected["energy"])
    assert torch.equal(out["forces"], expected["forces"])


def test_precision_follows_the_parameters() -> None:
    data = host_batch(assorted(), torch.float64)
    assert flat()(data)["energy"].dtype == torch.float32
    assert flat().double()(data)["forces"].dtype == torch.float64


def test_without_forces() -> None:
    assert set(flat(regress_forces=False)(host_batch([slab()]))) == {"energy"}


def test_linear_reference_is_added_only_when_asked() -> None:
    data, reference = host_batch([slab()]), torch.arange(90.0)
    models = [flat(load_energy_lin_ref=True, use_energy_lin_ref=use) for use in (False, True)]
    for model in models:
        model.energy_lin_ref.data.copy_(reference)
    without, with_reference = (model(data)["energy"] for model in models)
    torch.testing.assert_close(without, flat()(data)["energy"])
    torch.testing.assert_close(with_reference - without, reference[slab().numbers].sum().view(1), atol=1e-4, rtol=0)


def test_gauge_is_0_unless_seeded_and_then_repeatable() -> None:
    data = host_batch([slab()])
    plain, again, seeded, same_seed, other = (flat(gauge_seed=seed)(data)["forces"] for seed in (None, None, 1, 1, 2))
    assert torch.equal(plain, again)
    assert torch.equal(seeded, same_seed)
    assert not torch.equal(seeded, plain)
    assert not torch.equal(seeded, other)


def test_seeded_gauge_is_drawn_anew_every_time_and_spares_the_global_generator() -> None:
    model, data = flat(gauge_seed=1), host_batch([slab()])
    torch.manual_seed(3)
    first, second = model(data)["forces"], model(data)["forces"]
    drawn = torch.rand(1)
    torch.manual_seed(3)
    assert not torch.equal(first, second)
    assert torch.equal(drawn, torch.rand(1))


def test_gauge_does_not_matter_without_grids() -> None:
    data = host_batch([slab()], torch.float64)
    plain, seeded = (flat(GATE, gauge_seed=seed).double()(data)["forces"] for seed in (None, 1))
    torch.testing.assert_close(plain, seeded, atol=1e-10, rtol=0)


def test_what_the_host_asks_of_a_model() -> None:
    model = flat(otf_graph=True)
    assert model.otf_graph
    assert model.regress_forces
    assert model.num_params == sum(parameter.numel() for parameter in model.parameters())
    assert model.no_weight_decay() == no_weight_decay(model)
    assert "norm.affine_weight" in model.no_weight_decay()


def test_backbone_gives_what_the_heads_read() -> None:
    backbone = EquiformerV2Backbone(**settings_of(TINY)).eval()
    out = backbone(host_batch(assorted()))
    assert set(out) == {"embedding", "linear_reference"}
    assert out["linear_reference"] is None
    assert out["embedding"].nodes.shape == (sum(map(len, assorted())), 9, TINY.sphere_channels)


@pytest.mark.parametrize("model", [EquiformerV2, EquiformerV2Backbone])
def test_wrong_key(model: type) -> None:
    with pytest.raises(ValueError, match="unknown model key 'num_layer'; did you mean 'num_layers'?"):
        model(num_layer=3)


@pytest.mark.parametrize("model", [EquiformerV2, EquiformerV2Backbone])
def test_linear_reference_that_is_not_held(model: type) -> None:
    with pytest.raises(ValueError, match="needs load_energy_lin_ref: true"):
        model(**settings_of(TINY), use_energy_lin_ref=True)
