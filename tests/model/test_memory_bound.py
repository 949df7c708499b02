"""The least memory of a pass: never more than what is traced, never much less."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from ev2_plugin.model import presets
from ev2_plugin.model.backbone import Backbone
from ev2_plugin.model.batch import AtomBatch
from ev2_plugin.model.memory_bound import least_memory
from ev2_plugin.model.memory_steps import empty_batch, trace_inference, trace_training, without_data
from ev2_plugin.model.memory_trace import MemoryProfile, unit_at_least
from helpers.structures import TINY

SIZES = ((100_000, 0), (100_000, 2_000_000), (10_000, 1_000_000))


def traced(model: Backbone, training: bool, autocast: torch.dtype | None) -> MemoryProfile:
    """What `model` holds, its edges in parts so small that they do not count."""
    atoms = unit_at_least(50, model)
    edges = unit_at_least(250, model, atoms)
    model.edges_within_memory = lambda dtype: 50  # type: ignore[method-assign]

    def predict(batch: AtomBatch) -> Iterator[Tensor]:
        with torch.autocast("cpu", autocast, enabled=autocast is not None):
            yield model.embed(batch).nodes

    trace = trace_training if training else trace_inference
    return trace(model, predict, lambda: empty_batch(atoms, edges), (atoms, edges))


@pytest.mark.parametrize(
    ("name", "pass_", "autocast"),
    [
        *(("OC20_31M", pass_, None) for pass_ in ("prediction", "none", "edges", "block")),
        ("OC20_31M", "prediction", torch.bfloat16),
        ("OC20_31M", "none", torch.bfloat16),
        ("tiny", "none", None),
    ],
)
def test_the_bound_lies_below_what_is_traced(name: str, pass_: str, autocast: torch.dtype | None) -> None:
    training = pass_ != "prediction"
    config = replace(TINY if name == "tiny" else presets.OC20_31M, num_layers=1)
    with without_data("cpu"):
        model = Backbone(replace(config, activation_checkpoint=pass_ if training else "none"))
        profile = traced(model, training, autocast)
    for atoms, edges in SIZES:
        with torch.set_grad_enabled(training):
            least = least_memory(model, atoms, edges, autocast)
        share = least / profile.peak(atoms, edges)
        assert (0.05 if name == "tiny" else 0.3) < share <= 1.0, (atoms, edges, share)


def test_further_blocks_count_in_training_only() -> None:
    one, three = (Backbone(replace(TINY, num_layers=count)) for count in (1, 3))
    with torch.no_grad():
        assert least_memory(three, 1000, 9000) == least_memory(one, 1000, 9000)
    assert least_memory(three, 1000, 9000) > 2 * least_memory(one, 1000, 9000)
    for parameter in three.parameters():
        parameter.requires_grad_(False)
    assert least_memory(three, 1000, 9000) < least_memory(one, 1000, 9000)  # nothing is kept


def test_edges_in_parts_count_as_much_as_their_memory() -> None:
    small, large = (Backbone(replace(TINY, edge_memory_mb=size)) for size in (1, 1000))
    with torch.no_grad():
        assert least_memory(small, 1, 10**6) < least_memory(large, 1, 10**6)
