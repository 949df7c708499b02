"""torch.compile takes the model whole, and once for all sizes of batches.

`test_compile.py` runs these in an interpreter of their own: checks of annotations, on in all other tests, are Python
that cannot be compiled.
"""

import copy
import pickle
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import pytest
import torch
from ase import Atoms
from torch import Tensor
from torch._dynamo.testing import CompileCounterWithBackend

from ev2_plugin.model.batch import AtomBatch
from ev2_plugin.model.compilation import Compiled
from ev2_plugin.model.config import ModelConfig
from ev2_plugin.model.equiformer_v2 import EquiformerV2
from ev2_plugin.model.replay import Outputs
from helpers.models import filled_model
from helpers.structures import GATE, TINY, assorted, atom_batch, crystal, molecule, single_atom, slab, wire

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning:torch")

SMALL = replace(TINY, num_layers=1)
VARIANTS = [
    TINY, replace(SMALL, backend="reference"), replace(GATE, num_layers=1), replace(SMALL, use_grid_mlp=False),
    replace(SMALL, share_atom_edge_embedding=True, use_m_share_rad=True, norm_type="layer_norm"),
    replace(SMALL, distance_function="learnable_gaussian", norm_type="rms_norm_sh", use_sep_s2_act=False),
    replace(SMALL, drop_path_rate=0.4, alpha_drop=0.2, proj_drop=0.1),
]  # fmt: skip


@pytest.fixture(autouse=True)
def _compiler() -> Iterator[None]:
    """Functions compiled in one test are of no use to another."""
    torch.manual_seed(0)
    yield
    torch._dynamo.reset()


def run(model: EquiformerV2, atoms: AtomBatch, gauge: Tensor | None) -> Outputs:
    return model.predict(atoms, gauge)


def counted() -> tuple[Compiled, CompileCounterWithBackend]:
    """A compiled function, and the count of the graphs it consists of; graph breaks raise."""
    counter = CompileCounterWithBackend("aot_eager")
    return Compiled(run, counter), counter


def of_many_sizes(number: int, config: ModelConfig = TINY) -> list[AtomBatch]:
    """Batches of at least two structures, no two of the same numbers of atoms and edges."""
    return [
        atom_batch([slab(), wire(), *[molecule()] * (n % 4), *[crystal()] * (n // 4)], config) for n in range(number)
    ]


def gradients(model: EquiformerV2, outputs: Outputs) -> list[Tensor]:
    loss = outputs["energy"].square().sum() + outputs["forces"].square().sum()
    return list(torch.autograd.grad(loss, [p for p in model.parameters() if p.requires_grad]))


@pytest.mark.parametrize("config", VARIANTS)
def test_values_and_gradients_are_those_without(config: ModelConfig) -> None:
    model, (compiled, counter) = filled_model(config).train(), counted()
    for structures in (assorted(), [slab(), molecule()]):
        atoms = atom_batch(structures, config)
        results = []
        for function in (compiled, run):
            torch.manual_seed(3)  # of dropout and stochastic depth
            outputs = function(model, atoms, None)
            results.append([*outputs.values(), *gradients(model, outputs)])
        for ours, expected in zip(*results, strict=True):
            torch.testing.assert_close(ours, expected, atol=1e-9, rtol=1e-9)
    assert counter.frame_count == 1


@pytest.mark.parametrize("training", [True, False])
def test_twenty_batches_need_one_graph(training: bool) -> None:
    model, (compiled, counter) = filled_model(SMALL).train(training), counted()
    batches = of_many_sizes(20)
    assert len({(len(b.atomic_numbers), b.num_graphs, len(b.graph.senders)) for b in batches}) == 20
    with nullcontext() if training else torch.no_grad():
        for atoms in batches:
            outputs = compiled(model, atoms)
            if training:
                gradients(model, outputs)
            torch.testing.assert_close(outputs["forces"], run(model, atoms, None)["forces"])
    assert counter.frame_count == 1


@torch.no_grad()
def test_sizes_zero_and_one_have_their_own_graphs() -> None:
    model, (compiled, counter) = filled_model(SMALL), counted()
    graphs = []
    for structures in (slab(), molecule(), single_atom(), crystal(), [slab(), molecule()], [single_atom()] * 3):
        atoms = atom_batch(structures)
        ours, expected = compiled(model, atoms), run(model, atoms, None)
        for name in expected:
            torch.testing.assert_close(ours[name], expected[name])
        graphs.append(counter.frame_count)
    # one structure; no edges; several structures; several without edges
    assert graphs == [1, 1, 2, 2, 3, 4]


@torch.no_grad()
def test_gauge() -> None:
    model, (compiled, counter) = filled_model(SMALL), counted()
    for structures in ([slab(), molecule()], [crystal(), molecule()]):
        atoms = atom_batch(structures)
        gauge = torch.rand(len(atoms.graph.senders), dtype=torch.float64) * 6
        ours, expected = compiled(model, atoms, gauge), run(model, atoms, gauge)
        torch.testing.assert_close(ours["forces"], expected["forces"])
        assert not torch.allclose(ours["forces"], compiled(model, atoms)["forces"])
    assert counter.frame_count == 2  # with a gauge and without


@torch.no_grad()
def test_autocast_and_weights_are_followed() -> None:
    model, (compiled, _) = filled_model(SMALL, torch.float32), counted()
    atoms = atom_batch([slab(), molecule()], SMALL, torch.float32)
    full = compiled(model, atoms)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half, expected = compiled(model, atoms), run(model, atoms, None)
    torch.testing.assert_close(half["forces"], expected["forces"])
    assert not torch.equal(half["forces"], full["forces"])
    for parameter in model.parameters():
        parameter *= 0.9
    torch.testing.assert_close(compiled(model, atoms)["forces"], run(model, atoms, None)["forces"])


@torch.no_grad()
def test_batches_beyond_the_edge_memory_are_not_compiled() -> None:
    config = replace(SMALL, edge_memory_mb=1)
    model, (compiled, counter) = filled_model(config), counted()
    atoms = atom_batch([slab()] * 40, config)
    assert len(atoms.graph.senders) > model.edges_within_memory(torch.float64)
    torch.testing.assert_close(compiled(model, atoms)["forces"], run(model, atoms, None)["forces"])
    assert counter.frame_count == 0


def test_names_of_parameters_stay() -> None:
    model, (compiled, _) = filled_model(SMALL), counted()
    before = list(model.state_dict())
    compiled(model, atom_batch(slab()))
    assert list(model.state_dict()) == before


@torch.no_grad()
def test_a_copy_is_for_the_models_copy() -> None:
    model = filled_model(SMALL)
    model.compiled = Compiled(run, "eager")
    atoms = atom_batch(slab())
    first = model.compiled(model, atoms)
    other = copy.deepcopy(model)
    for parameter in other.parameters():
        parameter *= 0.5
    for compiled in (other.compiled, pickle.loads(pickle.dumps(model.compiled))):
        torch.testing.assert_close(compiled(other, atoms)["forces"], run(other, atoms, None)["forces"])
    torch.testing.assert_close(model.compiled(model, atoms)["forces"], first["forces"], atol=0, rtol=0)


@pytest.mark.slow
@pytest.mark.parametrize("structures", [[slab(), molecule()]])
def test_inductor(structures: list[Atoms]) -> None:
    config: Any = SMALL
    model, compiled = filled_model(config).train(), Compiled(run)
    for batch in (structures, [*structures, crystal()]):
        atoms = atom_batch(batch, config)
        results = []
        for function in (compiled, run):
            outputs = function(model, atoms, None)
            results.append([*outputs.values(), *gradients(model, outputs)])
        for ours, expected in zip(*results, strict=True):
            torch.testing.assert_close(ours, expected, atol=1e-8, rtol=1e-8)
