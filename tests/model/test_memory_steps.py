"""Memory foretold without data against that of real steps, counted storage by storage."""

from collections.abc import Iterable
from dataclasses import replace

import pytest
import torch
from ase.build import fcc111
from torch import Tensor

from ev2_plugin.model.batch import AtomBatch, build_batch
from ev2_plugin.model.config import ActivationCheckpoint, ModelConfig
from ev2_plugin.model.equiformer_v2 import EquiformerV2
from ev2_plugin.model.memory_steps import empty_batch, trace_inference, trace_training, without_data
from ev2_plugin.model.memory_trace import MemoryProfile, unit_at_least
from ev2_plugin.ops.chunks import CHUNK_BYTES
from ev2_plugin.so3.tables import index_table

CONFIG = ModelConfig(
    avg_num_nodes=30.0, avg_degree=12.0, lmax=2, mmax=1, num_layers=1, sphere_channels=32, attn_hidden_channels=16,
    num_heads=2, attn_alpha_channels=8, attn_value_channels=8, ffn_hidden_channels=32, grid_resolution=8,
    edge_channels=32, num_radial_basis=64, max_radius=6.0, max_neighbors=12, norm_type="layer_norm_sh",
    use_grid_mlp=True,
)  # fmt: skip


def slab(side: int) -> AtomBatch:
    atoms = fcc111("Cu", (side, side, 3), vacuum=8.0, periodic=True)
    return build_batch(
        torch.tensor(atoms.numbers),
        torch.tensor(atoms.positions, dtype=torch.float32),
        torch.tensor(atoms.cell.array, dtype=torch.float32)[None],
        torch.tensor(atoms.pbc)[None],
        torch.tensor([len(atoms)]),
        CONFIG,
    )


def profile(
    config: ModelConfig, atoms: int, edges: int, training: bool, real: AtomBatch | None = None
) -> MemoryProfile:
    """Of a model and structures without data, or of a real step."""
    model = EquiformerV2(config)

    def predict(batch: AtomBatch) -> Iterable[Tensor]:
        return model.predict(batch).values()

    if real is None:
        atoms = unit_at_least(atoms, model)
        edges = unit_at_least(edges, model, atoms)
    follow = trace_training if training else trace_inference
    return follow(model, predict, lambda: real or empty_batch(atoms, edges), (atoms, edges))


@pytest.mark.parametrize(("level", "training"), [("none", True), ("edges", True), ("block", True), ("none", False)])
def test_a_real_step_takes_what_is_foretold(level: ActivationCheckpoint, training: bool) -> None:
    config = replace(CONFIG, activation_checkpoint=level)
    with without_data("cpu"):
        foretold = profile(config, 100, 600, training)
    for side in (5, 6):
        real = slab(side)
        atoms, edges = len(real.atomic_numbers), len(real.graph.senders)
        measured = profile(config, atoms, edges, training, real).peak(atoms, edges)
        print(level, training, atoms, foretold.peak(atoms, edges) / measured)
        assert foretold.peak(atoms, edges) == pytest.approx(measured, rel=0.05)


def test_small_parts_of_the_edges_take_less() -> None:
    peaks = []
    for megabytes in (1, 1024):
        with without_data("cuda"):  # whose large chunks are followed faster
            peaks.append(profile(replace(CONFIG, edge_memory_mb=megabytes), 400, 4800, training=False).peak(400, 4800))
    assert peaks[0] < 0.8 * peaks[1]


def test_accumulated_gradients_live_through_the_step() -> None:
    with without_data("cuda"):
        model = EquiformerV2(CONFIG)
        weights = 4 * sum(parameter.numel() for parameter in model.parameters())
        peaks = [
            trace_training(
                model, lambda atoms: model.predict(atoms).values(), lambda: empty_batch(997, 9973), (997, 9973),
                accumulate=accumulate,
            ).peak(997, 9973)
            for accumulate in (False, True)
        ]  # fmt: skip
    assert 0.5 * weights < peaks[1] - peaks[0] <= weights


def test_nothing_without_data_is_left_behind() -> None:
    budget, before = dict(CHUNK_BYTES), index_table((1, 2, 3), torch.device("cpu"))
    with without_data("cuda"):
        assert CHUNK_BYTES["cpu"] == budget["cuda"]
        index_table((1, 2, 3), torch.device("cpu"))
        profile(CONFIG, 100, 300, training=False)
    assert budget == CHUNK_BYTES
    assert index_table((1, 2, 3), torch.device("cpu")).tolist() == before.tolist()
    assert torch.isfinite(EquiformerV2(CONFIG).predict(slab(2))["energy"]).all()
