"""The host's batches -> `AtomBatch`."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ev2_plugin.graph.edge_graph import sort_by_receiver
from ev2_plugin.graph.neighbors import COINCIDENT, check_finite
from ev2_plugin.graph.structure_error import StructureError, place_of_atom
from ev2_plugin.integration.config import HostOptions
from ev2_plugin.model.batch import AtomBatch, build_batch, check_elements
from ev2_plugin.model.config import ModelConfig


def read_batch(data: Any, config: ModelConfig, options: HostOptions, dtype: torch.dtype) -> AtomBatch:
    """Take what the model needs from a host batch (torch_geometric `Batch`), and leave the batch as it is.

    Args:
        data: Needs `pos` [atoms, 3] (Å), `atomic_numbers` [atoms], `natoms` [structures] and, if periodic, `cell`
            [structures, 3, 3] (Å); `pbc` (three flags per structure) decides each structure's periodicity. Without
            `otf_graph` also `edge_index` [2, edges] (senders, receivers), `cell_offsets` [edges, 3] and `neighbors`
            [structures].
        config: Cutoff, neighbour limit, table size.
        options: `use_pbc` and `otf_graph`.
        dtype: Of the model's parameters.

    Raises:
        StructureError: If a structure is refused by `build_batch`; with its `sid`.
        ValueError: If something is missing.
    """
    positions, natoms = _need(data, "pos"), _need(data, "natoms").reshape(-1)
    atomic_numbers = _need(data, "atomic_numbers").long().reshape(-1)
    if not len(natoms) or not len(positions):
        raise ValueError("the batch holds no atoms")
    pbc = _periodicity(data, options, natoms)
    cells = _need(data, "cell").reshape(-1, 3, 3) if pbc.any() else positions.new_zeros(len(natoms), 3, 3)
    cells = cells.to(positions.dtype)
    try:
        if options.otf_graph:
            atoms = build_batch(atomic_numbers, positions, cells, pbc, natoms, config)
        else:
            check_elements(atomic_numbers, natoms, config.max_num_elements)
            check_finite(positions, natoms)
            with torch.autocast(positions.device.type, enabled=False):  # vectors are geometry, not features
                atoms = AtomBatch(atomic_numbers, natoms, _given_edges(data, positions, cells, natoms))
    except StructureError as error:
        raise error.named(name_in_batch(data, error.place)) from error
    return _cast(atoms, dtype)


def name_in_batch(data: Any, place: int) -> str:
    """How a structure of a batch is called in messages: by its place, and by `sid` and `fid` where there are any."""
    ids = []
    for key in ("sid", "fid"):
        values = getattr(data, key, None)
        if isinstance(values, Tensor):
            values = values.reshape(-1).tolist()
        if isinstance(values, list | tuple) and place < len(values):
            ids.append(f"{key} {values[place]}")
    return f"structure {place} of the batch" + (f" ({', '.join(ids)})" if ids else "")


def _need(data: Any, key: str) -> Tensor:
    value = getattr(data, key, None)
    if value is None:
        raise ValueError(f"the batch has no {key!r}; it has: {', '.join(sorted(data.keys()))}")
    return value


def _periodicity(data: Any, options: HostOptions, natoms: Tensor) -> Tensor:
    """Three flags per structure. Collation concatenates each structure's three flags, hence the reshape."""
    if not options.use_pbc:
        return torch.zeros(len(natoms), 3, dtype=torch.bool, device=natoms.device)
    flags = getattr(data, "pbc", None)
    if flags is None:
        return torch.ones(len(natoms), 3, dtype=torch.bool, device=natoms.device)
    if flags.numel() != 3 * len(natoms):
        raise ValueError(
            f"pbc must hold three flags for each of {len(natoms)} structures, got shape {list(flags.shape)}"
        )
    return flags.reshape(-1, 3).to(dtype=torch.bool, device=natoms.device)


def _given_edges(data: Any, positions: Tensor, cells: Tensor, natoms: Tensor) -> Any:
    senders, receivers = _need(data, "edge_index")
    outside = (data.edge_index < 0) | (data.edge_index >= len(positions))
    if outside.any():
        raise ValueError(
            f"edge_index names atom {int(data.edge_index[outside][0])}, but there are {len(positions)} atoms"
        )
    vectors = positions[senders] - positions[receivers]
    if getattr(data, "cell_offsets", None) is not None:
        neighbors = _need(data, "neighbors").reshape(-1)
        if int(neighbors.sum()) != len(senders):
            raise ValueError(f"neighbors adds up to {int(neighbors.sum())} edges, but edge_index has {len(senders)}")
        whole = torch.isfinite(cells).flatten(1).all(dim=1)
        if not whole.all():
            place = int((~whole).nonzero()[0])
            raise StructureError(place, f"its cell {cells[place].tolist()} must be finite numbers (Å)")
        cell_of_edge = torch.repeat_interleave(cells, neighbors, dim=0)
        offsets = data.cell_offsets.to(positions.dtype).unsqueeze(1)
        vectors = vectors + torch.bmm(offsets, cell_of_edge).squeeze(1)
    short = torch.linalg.vector_norm(vectors, dim=-1) <= COINCIDENT
    if short.any():
        edge = int(short.nonzero()[0])
        (place, one), (_, other) = (place_of_atom(int(ends[edge]), natoms) for ends in (senders, receivers))
        raise StructureError(
            place,
            f"edge {edge} from atom {one} to atom {other} is not longer than {COINCIDENT} Å: atoms must not coincide",
        )
    return sort_by_receiver(senders, receivers, vectors, len(positions))


def _cast(atoms: AtomBatch, dtype: torch.dtype) -> AtomBatch:
    graph = atoms.graph
    if graph.vectors.dtype == dtype:
        return atoms
    cast = type(graph)(graph.senders, graph.receivers, graph.vectors.to(dtype), graph.num_nodes)
    return AtomBatch(atoms.atomic_numbers, atoms.natoms, cast)
