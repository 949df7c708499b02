"""Peak memory as `ev2 estimate` predicts it, and as it is measured: 31M, training at every level and inference.

The model stands alone, without the trainer's averages and exchanged gradients. Measured is what a step needs on top of
what is held before it (parameters, the optimiser's state, old gradients), whose size is known.

Run: python benchmarks/bench_estimate.py [--device cuda] [--threads 2] [--only none edges block inference]
"""

from __future__ import annotations

from typing import Any

import torch
from rich.console import Console

from ev2_plugin.integration.backbone import EquiformerV2
from ev2_plugin.integration.estimate import LEVELS, Tracer, Use
from ev2_plugin.integration.fidelity import batch_with_edges
from ev2_plugin.integration.host_classes import only_needed_imports
from harness import arguments, peak_megabytes, prepare, result_file
from problems import RULE, settings, slab

NAME = "estimate"
QUESTION = "How far is the predicted peak memory from the measured one (31M, 66-atom slabs)?"
IDENTITY = ("model", "use", "structures")
BATCHES = {"cpu": (1, 2, 4), "cuda": (1, 4, 16, 64)}
INFERENCE = "inference"


def tracer(model: dict[str, Any], use: Use, device: str) -> Tracer:
    config = {"model": {"name": "ev2_plugin.EquiformerV2", **model}, "optim": {"optimizer": "AdamW"}}
    with only_needed_imports(config):
        return Tracer(config, use, device, alone=True)


def measure(network: EquiformerV2, follow: Tracer, use: Use, structures: int, device: str) -> dict[str, Any]:
    """Predicted and measured bytes, all and without what is held before the step; in megabytes."""
    batch = batch_with_edges([slab()] * structures, RULE, torch.float32).to(device)
    held, atoms, edges = follow.held.total, len(batch.pos), batch.edge_index.shape[1]
    predicted = follow.profile(atoms, edges).peak(atoms, edges) / 1e6
    if use.training:
        optimizer = torch.optim.AdamW(network.parameters(), lr=0.0)
        held += follow.held.gradients

        def run() -> None:
            out = network(batch)
            loss = out["energy"].abs().mean() + out["forces"].norm(dim=-1).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    else:
        network.eval()
        run = torch.no_grad()(lambda: network(batch))
    run()  # makes the optimiser's state and old gradients
    step = peak_megabytes(run, device)
    held_mb = held / 1e6
    return {
        "atoms": atoms,
        "edges": edges,
        "predicted_mb": predicted,
        "measured_mb": held_mb + step,
        "ratio": predicted / (held_mb + step),
        "predicted_step_mb": predicted - held_mb,
        "measured_step_mb": step,
        "ratio_step": (predicted - held_mb) / step,
    }


def main(argv: list[str] | None = None) -> None:
    parser = arguments(__doc__ or "", NAME)
    parser.add_argument("--only", nargs="+", choices=(*LEVELS, INFERENCE), default=(*LEVELS, INFERENCE))
    args = parser.parse_args(argv)
    prepare(args)
    file = result_file(args, NAME, QUESTION, IDENTITY)
    for name in args.only:
        use = Use(name != INFERENCE, "none" if name == INFERENCE else name)
        model = settings("31M", small=args.smoke, activation_checkpoint=use.level)
        follow = tracer(model, use, args.device)
        network = EquiformerV2(**model).to(args.device)
        for structures in (1, 2) if args.smoke else BATCHES[args.device]:
            row = {"model": "31M", "use": name, "structures": structures}
            row |= measure(network, follow, use, structures, args.device)
            file.add(row)
            Console().print(
                f"{name}, {structures} structures: predicted {row['predicted_mb']:.0f} MB, measured "
                f"{row['measured_mb']:.0f} MB, ratio {row['ratio']:.3f}, of the step alone {row['ratio_step']:.3f}"
            )


if __name__ == "__main__":
    main()
