"""Time and memory of the neighbour search of ours and the host's over the number of atoms.

Slabs of copper, 12 Å, 20 neighbours, from positions to edges. The edges are compared, with and without the strict
limit, before anything is timed; the host compares all pairs and leaves where its memory would run out.

Run: python benchmarks/bench_neighbors.py [--device cuda] [--threads 2]
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from ase import Atoms
from fairchem.core.common.utils import radius_graph_pbc
from rich.console import Console
from torch import Tensor
from torch_geometric.data import Data

from ev2_plugin.graph import EdgeGraph, NeighborRule, radius_graph
from ev2_plugin.integration.timing import Run, alternating, require_agreement
from harness import arguments, available_megabytes, peak_megabytes, prepare, result_file
from performance_tables import comparisons
from problems import RULE, slab

NAME = "neighbors"
QUESTION = "How long does the search for neighbours take, and how does it grow with the atoms?"
IDENTITY = ("atoms",)

SIZES = ((4, 4), (7, 4), (16, 4), (22, 4), (50, 4), (100, 10))  # side and layers: 66 to 100,002 atoms
SMOKE = ((2, 2), (3, 3))
METHODS = {"cpu": {"ours": "auto", "ours, cell list": "cell_list"}, "cuda": {"ours": "auto"}}
REPEATS = 7
HOST_SECONDS = 60.0
SHARE_OF_MEMORY = 0.7


def structure(atoms: Atoms, device: str) -> dict[str, Tensor]:
    """What both sides read."""
    atoms.wrap()  # the host misses images of atoms far outside their cell
    return {
        "pos": torch.tensor(atoms.positions, dtype=torch.float32, device=device),
        "cell": torch.tensor(atoms.cell.array, dtype=torch.float32, device=device).unsqueeze(0),
        "pbc": torch.tensor(atoms.pbc, device=device).unsqueeze(0),
        "natoms": torch.tensor([len(atoms)], device=device),
    }


def host(system: dict[str, Tensor], rule: NeighborRule) -> tuple[Tensor, Tensor, Tensor]:
    return radius_graph_pbc(Data(**system), rule.cutoff, rule.max_neighbors, enforce_max_neighbors_strictly=rule.strict)


def ours(system: dict[str, Tensor], rule: NeighborRule, method: str) -> EdgeGraph:
    return radius_graph(system["pos"], system["cell"], system["pbc"], system["natoms"], rule, method)


def edges_that_differ(system: dict[str, Tensor], rule: NeighborRule, method: str) -> float:
    """Share of the host's edges (sender, receiver, image) that are not ours, or ours that are not the host's."""
    edge_index, images, _ = host(system, rule)
    expected = set(map(tuple, torch.cat((edge_index.T, images.long()), dim=1).tolist()))
    graph = ours(system, rule, method)
    offsets = graph.vectors - system["pos"][graph.senders] + system["pos"][graph.receivers]
    images = (offsets @ torch.linalg.inv(system["cell"][0])).round().long()
    found = torch.cat((torch.stack((graph.senders, graph.receivers), dim=1), images), dim=1)
    return len(expected ^ set(map(tuple, found.tolist()))) / len(expected)


def measure(side: int, layers: int, previous: Mapping[str, Any] | None, device: str, repeats: int) -> dict[str, Any]:
    """Compare, then time, one slab; the host only if the size before says that it can."""
    system = structure(slab(side, layers), device)
    atoms = len(system["pos"])
    row: dict[str, Any] = {"atoms": atoms, "agreement": {}, "skipped": {}}
    methods = METHODS[device]
    runs: dict[str, Run] = {name: partial(ours, system, RULE, method) for name, method in methods.items()}
    why = reason_to_skip(previous, atoms, device)
    if why:
        row["skipped"]["host"] = why
    else:
        runs = {"host": partial(host, system, RULE), **runs}
        row["compared_with"] = "host"
        row["agreement"] = require_agreement(
            {
                f"{name}, {'strict' if strict else 'loose'}": edges_that_differ(
                    system, replace(RULE, strict=strict), method
                )
                for name, method in methods.items()
                for strict in (True, False)
            },
            limit=0.0,
        )
    row["edges"] = len(ours(system, RULE, "auto").senders)
    row["peak_mb"] = {name: peak_megabytes(run, device) for name, run in runs.items()}
    row["seconds"] = alternating(runs, repeats, device, warm=True)
    return row


def reason_to_skip(previous: Mapping[str, Any] | None, atoms: int, device: str) -> str | None:
    """Why the host is not worth trying, judged by the size before: its cost grows with the square."""
    if previous is None:
        return None
    if "host" in previous["skipped"]:
        return previous["skipped"]["host"]
    factor = (atoms / previous["atoms"]) ** 2
    memory, free = factor * previous["peak_mb"]["host"], available_megabytes(device)
    if memory > SHARE_OF_MEMORY * free:
        return f"would need about {memory / 1e3:.3g} GB, {free / 1e3:.3g} GB were free"
    duration = factor * previous["seconds"]["host"]["median"]
    return f"would take about {duration:.3g} s" if duration > HOST_SECONDS else None


def main() -> None:
    args = arguments(__doc__ or "", NAME).parse_args()
    prepare(args)
    file = result_file(args, NAME, QUESTION, IDENTITY)
    row: dict[str, Any] | None = None
    rows = []
    for side, layers in SMOKE if args.smoke else SIZES:
        Console().print(f"{side * side * layers + 2} atoms")
        row = measure(side, layers, row, args.device, 2 if args.smoke else REPEATS)
        file.add(row)
        rows.append(row)
    Console().print(comparisons({"rows": rows}), markup=False)


if __name__ == "__main__":
    main()
