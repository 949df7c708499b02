"""Replay in fixed memory, with a stand-in for CUDA graphs that spoils whatever must not be read again."""

import copy
import logging
import pickle
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from ev2_plugin.model import replay as module
from ev2_plugin.model.batch import AtomBatch
from ev2_plugin.model.equiformer_v2 import EquiformerV2
from ev2_plugin.model.padding import Capacity, rounded_capacity
from ev2_plugin.model.replay import GraphReplay, Outputs
from helpers.models import fill_by_name, filled_model
from helpers.structures import TINY, assorted, atom_batch, crystal, molecule, single_atom, slab, two_far_atoms


def spoil(tensors: Sequence[Tensor]) -> None:
    for tensor in tensors:
        tensor.fill_(torch.nan if tensor.is_floating_point() else -(2**40))


class Rerun:
    """Does the work again on the same inputs, returns it in the same memory, and spoils the inputs afterwards."""

    made = 0

    def __init__(self) -> None:
        type(self).made += 1

    def __call__(self, function: Callable[..., Outputs], inputs: Sequence[Tensor]) -> Callable[[], Outputs]:
        memory = {name: torch.empty_like(value) for name, value in function(*inputs).items()}
        spoil(inputs)

        def replay() -> Outputs:
            for name, value in function(*inputs).items():
                memory[name].copy_(value)
            spoil(inputs)
            return memory

        return replay


def run(model: nn.Module, atoms: AtomBatch, gauge: Tensor | None) -> Outputs:
    assert isinstance(model, EquiformerV2)
    return model.predict(atoms, gauge)


def replayed(largest: int = 200) -> GraphReplay:
    return GraphReplay(run, {"energy": "structures", "forces": "atoms"}, largest, Rerun)


def assert_close(ours: Outputs, expected: Outputs) -> None:
    assert list(ours) == list(expected)
    for name in ours:
        torch.testing.assert_close(ours[name], expected[name], atol=1e-12, rtol=1e-12)


BATCHES = [
    [slab()], [molecule()], [slab(), molecule()], [crystal()], [single_atom()], [two_far_atoms()] * 2, assorted(),
    [molecule(), single_atom()], [slab()], [crystal()] * 5, [molecule()] * 2,
]  # fmt: skip


@torch.no_grad()
def test_equal_to_plain_prediction_in_any_order() -> None:
    model, graphs = filled_model(TINY), replayed()
    results = [(graphs(model, atom_batch(batch)), run(model, atom_batch(batch), None)) for batch in BATCHES]
    for ours, expected in results:
        assert_close(ours, expected)
    assert 1 < len(graphs.recordings) < len(BATCHES)


@torch.no_grad()
def test_gauge() -> None:
    model, graphs, atoms = filled_model(TINY), replayed(), atom_batch(slab())
    turns = [torch.rand(len(atoms.graph.senders), dtype=torch.float64) * 6 for _ in range(2)]
    outputs = [graphs(model, atoms, turn) for turn in (*turns, None)]
    for ours, turn in zip(outputs, (*turns, None), strict=True):
        assert_close(ours, run(model, atoms, turn))
    assert not torch.equal(outputs[0]["forces"], outputs[1]["forces"])


@torch.no_grad()
def test_changes_of_weights_in_place_are_seen_without_recording_anew() -> None:
    model, graphs, atoms = filled_model(TINY), replayed(), atom_batch(slab())
    before = graphs(model, atoms)
    recording = next(iter(graphs.recordings.values()))
    fill_by_name(model, scale=0.5)
    changed = graphs(model, atoms)
    model.load_state_dict(filled_model(TINY).state_dict())
    restored = graphs(model, atoms)
    assert next(iter(graphs.recordings.values())) is recording
    assert_close(restored, before)
    assert not torch.allclose(changed["forces"], before["forces"])


def move(model: EquiformerV2) -> None:
    model.to(torch.float32).to(torch.float64)


def assign(model: EquiformerV2) -> None:
    model.load_state_dict(fill_by_name(filled_model(TINY), 0.5).state_dict(), assign=True)


def swap(model: EquiformerV2) -> None:
    model.blocks[1].ffn.so3_linear_1.weight = nn.Parameter(model.blocks[1].ffn.so3_linear_1.weight * 0.5)


@torch.no_grad()
@pytest.mark.parametrize("change", [move, assign, swap])
def test_weights_elsewhere_make_recordings_worthless(change: Callable[[EquiformerV2], None]) -> None:
    model, graphs = filled_model(TINY), replayed()
    batches = [atom_batch(slab()), atom_batch(molecule())]
    for atoms in batches:
        graphs(model, atoms)
    assert len(graphs.recordings) == 2
    change(model)
    assert_close(graphs(model, batches[0]), run(model, batches[0], None))
    assert len(graphs.recordings) == 1  # those of the other capacity went with their weights


@torch.no_grad()
def test_precision_has_its_own_recordings() -> None:
    model, graphs = filled_model(TINY, torch.float32), replayed()
    atoms = atom_batch(slab(), TINY, torch.float32)
    graphs(model, atoms)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = graphs(model, atoms)
        expected = run(model, atoms, None)
    assert len(graphs.recordings) == 2
    torch.testing.assert_close(half["forces"], expected["forces"], atol=2e-2, rtol=2e-2)
    assert not torch.equal(half["forces"], graphs(model, atoms)["forces"])


@torch.no_grad()
def test_large_batches_run_unrecorded_and_say_so_once(caplog: pytest.LogCaptureFixture) -> None:
    model, graphs = filled_model(TINY), replayed(largest=9)
    with caplog.at_level(logging.INFO):
        for batch in ([slab()], [slab(), molecule()], [molecule()]):
            assert_close(graphs(model, atom_batch(batch)), run(model, atom_batch(batch), None))
    assert [record.message for record in caplog.records] == [
        "batches of more than 9 atoms or 815286 padded edges are not replayed; this one has 10 and 91"
    ]
    assert len(graphs.recordings) == 1


@torch.no_grad()
def test_batches_taken_in_parts_run_unrecorded() -> None:
    model, graphs = filled_model(replace(TINY, edge_memory_mb=1)), replayed(1000)
    crystals = atom_batch([crystal()] * 41)
    capacity = rounded_capacity(crystals)
    assert len(crystals.graph.senders) < model.edges_within_memory(torch.float64) < capacity.edges
    assert_close(graphs(model, crystals), run(model, crystals, None))
    assert not graphs.recordings


def test_inference_mode_and_no_grad_take_turns() -> None:
    model, graphs, atoms = filled_model(TINY), replayed(), atom_batch(slab())
    for mode in (torch.inference_mode, torch.no_grad, torch.inference_mode):
        with mode():
            assert_close(graphs(model, atoms), run(model, atoms, None))
    assert len(graphs.recordings) == 1


@torch.no_grad()
def test_the_recording_not_used_for_longest_makes_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "KEPT_RECORDINGS", 2)
    model, graphs = filled_model(TINY), replayed()
    for batch in (slab(), molecule(), slab(), crystal()):
        graphs(model, atom_batch(batch))
    kept = [key[0] for key in graphs.recordings]
    assert kept == [rounded_capacity(atom_batch(slab())), rounded_capacity(atom_batch(crystal()))]


@torch.no_grad()
def test_a_capacity_too_small_is_an_error_not_a_shorter_result(monkeypatch: pytest.MonkeyPatch) -> None:
    model, graphs = filled_model(TINY), replayed()
    monkeypatch.setattr(module, "rounded_capacity", lambda atoms: Capacity(11, 12, 2))
    with pytest.raises(ValueError, match="does not fit a capacity of 11, 12 and 2"):
        graphs(model, atom_batch(slab()))


@torch.no_grad()
def test_copies_and_pickles_record_anew() -> None:
    model, graphs, atoms = filled_model(TINY), replayed(), atom_batch(slab())
    graphs(model, atoms)
    for other in (copy.deepcopy(graphs), pickle.loads(pickle.dumps(graphs))):
        assert not other.recordings
        assert_close(other(model, atoms), run(model, atoms, None))


@torch.no_grad()
def test_one_recorder_serves_all_capacities(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Rerun, "made", 0)
    model, graphs = filled_model(TINY), replayed()
    assert Rerun.made == 0
    for batch in BATCHES[:3]:
        graphs(model, atom_batch(batch))
    assert Rerun.made == 1


@pytest.mark.gpu
@torch.no_grad()
@pytest.mark.parametrize("amp", [False, True])
def test_cuda_graphs(amp: bool) -> None:
    config = replace(TINY, lmax=4, mmax=2, sphere_channels=32, grid_resolution=None)
    model = filled_model(config, torch.float32).cuda()
    graphs = GraphReplay(run, {"energy": "structures", "forces": "atoms"}, 200)
    tolerance = 2e-2 if amp else 1e-4
    with torch.autocast("cuda", dtype=torch.bfloat16, enabled=amp):
        for _ in range(2):
            for batch in BATCHES:
                atoms = on_gpu(atom_batch(batch, config, torch.float32))
                ours, expected = graphs(model, atoms), run(model, atoms, None)
                for name in expected:
                    scale = float(expected[name].abs().max()) + 1e-6
                    torch.testing.assert_close(ours[name], expected[name], atol=tolerance * scale, rtol=0)
            fill_by_name(model, scale=0.8)


def on_gpu(atoms: AtomBatch) -> AtomBatch:
    graph = atoms.graph
    moved = type(graph)(graph.senders.cuda(), graph.receivers.cuda(), graph.vectors.cuda(), graph.num_nodes)
    return AtomBatch(atoms.atomic_numbers.cuda(), atoms.natoms.cuda(), moved)
