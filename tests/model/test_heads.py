from dataclasses import replace

import pytest
import torch

from ev2_plugin.model.backbone import Backbone
from ev2_plugin.model.equiformer_v2 import EquiformerV2, linear_reference
from ev2_plugin.model.heads import EnergyHead, ForceHead, sum_over_structures
from helpers.models import fill_by_name, filled_model, predict
from helpers.structures import TINY, assorted, atom_batch, slab


def test_sum_over_structures() -> None:
    values, natoms = torch.arange(12.0).view(6, 2), torch.tensor([1, 0, 3, 2])
    assert sum_over_structures(values, natoms).tolist() == [[0, 1], [0, 0], [12, 15], [18, 20]]
    assert sum_over_structures(values[:, 0], natoms).tolist() == [0, 0, 12, 18]


def test_separate_heads_are_the_flat_model() -> None:
    flat, atoms = filled_model(TINY), atom_batch(assorted())
    backbone, energy, force = (m.double() for m in (Backbone(TINY), EnergyHead(TINY), ForceHead(TINY)))
    state = flat.state_dict()
    backbone.load_state_dict({k: v for k, v in state.items() if not k.startswith(("energy_block", "force_block"))})
    energy.load_state_dict({k: v for k, v in state.items() if k.startswith("energy_block")})
    force.load_state_dict({k: v for k, v in state.items() if k.startswith("force_block")})
    embedding = backbone.eval().embed(atoms)
    expected = predict(flat, atoms)
    assert torch.equal(energy.predict(embedding), expected[0])
    assert torch.equal(force.predict(embedding), expected[1])


@pytest.mark.parametrize(
    "kind",
    [
        {},
        {"use_sep_s2_act": False},
        {"use_grid_mlp": False},
        {"use_grid_mlp": False, "use_sep_s2_act": False},
        {"use_grid_mlp": False, "use_gate_act": True},
    ],
)
def test_energy_and_forces_are_degrees_0_and_1_of_the_heads_blocks(kind: dict[str, bool]) -> None:
    config = replace(TINY, **kind)
    model, atoms = filled_model(config), atom_batch(assorted(), config)
    embedding = model.embed(atoms)
    per_atom = model.energy_block(embedding.nodes)[:, 0, 0]
    energy, forces = predict(model, atoms)
    parts = per_atom.split(atoms.natoms.tolist())
    torch.testing.assert_close(energy, torch.stack([part.sum() for part in parts]) / config.avg_num_nodes)
    torch.testing.assert_close(forces, model.force_block(embedding.nodes, embedding.edges)[:, 1:4, 0])


def test_mean_energy() -> None:
    atoms = atom_batch(assorted())
    backbone = fill_by_name(Backbone(TINY)).double().eval()
    heads = [fill_by_name(EnergyHead(TINY, reduce=reduce)).double() for reduce in ("sum", "mean")]
    total, mean = (head.predict(backbone.embed(atoms)) for head in heads)
    torch.testing.assert_close(mean * atoms.natoms, total * TINY.avg_num_nodes)


def test_wrong_reduction() -> None:
    head = object.__new__(EnergyHead)
    unchecked = getattr(EnergyHead.__init__, "__wrapped__", EnergyHead.__init__)  # annotations would refuse it first
    with pytest.raises(ValueError, match="reduce must be 'sum' or 'mean', got 'max'"):
        unchecked(head, TINY, "max")


def test_without_forces() -> None:
    model = filled_model(TINY, regress_forces=False)
    assert set(model.predict(atom_batch(slab()))) == {"energy"}
    assert not [name for name, _ in model.named_parameters() if name.startswith("force_block")]


def test_linear_reference_is_held_and_added_only_when_asked() -> None:
    atoms = atom_batch([slab(), slab()[:3]])
    held = filled_model(TINY, load_energy_lin_ref=True)
    added = filled_model(TINY, load_energy_lin_ref=True, use_energy_lin_ref=True)
    for model in (held, added):
        model.energy_lin_ref.data.copy_(torch.arange(90) / 10)
        assert not model.energy_lin_ref.requires_grad
    plain = filled_model(TINY)
    assert plain.energy_lin_ref is None
    torch.testing.assert_close(predict(held, atoms), predict(plain, atoms))
    expected = torch.tensor([2.9 * 8 + 0.6 + 0.8, 2.9 * 3], dtype=torch.float64)
    torch.testing.assert_close(predict(added, atoms)[0] - predict(plain, atoms)[0], expected)


def test_linear_reference_that_is_not_held() -> None:
    with pytest.raises(ValueError, match="use_energy_lin_ref: true needs load_energy_lin_ref: true"):
        linear_reference(90, load=False, use=True)
    with pytest.raises(ValueError, match="load_energy_lin_ref"):
        EquiformerV2(TINY, use_energy_lin_ref=True)
