"""Forward time, training-step time and peak memory of ours and the host's EquiformerV2, side by side.

Both run in this process on the same structures with the same weights, and their answers are compared before the
clock starts. Runs alternate between the sides; medians are reported.

Run: python benchmarks/bench_forward_training.py [--model 31M] [--threads 2] [--repeats 5] [--device cpu]
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import logging
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import nn
from torch_geometric.data import Batch

sys.path.insert(0, str(Path(__file__).parent))
from ev2_plugin.graph import NeighborRule
from ev2_plugin.integration.fidelity import batch_with_edges, compare, model_pair
from problems import SHAPES, settings, slab

AGREEMENT = 2e-5
"""Largest relative deviation of energy and forces at which timing makes sense."""


def forward(model: nn.Module, batch: Batch) -> None:
    model.eval()
    with torch.no_grad():
        model(batch.clone())


def training_step(model: nn.Module, batch: Batch, optimizer: torch.optim.Optimizer) -> None:
    model.train()
    out = model(batch.clone())
    loss = out["energy"].abs().mean() + out["forces"].norm(dim=-1).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def seconds(run: Callable[[], None], device: str) -> float:
    start = time.perf_counter()
    run()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def alternating_medians(runs: dict[str, Callable[[], None]], repeats: int, device: str) -> dict[str, float]:
    for run in runs.values():
        run()  # warm-up
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(repeats):
        for name, run in runs.items():
            times[name].append(seconds(run, device))
    return {name: statistics.median(values) for name, values in times.items()}


def peak_megabytes(run: Callable[[], None], device: str) -> float:
    """Memory that one run needs on top of what is held before it."""
    gc.collect()
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        run()
        return (torch.cuda.max_memory_allocated() - before) / 1e6
    ctypes.CDLL("libc.so.6").malloc_trim(0)  # what earlier runs freed goes back to the system first
    Path("/proc/self/clear_refs").write_text("5")  # resets the high-water mark of resident memory
    before = _status_kilobytes("VmRSS")
    run()
    return (_status_kilobytes("VmHWM") - before) / 1e3


def _status_kilobytes(key: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key):
            return int(line.split()[1])
    raise RuntimeError(f"/proc/self/status has no {key}")


def machine(device: str) -> dict[str, Any]:
    names = [l for l in Path("/proc/cpuinfo").read_text().splitlines() if l.startswith("model name")]
    cpu = names[0].split(":")[1].strip() if names else platform.processor()
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    return {
        "device": torch.cuda.get_device_name() if device == "cuda" else f"{cpu}, {torch.get_num_threads()} threads",
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "commit": commit.stdout.strip(),
    }


def measure(model: str, device: str, repeats: int) -> dict[str, Any]:
    torch.manual_seed(0)
    host, ours = model_pair(settings(model), torch.float32, scale=1.0)
    batch = batch_with_edges([slab()], NeighborRule(12.0, 20), torch.float32).to(device)
    models = {"host": host.to(device), "ours": ours.to(device)}
    agreement = compare(host, ours, batch).outputs
    if max(agreement.values()) > AGREEMENT:
        raise RuntimeError(f"the two sides disagree, timing them would mean nothing: {agreement}")
    optimizers = {name: torch.optim.AdamW(m.parameters(), lr=1e-6) for name, m in models.items()}
    forwards = {name: lambda m=m: forward(m, batch) for name, m in models.items()}
    steps = {name: lambda m=m, name=name: training_step(m, batch, optimizers[name]) for name, m in models.items()}

    results: dict[str, Any] = {"model": model, "atoms": int(batch.natoms.sum()), "edges": batch.edge_index.shape[1]}
    results["agreement"] = agreement
    results["forward_s"] = alternating_medians(forwards, repeats, device)
    results["training_step_s"] = alternating_medians(steps, repeats, device)
    results["forward_peak_mb"] = {name: peak_megabytes(run, device) for name, run in forwards.items()}
    results["training_peak_mb"] = {name: peak_megabytes(run, device) for name, run in steps.items()}
    for name in ("forward_s", "training_step_s", "forward_peak_mb", "training_peak_mb"):
        results[f"{name.rsplit('_', 1)[0]}_ratio"] = results[name]["host"] / results[name]["ours"]
    return results


def show(results: dict[str, Any], where: str) -> None:
    table = Table(title=f"EquiformerV2 {results['model']}, {results['atoms']} atoms, {results['edges']} edges; {where}")
    for column in ("", "host", "ours", "host / ours"):
        table.add_column(column, justify="right" if column else "left")
    labels = {
        "forward_s": "forward, s", "training_step_s": "training step, s",
        "forward_peak_mb": "forward peak, MB", "training_peak_mb": "training peak, MB",
    }  # fmt: skip
    for key, label in labels.items():
        host, ours = results[key]["host"], results[key]["ours"]
        table.add_row(label, f"{host:.3g}", f"{ours:.3g}", f"{host / ours:.2f}")
    Console().print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=sorted(SHAPES), default="31M")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--out", type=Path, help="JSON file to write")
    args = parser.parse_args()
    logging.disable(logging.WARNING)
    torch.set_num_threads(args.threads)
    results = {**measure(args.model, args.device, args.repeats), "machine": machine(args.device)}
    show(results, results["machine"]["device"])
    if args.out:
        args.out.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
