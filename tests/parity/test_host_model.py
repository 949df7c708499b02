"""Our model against the host's, weight for weight: energies, forces, stresses and all gradients."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import nn

from ev2_plugin.integration.fidelity import batch_with_edges, compare, model_pair, pinned_frames, relative
from ev2_plugin.integration.fidelity_cases import (
    BASE,
    HEADS,
    RULE,
    SHAPES,
    SWITCHES,
    flat_settings,
    hydra_settings,
    structures,
)

TOLERANCE = {torch.float32: 2e-5, torch.float64: 1e-11}
GRADIENT_TOLERANCE = {torch.float32: 2e-4, torch.float64: 1e-9}


@pytest.fixture
def host_dtype(dtype: torch.dtype) -> Iterator[torch.dtype]:
    """The host makes its tables in torch's default dtype."""
    torch.set_default_dtype(dtype)
    yield dtype
    torch.set_default_dtype(torch.float32)


def assert_same(settings: dict[str, Any], dtype: torch.dtype) -> None:
    host, ours = model_pair(settings, dtype)
    found = compare(host, ours, batch_with_edges(list(structures().values()), RULE, dtype))
    assert found.outputs
    for name, value in found.outputs.items():
        assert value < TOLERANCE[dtype], f"{name}: {value:.1e}"
    worst = max(found.gradients, key=found.gradients.__getitem__)
    assert found.worst_gradient < GRADIENT_TOLERANCE[dtype], f"{worst}: {found.worst_gradient:.1e}"


@pytest.mark.parametrize("switch", SWITCHES)
def test_every_switch(switch: str, host_dtype: torch.dtype) -> None:
    assert_same(flat_settings(switch, (4, 2)), host_dtype)


@pytest.mark.parametrize("shape", [shape for shape in SHAPES if shape != (4, 2)])
def test_every_shape(shape: tuple[int, int], host_dtype: torch.dtype) -> None:
    assert_same(flat_settings("paper", shape), host_dtype)


@pytest.mark.parametrize("heads", HEADS)
def test_hydra_layout(heads: str, host_dtype: torch.dtype) -> None:
    assert_same(hydra_settings(heads, (4, 2)), host_dtype)


@pytest.mark.parametrize("name", ["slab with adsorbate", "crystal", "molecule"])
def test_single_structures(name: str, host_dtype: torch.dtype) -> None:
    host, ours = model_pair(flat_settings("paper", (4, 2)), host_dtype)
    found = compare(host, ours, batch_with_edges([structures()[name]], RULE, host_dtype))
    assert max(found.outputs.values()) < TOLERANCE[host_dtype], found.outputs


@pytest.mark.parametrize("strict", [True, False], ids=["strict", "loose"])
def test_with_each_sides_own_neighbour_search(strict: bool) -> None:
    settings = {**flat_settings("paper", (2, 2)), "otf_graph": True, "enforce_max_neighbors_strictly": strict}
    host, ours = model_pair(settings, torch.float32)
    batch = batch_with_edges(list(structures().values()), RULE, torch.float32)
    with pinned_frames():
        expected = host(batch.clone())
    actual = ours(batch.clone())
    for name, value in expected.items():
        assert relative(actual[name], value) < TOLERANCE[torch.float32]


def test_the_comparison_notices_a_change_of_weight() -> None:
    host, ours = model_pair(flat_settings("paper", (2, 2)), torch.float32)
    with torch.no_grad():
        ours.blocks[0].ga.so2_conv_1.fc_m0.weight[0, 0] += 0.1
    found = compare(host, ours, batch_with_edges(list(structures().values()), RULE, torch.float32))
    assert found.outputs["forces"] > TOLERANCE[torch.float32]


def test_the_hosts_random_frames_would_drown_the_comparison() -> None:
    """Why frames are pinned: two calls of the host's model differ by more than the tolerance."""
    host, _ = model_pair({**flat_settings("paper", (2, 2)), "grid_resolution": 8}, torch.float32)
    batch = batch_with_edges(list(structures().values()), RULE, torch.float32)
    first, second = host(batch.clone()), host(batch.clone())
    assert relative(first["forces"], second["forces"]) > TOLERANCE[torch.float32]


@pytest.mark.parametrize("switch", SWITCHES)
def test_parameters_have_the_hosts_names_shapes_and_order(switch: str) -> None:
    """Order matters: the host stores EMA weights and optimiser state as lists."""
    host, ours = model_pair(flat_settings(switch, (3, 2)), torch.float32)
    described = [[(name, p.shape, p.requires_grad) for name, p in model.named_parameters()] for model in (host, ours)]
    assert described[0] == described[1]
    assert host.no_weight_decay() == ours.no_weight_decay()


def test_our_state_dict_holds_parameters_only() -> None:
    _, ours = model_pair(flat_settings("gate activation", (4, 2)), torch.float32)
    assert set(ours.state_dict()) == {name for name, _ in ours.named_parameters()}


@pytest.mark.parametrize("prefix", ["", "module.", "module.module.module."])
def test_flat_model_loads_wrapped_and_hydra_state_dicts(prefix: str) -> None:
    from ev2_plugin.integration.backbone import EquiformerV2

    hydra, _ = model_pair(hydra_settings("hydra: energy, forces, stress parts", (3, 2)), torch.float32)
    weights = {
        prefix + key: value for key, value in hydra.state_dict().items() if not key.startswith("output_heads.stress.")
    }
    flat = EquiformerV2(**flat_settings("paper", (3, 2)))
    flat.load_state_dict(weights, strict=True)
    torch.testing.assert_close(flat.force_block.proj.weight, hydra.output_heads.forces.force_block.proj.weight)

    host, _ = model_pair(flat_settings("paper", (3, 2)), torch.float32)
    flat.load_state_dict({prefix + key: value for key, value in host.state_dict().items()}, strict=True)
    torch.testing.assert_close(flat.sphere_embedding.weight, host.sphere_embedding.weight)


def test_two_heads_of_a_kind_do_not_fit_a_flat_model() -> None:
    from ev2_plugin.integration.backbone import EquiformerV2

    hydra, _ = model_pair(hydra_settings("hydra: energy, forces, stress parts", (2, 2)), torch.float32)
    weights = {key: value for key, value in hydra.state_dict().items() if not key.startswith("output_heads.stress.")}
    twice = {key.replace("heads.energy.", "heads.other."): value for key, value in weights.items() if "energy" in key}
    with pytest.raises(ValueError, match="two tensors of the state dict are both 'energy_block"):
        EquiformerV2(**flat_settings("paper", (2, 2))).load_state_dict({**weights, **twice})


def test_a_state_dict_that_does_not_fit_names_what_is_wrong() -> None:
    from ev2_plugin.integration.backbone import EquiformerV2

    host, _ = model_pair(flat_settings("paper", (3, 2)), torch.float32)
    flat = EquiformerV2(**flat_settings("paper", (3, 2)))
    weights = dict(host.state_dict())
    del weights["norm.norm_l0.weight"]
    with pytest.raises(RuntimeError, match="Missing.*norm.norm_l0.weight"):
        flat.load_state_dict(weights)
    with pytest.raises(RuntimeError, match="Unexpected.*stowaway"):
        flat.load_state_dict({**host.state_dict(), "stowaway.weight": torch.zeros(1)})


def test_linear_reference_of_oc22_checkpoints() -> None:
    """The reference is a frozen parameter, loaded from the file and added when asked."""
    settings = {**flat_settings("paper", (2, 2)), "load_energy_lin_ref": True, "use_energy_lin_ref": True}
    host, ours = model_pair(settings, torch.float32)
    batch = batch_with_edges(list(structures().values()), RULE, torch.float32)
    with pinned_frames():
        expected = host(batch.clone())["energy"]
    assert relative(ours(batch.clone())["energy"], expected) < TOLERANCE[torch.float32]
    assert not ours.energy_lin_ref.requires_grad


def train(model: nn.Module, batches: list[Any], steps: int) -> list[float]:
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-4)
    losses = []
    for step in range(steps):
        batch = batches[step % len(batches)]
        with pinned_frames():
            out = model(batch.clone())
        energy_loss = (out["energy"] - torch.linspace(-1, 1, len(out["energy"]))).abs().mean()
        force_loss = (out["forces"] - torch.sin(3 * batch.pos)).norm(dim=-1).mean()
        loss = 2 * energy_loss + 10 * force_loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 100)
        optimizer.step()
        losses.append(float(loss.detach()))
    return losses


def test_fifty_training_steps_follow_the_same_loss_curve() -> None:
    settings = {**BASE, "lmax_list": [3], "mmax_list": [2], "num_layers": 1}
    host, ours = model_pair(settings, torch.float32, scale=1.0)
    systems = list(structures().values())
    batches = [batch_with_edges(systems[:2], RULE, torch.float32), batch_with_edges(systems[1:], RULE, torch.float32)]
    theirs, mine = train(host.train(), batches, 50), train(ours.train(), batches, 50)
    assert theirs[-1] < 0.9 * theirs[0], "the run must learn something for the comparison to mean anything"
    assert max(abs(a - b) / b for a, b in zip(mine, theirs, strict=True)) < 1e-4


def test_learnable_gaussian_basis_of_equiformer_v1() -> None:
    """The host ships the class without a model that uses it; parameters have its names, so they load."""
    from fairchem.core.models.equiformer_v2.gaussian_rbf import GaussianRadialBasisLayer

    from ev2_plugin.nn.radial import LearnableGaussianBasis

    host, ours = GaussianRadialBasisLayer(16, 5.0), LearnableGaussianBasis(16, 5.0)
    with torch.no_grad():
        for parameter in host.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    ours.load_state_dict(host.state_dict(), strict=True)
    distances = torch.linspace(0.1, 5.0, 50)
    torch.testing.assert_close(ours(distances), host(distances))
