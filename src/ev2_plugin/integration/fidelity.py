"""How far our numbers are from the host's, with equal weights, structures, edges and edge frames.

The host draws a random turn about every edge at every call; its outputs vary with that turn by the error of the
sphere grid. To compare functions rather than noise, its edge frames are pinned to ours while a comparison runs.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from ase import Atoms
from fairchem.core.models.base import HydraModel
from fairchem.core.models.equiformer_v2 import equiformer_v2, equiformer_v2_deprecated
from fairchem.core.models.equiformer_v2.heads import rank2, scalar, vector  # noqa: F401  they register themselves
from fairchem.core.models.equiformer_v2.so3 import SO3_Rotation
from torch import Tensor, nn
from torch_geometric.data import Batch, Data

from ev2_plugin.graph.neighbors import NeighborRule, radius_graph
from ev2_plugin.integration.backbone import EquiformerV2
from ev2_plugin.integration.stand_ins import our_hydra_settings
from ev2_plugin.so3.edge_frame import edge_frames
from ev2_plugin.so3.layout import CoefficientLayout

ZERO_GRADIENT = "sphharm_norm.norm_l0.weight"
"""A layer norm over one channel returns its bias: this parameter's gradient is zero, what appears is rounding."""


@dataclasses.dataclass(frozen=True)
class Deviation:
    """Largest relative deviations |ours - host's| / |host's| of one comparison.

    Attributes:
        outputs: Of each predicted property over the whole batch (Euclidean norms).
        gradients: Of each parameter's gradient (Euclidean norms). A gradient smaller than 1e-6 of the largest one
            is measured against that bound instead: some are zero but for rounding.
    """

    outputs: dict[str, float]
    gradients: dict[str, float]

    @property
    def worst_gradient(self) -> float:
        """The largest of the parameters'."""
        return max(self.gradients.values())


@contextmanager
def pinned_frames(*, wigner: bool = False) -> Iterator[None]:
    """Let the host's models use our edge frames (gauge 0).

    Args:
        wigner: Take the Wigner matrices from us as well. The host computes them from angles by arc cosine, which
            in float32 costs accuracy for edges near +-y.
    """
    modules = (equiformer_v2, equiformer_v2_deprecated)
    frames, matrices = [module.init_edge_rot_mat for module in modules], SO3_Rotation.RotationToWignerDMatrix

    def our_frames(vectors: Tensor) -> Tensor:
        # the rows of degree 1 come as m = 0, +1, -1, that is y, z, x
        return edge_frames(vectors, CoefficientLayout(1, 1)).into[:, [3, 1, 2], 1:]

    def our_wigner(self: Any, rotations: Tensor, start_lmax: int, end_lmax: int) -> Tensor:
        layout = CoefficientLayout(end_lmax, end_lmax)
        into = edge_frames(rotations[:, 1], layout).into
        degree_major = torch.empty_like(into)
        degree_major[:, list(layout.kept)] = into
        return degree_major

    for module in modules:
        module.init_edge_rot_mat = our_frames
    if wigner:
        SO3_Rotation.RotationToWignerDMatrix = our_wigner
    try:
        yield
    finally:
        for module, original in zip(modules, frames, strict=True):
            module.init_edge_rot_mat = original
        SO3_Rotation.RotationToWignerDMatrix = matrices


def batch_with_edges(structures: Sequence[Atoms], rule: NeighborRule, dtype: torch.dtype) -> Batch:
    """A host batch that carries our edges, so that both sides have the very same ones.

    Positions and cells are rounded to multiples of 2^-16 Å: the host adds up periodic offsets in float32 whatever
    the dtype, and this makes that sum exact.

    Args:
        structures: Structures, all periodic in three directions (the host takes no other batch).
        rule: Cutoff and neighbour limit.
        dtype: Of positions and cells.
    """
    samples = []
    for atoms in structures:
        positions, cell = (
            (torch.tensor(values) * 2**16).round().div(2**16).to(dtype)
            for values in (atoms.positions, atoms.cell.array)
        )
        graph = radius_graph(positions, cell.unsqueeze(0), torch.tensor([[True] * 3]), torch.tensor([len(atoms)]), rule)
        shifts = graph.vectors - (positions[graph.senders] - positions[graph.receivers])
        samples.append(
            Data(
                pos=positions,
                cell=cell.unsqueeze(0),
                atomic_numbers=torch.tensor(atoms.numbers),
                natoms=len(atoms),
                tags=torch.zeros(len(atoms), dtype=torch.long),
                edge_index=torch.stack((graph.senders, graph.receivers)),
                cell_offsets=torch.round(shifts @ torch.linalg.inv(cell)),
                neighbors=len(graph.senders),
            )
        )
    return Batch.from_data_list(samples)


def model_pair(settings: Mapping[str, Any], dtype: torch.dtype, scale: float = 1.6) -> tuple[nn.Module, nn.Module]:
    """The host's model and ours with the same weights, large enough to drive the activations out of linearity.

    Args:
        settings: The model section of a YAML file: flat (the official keys) or hydra (`backbone` and `heads`).
        dtype: Of the parameters. float64 works for the host only while it is torch's default dtype.
        scale: Factor on the initial weights.
    """
    if "backbone" in settings:
        host, ours = HydraModel(**settings), HydraModel(**our_hydra_settings(settings))
    else:
        host, ours = equiformer_v2_deprecated.EquiformerV2(**settings), EquiformerV2(**settings)
    host, ours = host.to(dtype), ours.to(dtype)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in host.parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.mul_(scale).add_(0.02 * noise.to(dtype))
    ours.load_state_dict(host.state_dict(), strict=True)
    return host.eval(), ours.eval()


def compare(host: nn.Module, ours: nn.Module, batch: Batch, *, wigner: bool = False) -> Deviation:
    """Deviation of outputs, and of the gradients of a fixed random function of them.

    Args:
        host: The host's model.
        ours: Ours, with the same weights.
        batch: From `batch_with_edges`.
        wigner: See `pinned_frames`.
    """
    with pinned_frames(wigner=wigner):
        expected = _flatten(host(batch.clone()))
    actual = _flatten(ours(batch.clone()))
    outputs = {name: relative(actual[name].detach(), value.detach()) for name, value in expected.items()}
    return Deviation(outputs, _gradient_deviation(host, expected, ours, actual))


def relative(actual: Tensor, expected: Tensor, floor: float = 0.0) -> float:
    """|actual - expected| / max(|expected|, floor)."""
    return float((actual.reshape(expected.shape) - expected).norm()) / max(float(expected.norm()), floor)


def _gradient_deviation(
    host: nn.Module, expected: dict[str, Tensor], ours: nn.Module, actual: dict[str, Tensor]
) -> dict[str, float]:
    def gradients(model: nn.Module, outputs: dict[str, Tensor]) -> dict[str, Tensor]:
        generator = torch.Generator().manual_seed(2)
        terms = []
        for name in sorted(outputs):
            value = outputs[name].flatten()
            weight = torch.rand(value.shape, generator=generator, dtype=torch.float64).to(value) + 0.5
            terms.append((weight * (value + value.square())).sum())
        loss = torch.stack(terms).sum()
        named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
        grads = torch.autograd.grad(loss, [p for _, p in named], allow_unused=True)
        return {n: torch.zeros_like(p) if g is None else g for (n, p), g in zip(named, grads, strict=True)}

    theirs, mine = gradients(host, expected), gradients(ours, actual)
    floor = 1e-6 * max(float(gradient.norm()) for gradient in theirs.values())
    return {name: relative(mine[name], theirs[name], floor) for name in theirs if not name.endswith(ZERO_GRADIENT)}


def _flatten(outputs: Mapping[str, Any]) -> dict[str, Tensor]:
    flat: dict[str, Tensor] = {}
    for name, value in outputs.items():
        flat.update(value if isinstance(value, Mapping) else {name: value})
    return flat
