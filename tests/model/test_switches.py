"""Every setting does what it says; none does nothing."""

from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any, get_args

import pytest
import torch
from ase.build import bulk
from torch import Tensor

from ev2_plugin.model.config import ActivationCheckpoint, ModelConfig
from ev2_plugin.model.equiformer_v2 import EquiformerV2
from ev2_plugin.ops.linear import Precision
from helpers.models import filled_model, predict
from helpers.structures import TINY, atom_batch, slab

S2 = replace(TINY, use_sep_s2_act=False, use_grid_mlp=False)
SEPARABLE = replace(TINY, use_grid_mlp=False)
CHANGES: dict[str, tuple[ModelConfig, Any]] = {
    # the same parameters, another function
    "avg_num_nodes": (TINY, 6.0),
    "avg_degree": (TINY, 8.0),
    "grid_resolution": (TINY, None),
    "max_radius": (TINY, 3.5),
    "max_neighbors": (TINY, 8),
    "num_heads": (TINY, 1),
    "distance_function": (TINY, "learnable_gaussian"),
    # other parameters too
    "lmax": (TINY, 3),
    "mmax": (TINY, 2),
    "num_layers": (TINY, 1),
    "sphere_channels": (TINY, 5),
    "attn_hidden_channels": (TINY, 4),
    "attn_alpha_channels": (TINY, 3),
    "attn_value_channels": (TINY, 2),
    "ffn_hidden_channels": (TINY, 6),
    "norm_type": (TINY, "layer_norm"),
    "edge_channels": (TINY, 7),
    "use_atom_edge_embedding": (TINY, False),
    "share_atom_edge_embedding": (TINY, True),
    "use_m_share_rad": (TINY, True),
    "num_radial_basis": (TINY, 9),
    "use_attn_renorm": (TINY, False),
    "use_gate_act": (SEPARABLE, True),
    "use_sep_s2_act": (SEPARABLE, False),
    "use_grid_mlp": (TINY, False),
}
TESTED_BELOW = {
    "enforce_max_neighbors_strictly",
    "max_num_elements",
    "alpha_drop",
    "drop_path_rate",
    "proj_drop",
    "weight_init",
    "activation_checkpoint",
    "edge_memory_mb",
    "backend",
    "precision",
}


def outputs(config: ModelConfig) -> tuple[Tensor, Tensor]:
    return predict(filled_model(config), atom_batch(slab(), config))


def assert_different(a: tuple[Tensor, Tensor], b: tuple[Tensor, Tensor]) -> None:
    for x, y in zip(a, b, strict=True):
        assert torch.isfinite(x).all()
        assert torch.isfinite(y).all()
        assert (x - y).abs().max() > 1e-3 * x.abs().max()


def test_every_setting_is_tested() -> None:
    assert set(CHANGES) | TESTED_BELOW == {field.name for field in fields(ModelConfig)}


@pytest.mark.parametrize("name", CHANGES)
def test_setting_changes_the_output(name: str) -> None:
    base, value = CHANGES[name]
    changed = replace(base, **{name: value})
    if name == "avg_num_nodes":
        (energy, _), (other, _) = outputs(base), outputs(changed)
        torch.testing.assert_close(energy * base.avg_num_nodes, other * value)
        assert not torch.allclose(energy, other)
    else:
        assert_different(outputs(base), outputs(changed))


@pytest.mark.parametrize(
    ("base", "changes"),
    [
        (TINY, {"norm_type": "rms_norm_sh"}),
        (TINY, {"use_sep_s2_act": False}),
        (S2, {"use_gate_act": True}),
        (S2, {"use_grid_mlp": True}),
        (replace(TINY, use_gate_act=True), {"use_grid_mlp": False}),
        (replace(TINY, distance_function="learnable_gaussian"), {"max_radius": 3.0}),
        (replace(TINY, share_atom_edge_embedding=True), {"use_m_share_rad": True}),
    ],
)
def test_combinations_differ(base: ModelConfig, changes: dict[str, Any]) -> None:
    assert_different(outputs(base), outputs(replace(base, **changes)))


def test_elements_enter_the_radial_functions_only_if_asked() -> None:
    """With the node embeddings equal, only the element embeddings on edges tell elements apart."""
    for changes, matters in (
        ({}, True),
        ({"share_atom_edge_embedding": True}, True),
        ({"use_atom_edge_embedding": False}, False),
    ):
        config = replace(TINY, **changes)
        model = filled_model(config)
        torch.nn.init.ones_(model.sphere_embedding.weight)
        other = slab()
        other.numbers[:4] = 29 + 5
        energies = [model.predict(atom_batch(atoms, config))["energy"] for atoms in (slab(), other)]
        assert torch.allclose(*energies) != matters


def test_strict_neighbour_limit() -> None:
    atoms = bulk("Cu", cubic=True)
    atoms.rattle(1e-4, seed=0)  # breaks the ties of a strict limit, not those of a loose one
    strict, loose = (replace(TINY, enforce_max_neighbors_strictly=value) for value in (True, False))
    assert_different(*(predict(filled_model(c), atom_batch(atoms, c)) for c in (strict, loose)))


def test_number_of_elements() -> None:
    small = replace(TINY, max_num_elements=30)
    assert filled_model(small).sphere_embedding.weight.shape == (30, 6)
    assert filled_model(small).blocks[0].ga.source_embedding.weight.shape == (30, 8)
    with pytest.raises(ValueError, match="atomic number 29, but the model's tables end at 28"):
        atom_batch(slab(), replace(TINY, max_num_elements=29))


@pytest.mark.parametrize("name", ["alpha_drop", "drop_path_rate", "proj_drop"])
def test_dropout_is_random_in_training_only(name: str) -> None:
    model, atoms = filled_model(replace(TINY, **{name: 0.5})), atom_batch([slab()] * 4)
    torch.testing.assert_close(predict(model, atoms), predict(filled_model(TINY), atoms), rtol=0, atol=0)
    model.train()
    (first, _), (second, _) = predict(model, atoms), predict(model, atoms)
    assert not torch.allclose(first, second)


def test_no_dropout_in_the_force_head() -> None:
    model = filled_model(replace(TINY, alpha_drop=0.5))
    assert model.blocks[0].ga.alpha_dropout.p == 0.5
    assert model.force_block.alpha_dropout.p == 0


def test_weight_initialisation() -> None:
    weights = {}
    for kind in ("uniform", "normal"):
        torch.manual_seed(0)
        weights[kind] = EquiformerV2(replace(TINY, weight_init=kind)).blocks[0].ga.so2_conv_1.fc_m0.weight
    bound = weights["uniform"].shape[1] ** -0.5
    assert weights["uniform"].abs().max() <= bound < weights["normal"].abs().max()


def run_training_step(config: ModelConfig) -> tuple[list[Tensor], int]:
    """Outputs and gradients, and how many numbers were kept in between."""
    model, atoms = filled_model(config).train(), atom_batch(slab(), config)
    sizes: list[int] = []
    torch.manual_seed(7)
    with torch.autograd.graph.saved_tensors_hooks(lambda t: sizes.append(t.numel()) or t, lambda t: t):
        energy, forces = predict(model, atoms)
    gradients = torch.autograd.grad(energy.sum() + forces.sin().sum(), list(model.parameters()))
    return [energy, forces, *gradients], sum(sizes)


@pytest.mark.filterwarnings("ignore:.torch.cpu.amp.autocast:FutureWarning")  # torch 2.4's own checkpoint
@pytest.mark.parametrize(("level", "factor"), [("edges", 1.5), ("block", 2)])
def test_activation_checkpoint_keeps_less_and_changes_nothing(level: ActivationCheckpoint, factor: float) -> None:
    config = replace(TINY, num_layers=4, alpha_drop=0.2, drop_path_rate=0.2)
    plain, kept = run_training_step(config)
    checkpointed, kept_less = run_training_step(replace(config, activation_checkpoint=level))
    assert all(torch.equal(a, b) for a, b in zip(plain, checkpointed, strict=True))
    assert kept_less < kept / factor


@pytest.mark.parametrize("base", [TINY, S2, SEPARABLE, replace(SEPARABLE, use_gate_act=True)])
def test_backends_agree(base: ModelConfig) -> None:
    results = [run_training_step(replace(base, backend=backend)) for backend in ("auto", "reference")]
    for ours, expected in zip(results[0][0], results[1][0], strict=True):
        torch.testing.assert_close(ours, expected, atol=1e-10, rtol=1e-9)
    forward: Callable[..., Tensor] = filled_model(base).blocks[0].ga.so2_conv_1.ops.so2_linear
    assert forward is not filled_model(replace(base, backend="reference")).blocks[0].ga.so2_conv_1.ops.so2_linear


def test_edge_memory_decides_how_many_edges_are_taken_together() -> None:
    model, atoms = filled_model(replace(TINY, edge_memory_mb=1)), atom_batch([slab()] * 12)
    assert len(model._edge_context(atoms, None).parts) > 1
    whole = filled_model(TINY)
    assert len(whole._edge_context(atoms, None).parts) == 1
    with torch.no_grad():
        for ours, expected in zip(predict(model, atoms), predict(whole, atoms), strict=True):
            torch.testing.assert_close(ours, expected, atol=1e-12, rtol=1e-12)


def test_precisions() -> None:
    atoms = atom_batch(slab(), dtype=torch.float32)
    results = {p: predict(filled_model(replace(TINY, precision=p)).float(), atoms) for p in get_args(Precision)}
    for precision in ("high", "tf32"):  # plain fp32 where there are no TF32 units
        assert all(torch.equal(a, b) for a, b in zip(results[precision], results["highest"], strict=True))
    # half precision as torch's own autocast has it: this model is far from linear, so the reference sets the measure
    half = predict(filled_model(replace(TINY, precision="bf16", backend="reference")).float(), atoms)
    for rough, measure, exact in zip(results["bf16"], half, results["highest"], strict=True):
        assert rough.dtype == torch.float32
        assert 0 < (rough - exact).norm() < 2 * (measure - exact).norm()
    with pytest.raises(ValueError, match="backend reference multiplies as torch does"):
        replace(TINY, backend="reference", precision="high")


def test_backward_reaches_every_parameter() -> None:
    model = filled_model(TINY).train()
    energy, forces = predict(model, atom_batch(slab()))
    (energy.sum() + forces.square().sum()).backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
