from dataclasses import replace

import pytest
import torch
from e3nn import o3
from torch import Tensor

from ev2_plugin.model.backbone import Backbone, NodeEmbedding
from ev2_plugin.model.stress_head import StressHead, StressSpec, solid_harmonics
from ev2_plugin.so3.edge_frame import edge_frames
from ev2_plugin.so3.layout import CoefficientLayout
from helpers.equivariance import random_rotation, relative_error
from helpers.models import fill_by_name
from helpers.structures import GATE, TINY, assorted, atom_batch, crystal, rotated, single_atom, slab

SWITCHES = {
    "plain": StressSpec(),
    "decomposed": StressSpec(decompose=True),
    "OMat24": StressSpec(decompose=True, use_source_target_embedding=True),
    "edges": StressSpec(edge_level_mlp=True),
    "decomposed, edges": StressSpec(decompose=True, edge_level_mlp=True, num_mlp_layers=3),
    "extensive": StressSpec(decompose=True, extensive=True, avg_num_nodes=4.0),
}
each_spec = pytest.mark.parametrize("spec", SWITCHES.values(), ids=SWITCHES)
LOOSE = replace(GATE, enforce_max_neighbors_strictly=False)


def embed(structures, config=LOOSE) -> NodeEmbedding:
    return fill_by_name(Backbone(config)).double().eval().embed(atom_batch(structures, config))


def head_of(spec: StressSpec, config=LOOSE) -> StressHead:
    return fill_by_name(StressHead(config, spec)).double()


def flat(stress: Tensor | tuple[Tensor, Tensor]) -> Tensor:
    return stress if isinstance(stress, Tensor) else torch.cat(stress, dim=1)


@each_spec
def test_shapes(spec: StressSpec) -> None:
    stress = head_of(spec).predict(embed(assorted()))
    number = len(assorted())
    if spec.decompose:
        assert [part.shape for part in stress] == [(number, 1), (number, 5)]
    else:
        assert stress.shape == (3 * number, 3)
    assert torch.isfinite(flat(stress)).all()


@each_spec
def test_batch_is_its_structures(spec: StressSpec) -> None:
    head = head_of(spec)
    singles = torch.cat([flat(head.predict(embed(atoms))) for atoms in assorted()])
    torch.testing.assert_close(flat(head.predict(embed(assorted()))), singles, atol=1e-10, rtol=1e-10)


@pytest.mark.parametrize("atoms", [slab(), crystal()])
@pytest.mark.parametrize("spec", [spec for spec in SWITCHES.values() if spec.decompose])
def test_isotropic_part_is_invariant(spec: StressSpec, atoms) -> None:
    head = head_of(spec)
    here, there = (head.predict(embed(each)) for each in (atoms, rotated(atoms, random_rotation(2))))
    assert relative_error(there[0], here[0]) < 1e-10
    assert relative_error(there[1], here[1]) > 1e-3


def test_tensor_is_symmetric() -> None:
    stress = head_of(SWITCHES["edges"]).predict(embed(assorted())).view(-1, 3, 3)
    torch.testing.assert_close(stress, stress.mT)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("decompose", True),
        ("edge_level_mlp", True),
        ("num_mlp_layers", 1),
        ("use_source_target_embedding", True),
        ("extensive", True),
    ],
)
def test_switch_changes_the_output(name: str, value: object) -> None:
    embedding, plain = embed(slab()), StressSpec()
    before, after = (flat(head_of(spec).predict(embedding)) for spec in (plain, replace(plain, **{name: value})))
    assert before.shape != after.shape or not torch.allclose(before, after)


def test_extensive_stress_is_the_sum_over_atoms() -> None:
    embedding = embed(assorted())
    mean = flat(head_of(SWITCHES["decomposed"]).predict(embedding))
    total = flat(head_of(SWITCHES["extensive"]).predict(embedding))
    torch.testing.assert_close(total, mean * embedding.atoms.natoms[:, None] / 4.0)


def test_structure_without_edges() -> None:
    stress = head_of(SWITCHES["OMat24"]).predict(embed(single_atom()))
    assert torch.isfinite(flat(stress)).all()


def test_decomposition_needs_degree_two() -> None:
    with pytest.raises(ValueError, match="needs lmax >= 2, got lmax=1"):
        StressHead(replace(TINY, lmax=1), StressSpec(decompose=True))


def test_solid_harmonics_against_e3nn() -> None:
    layout, vectors = CoefficientLayout(4, 1), 2 * torch.randn(9, 3, dtype=torch.float64)
    ours = solid_harmonics(edge_frames(vectors, layout).directions, vectors.norm(dim=1), layout.degrees)
    # fairchem calls e3nn with normalize=False and the default normalisation, "integral"
    torch.testing.assert_close(ours, o3.spherical_harmonics(list(range(5)), vectors, normalize=False))
