"""Time from positions to energy and forces for one structure of 80 atoms, neighbour search included.

Run: python benchmarks/bench_latency.py [--device cuda] [--threads 2]
"""

from __future__ import annotations

from functools import partial

import torch
from torch_geometric.data import Batch

from ev2_plugin.integration.fidelity import batch_with_edges
from ev2_plugin.integration.pairing import HOST, OURS, Contender, Setting, check, contenders, runs
from ev2_plugin.integration.timing import alternating
from harness import ResultFile, arguments, each, prepare, result_file
from problems import RULE, eighty_atoms, settings, slab

NAME = "latency"
QUESTION = "How long does one structure of 80 atoms take, from positions to energy and forces?"
IDENTITY = ("model",)

SETTINGS = {
    "cpu": {"host": HOST, "ours": OURS},
    "cuda": {
        "host": HOST,
        "host, fp16": Setting(None, torch.float16),
        "ours": OURS,
        "ours, high": Setting({"precision": "high"}),
        "ours, tf32": Setting({"precision": "tf32"}),
        "ours, compiled": Setting({"compile": True}),
        "ours, CUDA graph": Setting({"cuda_graph_atoms": 128}),
        "ours, high, CUDA graph": Setting({"precision": "high", "cuda_graph_atoms": 128}),
    },
}
MODELS = {"cpu": ("31M",), "cuda": ("31M", "83M", "153M")}
REPEATS = {"cpu": 5, "cuda": 30}


def measure(model: str, device: str, file: ResultFile, *, small: bool = False) -> None:
    """Compare, then time, one model."""
    atoms = slab(2) if small else eighty_atoms()
    batch = positions_only(batch_with_edges([atoms], RULE, torch.float32)).to(device)
    found = contenders(settings(model, small=small, otf_graph=True), SETTINGS[device], device)
    agreement = check(found, batch, gradients=False)
    forward = runs(found, Contender.infer, batch)
    row = {
        "model": model,
        "atoms": len(atoms),
        "compared_with": agreement.reference,
        "agreement": agreement.deviations,
        "seconds": alternating(forward, 2 if small else REPEATS[device], device),
    }
    if device == "cuda":
        row["waits_for_device"] = {name: waits(found[name], batch) for name in found if name.startswith("ours")}
    file.add(row)


def positions_only(batch: Batch) -> Batch:
    """The same structures without their edges: each side finds its own."""
    for key in ("edge_index", "cell_offsets", "neighbors"):
        delattr(batch, key)
    return batch


def waits(contender: Contender, batch: Batch) -> str | None:
    """Where a model, its edges given, first waits for the device in the way it is run; None if it does not."""
    model = contender.model
    atoms, gauge = model.read(batch.clone())
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        with torch.no_grad():
            model.run(model, atoms, gauge)
    except RuntimeError as error:
        if "synchronizing" not in str(error):
            raise
        return str(error).splitlines()[0]
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return None


def main(argv: list[str] | None = None) -> None:
    args = arguments(__doc__ or "", NAME).parse_args(argv)
    prepare(args)
    file = result_file(args, NAME, QUESTION, IDENTITY)
    models = ("31M",) if args.smoke else MODELS[args.device]
    each({f"{model}, one structure": partial(measure, model, args.device, file, small=args.smoke) for model in models})


if __name__ == "__main__":
    main()
