"""How far a model's outputs at each precision are from those in float64, on given structures.

All runs have the same weights and the same edges. The reference takes positions, as they are stored, to float64; the
others compute from them as a training or prediction would.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from fairchem.core.models.base import HydraModel
from torch import Tensor, nn
from torch_geometric.data import Batch

from ev2_plugin.integration.backbone import HostModel
from ev2_plugin.integration.reading import read_batch
from ev2_plugin.ops.linear import PRECISIONS, Precision


@dataclasses.dataclass(frozen=True)
class OutputDeviation:
    """Deviations of one output from float64.

    Attributes:
        relative: |output - reference| / |reference|, Euclidean norms over all structures or atoms; nan if the
            reference is zero.
        mean: Mean over structures or atoms of |output - reference| (a vector's length); in eV or eV/Å if the scale was
            given, else as the network predicts.
        largest: The largest of them.
    """

    relative: float
    mean: float
    largest: float


@dataclasses.dataclass(frozen=True)
class PrecisionRow:
    """One precision.

    Attributes:
        precision: Which.
        outputs: Deviations of each output by its name.
    """

    precision: Precision
    outputs: Mapping[str, OutputDeviation]


def available(device: torch.device) -> tuple[Precision, ...]:
    """The precisions that differ on a device: CPUs have no TF32 units, where `high` and `tf32` are `highest`."""
    return PRECISIONS if device.type == "cuda" else ("highest", "bf16")


def deviations(
    make_model: Callable[[Precision], nn.Module],
    batches: Iterable[Batch],
    precisions: Sequence[Precision],
    device: torch.device,
    scales: Mapping[str, float] | None = None,
) -> list[PrecisionRow]:
    """Compare the outputs at each precision with those in float64.

    Args:
        make_model: The model at a precision, float32, with the same weights at every call: a flat `EquiformerV2`, or a
            hydra model over `EquiformerV2Backbone`.
        batches: Host batches.
        precisions: Which to compare.
        device: Where to compute.
        scales: By output, the rmsd of its normaliser; 1 where there is none.

    Returns:
        One row per precision.

    Raises:
        ValueError: If a model is not one of ours, or an output is not finite in float64.
    """
    reference = make_model("highest").double()
    stored = [with_edges(batch, network_of(reference)).to(device) for batch in batches]
    exact = _predict(_ready(reference, device), [_in_float64(batch) for batch in stored])
    for name, value in exact.items():
        if not value.isfinite().all():
            raise ValueError(f"{name} is not finite in float64: there is nothing to compare with")
    del reference
    rows = []
    for precision in precisions:
        actual = _predict(_ready(make_model(precision), device), stored)
        scale = scales or {}
        rows.append(
            PrecisionRow(
                precision, {name: _deviation(actual[name], exact[name], scale.get(name, 1.0)) for name in exact}
            )
        )
    return rows


def network_of(model: nn.Module) -> HostModel:
    """The part of a model that reads structures.

    Raises:
        ValueError: If it is none of ours.
    """
    network = model.backbone if isinstance(model, HydraModel) else model
    if not isinstance(network, HostModel):
        raise ValueError(f"the model is {type(network).__name__}: only those of ev2_plugin have precisions")
    return network


def with_edges(batch: Batch, network: HostModel) -> Batch:
    """A copy of a batch that carries the edges found in float64.

    In float32, neighbours at equal distances may come in another order, and a limit on their number would then take
    other edges: a jump that has nothing to do with arithmetic.
    """
    graph = read_batch(_in_float64(batch), network.config, network.options, torch.float64).graph
    positions, of_edge = batch.pos.double(), batch.batch[graph.receivers]
    edges = batch.clone()
    edges.edge_index = torch.stack((graph.senders, graph.receivers))
    edges.neighbors = torch.bincount(of_edge, minlength=batch.num_graphs)
    if "cell" in batch:
        shifts = graph.vectors - (positions[graph.senders] - positions[graph.receivers])
        inverse = torch.linalg.pinv(batch.cell.double().view(-1, 3, 3))  # structures without periods may have no cell
        edges.cell_offsets = torch.bmm(shifts.unsqueeze(1), inverse[of_edge]).squeeze(1).round()
    return edges


def _in_float64(batch: Batch) -> Batch:
    copy = batch.clone()
    copy.pos = batch.pos.double()
    return copy


def _ready(model: nn.Module, device: torch.device) -> nn.Module:
    """For evaluation, with edges from the batch and the same gauge for all."""
    network = network_of(model)
    network.options = dataclasses.replace(network.options, otf_graph=False)
    network.gauge_generator = None
    return model.to(device).eval()


@torch.no_grad()
def _predict(model: nn.Module, batches: Iterable[Batch]) -> dict[str, Tensor]:
    """All outputs over all batches, [structures or atoms, components] in float64."""
    parts: dict[str, list[Tensor]] = {}
    for batch in batches:
        for name, value in _by_name(model(batch)):
            rows = batch.num_nodes if len(value) == batch.num_nodes else batch.num_graphs  # a stress has three each
            parts.setdefault(name, []).append(value.double().reshape(rows, -1).cpu())
    return {name: torch.cat(values) for name, values in parts.items()}


def _by_name(outputs: Mapping[str, Any]) -> Iterable[tuple[str, Tensor]]:
    """Outputs of hydra models may be filed by head."""
    for name, value in outputs.items():
        if isinstance(value, Mapping):
            yield from value.items()
        else:
            yield name, value


def _deviation(actual: Tensor, exact: Tensor, scale: float) -> OutputDeviation:
    difference = torch.linalg.vector_norm(actual - exact, dim=1)
    norm = float(torch.linalg.vector_norm(exact))
    return OutputDeviation(
        relative=float(torch.linalg.vector_norm(difference)) / norm if norm else float("nan"),
        mean=float(difference.mean()) * scale,
        largest=float(difference.max()) * scale,
    )
