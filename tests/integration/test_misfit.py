"""Weights that do not fit: what is wrong is listed, and the likely reason said."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from fairchem.core.models.escn.escn import eSCN
from fairchem.core.models.schnet import SchNetWrap
from torch import Tensor, nn

from ev2_plugin.integration.checkpoint_form import current_form
from ev2_plugin.integration.loading import build_model
from ev2_plugin.integration.misfit import likely_reason
from ev2_plugin.integration.weights import check_weights
from ev2_plugin.model.architecture import architecture_of, shapes_of_weights
from helpers import official_checkpoints as official

State = Mapping[str, Tensor]


def flat(**changes: Any) -> nn.Module:
    return build_model({"name": "ev2_plugin.EquiformerV2", **official.NETWORK, **changes})


def hydra(heads: tuple[str, ...] = ("energy", "forces"), **changes: Any) -> nn.Module:
    modules = {"energy": "EnergyHead", "forces": "ForceHead", "stress": "StressHead"}
    return build_model(
        {
            "name": "hydra",
            "backbone": {"model": "ev2_plugin.EquiformerV2Backbone", **official.NETWORK, **changes},
            "heads": {name: {"module": f"ev2_plugin.{modules[name]}"} for name in heads},
        }
    )


def escn() -> State:
    return eSCN(num_layers=1, lmax_list=[2], mmax_list=[1], sphere_channels=4, hidden_channels=4).state_dict()


def named(*names: str) -> State:
    """GemNet's module needs torch-sparse; its names alone do not."""
    return {name: torch.zeros(1) for name in names}


REASONS: Mapping[str, tuple[Callable[[], nn.Module], Callable[[], State], str]] = {
    "more blocks": (
        flat,
        lambda: flat(num_layers=3).state_dict(),
        "the weights are of another size: num_layers 3 where the config says 2",
    ),
    "fewer blocks": (lambda: flat(num_layers=3), lambda: flat().state_dict(), "num_layers 2 where the config says 3"),
    "another lmax": (flat, lambda: flat(lmax_list=[4]).state_dict(), "another size: lmax 4 where the config says 3"),
    "another mmax": (flat, lambda: flat(mmax_list=[3]).state_dict(), "another size: mmax 3 where the config says 2"),
    "other widths": (
        flat,
        lambda: flat(sphere_channels=16, num_heads=4).state_dict(),
        "sphere_channels 16 where the config says 8, num_heads 4 where the config says 2",
    ),
    "another number of elements": (
        flat,
        lambda: flat(max_num_elements=100).state_dict(),
        "max_num_elements 100 where the config says 90",
    ),
    "no element tables": (
        flat,
        lambda: flat(use_atom_edge_embedding=False).state_dict(),
        "the weights were trained with use_atom_edge_embedding: false",
    ),
    "shared element tables": (
        flat,
        lambda: flat(share_atom_edge_embedding=True).state_dict(),
        "the weights were trained with share_atom_edge_embedding: true",
    ),
    "own element tables": (
        lambda: flat(share_atom_edge_embedding=True),
        lambda: flat().state_dict(),
        "the weights were trained with use_atom_edge_embedding: true, share_atom_edge_embedding: false",
    ),
    "another norm": (
        flat,
        lambda: flat(norm_type="rms_norm_sh").state_dict(),
        "the weights were trained without norm_type: layer_norm_sh",
    ),
    "no grid MLP": (
        flat,
        lambda: flat(use_grid_mlp=False).state_dict(),
        "the weights were trained without use_grid_mlp",
    ),
    "no forces in the config": (
        lambda: flat(regress_forces=False),
        lambda: flat().state_dict(),
        r"the file has weights to predict forces, which the config's model lacks \(regress_forces\)",
    ),
    "no forces in the file": (
        flat,
        lambda: flat(regress_forces=False).state_dict(),
        r"the config's model predicts forces, for which the file has no weights \(regress_forces\)",
    ),
    "no stress in the config": (
        hydra,
        lambda: hydra(("energy", "forces", "stress")).state_dict(),
        r"the file has weights to predict stress, which the config's model\.heads lack",
    ),
    "no stress in the file": (
        lambda: hydra(("energy", "forces", "stress")),
        lambda: hydra().state_dict(),
        "the config's model predicts stress, for which the file has no weights",
    ),
    "hydra weights, flat model": (
        flat,
        lambda: hydra().state_dict(),
        r"the weights are hydra \(backbone and heads apart\), the config's model is flat: `ev2 convert --layout flat`",
    ),
    "flat weights, hydra model": (
        hydra,
        lambda: flat().state_dict(),
        r"the weights are flat, the config's model is hydra .*: `ev2 convert --layout hydra`",
    ),
    "a backbone alone": (
        hydra,
        lambda: {name: value for name, value in hydra().state_dict().items() if name.startswith("backbone.")},
        "the file holds only a backbone",
    ),
    "heads alone": (
        hydra,
        lambda: {name: value for name, value in hydra().state_dict().items() if name.startswith("output_heads.")},
        "the file holds heads without a backbone",
    ),
    "OC22 without its reference": (
        lambda: flat(load_energy_lin_ref=True),
        lambda: flat().state_dict(),
        r"the config asks for the per-element energies of OC22's models \(load_energy_lin_ref\), and the file has none",
    ),
    "OC22 for another config": (
        flat,
        lambda: flat(load_energy_lin_ref=True).state_dict(),
        "the file holds the per-element energies of OC22's models: load_energy_lin_ref: true",
    ),
    "DeNS": (
        lambda: hydra(("energy", "forces", "stress"), **official.OMAT),
        lambda: official.dens().content["state_dict"],
        "the file is a DeNS model's: `ev2 convert` makes the plain one",
    ),
    "eSCN": (flat, escn, "these are not the weights of an EquiformerV2; their names are those of eSCN"),
    "GemNet": (hydra, lambda: named("int_blocks.0.x", "out_blocks.0.x", "atom_emb.x"), "those of GemNet"),
    "SchNet": (flat, lambda: SchNetWrap(hidden_channels=8, num_filters=8).state_dict(), "those of SchNet"),
    "something": (flat, lambda: {"layer.weight": torch.zeros(2)}, "these are not the weights of an EquiformerV2$"),
    "nothing": (flat, dict, "the file holds no weights"),
    "another model in the config": (
        lambda: SchNetWrap(hidden_channels=8, num_filters=8),
        lambda: flat().state_dict(),
        "these are the weights of an EquiformerV2, and the config names another model",
    ),
}


@pytest.mark.parametrize("case", REASONS)
def test_likely_reason(case: str) -> None:
    model, weights, reason = REASONS[case]
    state = {f"module.module.{name}": value for name, value in weights().items()}
    with pytest.raises(
        ValueError, match=f"does not fit the model of this config. Weights .* Likely reason: .*{reason}"
    ):
        check_weights(model(), state, "some.pt")


def test_weights_that_fit_have_no_complaint() -> None:
    for model in (flat(), hydra(("energy", "forces", "stress")), SchNetWrap(hidden_channels=8, num_filters=8)):
        check_weights(model, {f"module.{name}": value for name, value in model.state_dict().items()}, "some.pt")


def test_no_reason_is_made_up() -> None:
    shapes = shapes_of_weights((name, value.shape) for name, value in flat().state_dict().items())
    other = {**shapes, "norm.norm_l0.bias": (99,)}
    assert likely_reason(shapes, other) is None
    with pytest.raises(ValueError, match=r"of another shape: norm\.norm_l0\.bias \(99,\) instead of \(8,\)\.$"):
        check_weights(flat(), {name: torch.empty(shape) for name, shape in other.items()}, "some.pt")


@pytest.mark.parametrize("layout", official.LAYOUTS)
def test_architecture_of_every_published_layout(layout: str) -> None:
    content = official.LAYOUTS[layout]().content
    raw = architecture_of(shapes_of_weights((name, value.shape) for name, value in content["state_dict"].items()))
    current = current_form(content, "x")["state_dict"]
    plain = architecture_of(shapes_of_weights((name, value.shape) for name, value in current.items()))
    assert raw is not None
    assert plain is not None
    assert (plain.lmax, plain.mmax, plain.num_layers, plain.num_radial_basis) == (3, 2, 2, 600)
    assert raw.denoising == layout.startswith("DeNS")
    assert not plain.denoising
    assert raw.linear_reference == (layout == "OC22")
    assert raw.hydra == (layout in ("OMat24", "hydra", "hydra by head", "DeNS", "DeNS with noise scales"))
    assert set(raw.heads) == {"energy", "forces", *(["stress"] if raw.hydra and not layout.startswith("hydra") else [])}
