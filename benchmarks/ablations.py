"""The five rows of the paper's Table 1a on slabs with EMT labels, at reduced width.

All rows get the same structures, seeds and steps; errors are those of systems that training did not see. Writes numbers
to benchmarks/results/ablations.json and the tables to docs/learning.md, between marks.

Run: python benchmarks/ablations.py [--threads 2] [--seeds 3] [--out benchmarks/results/ablations.json]
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from ev2_plugin.data.lmdb import read_lmdb
from ev2_plugin.data.metadata import read_metadata
from ev2_plugin.data.statistics import compute_statistics
from ev2_plugin.demo.dataset import DatasetFolder, DatasetSize, build_dataset
from ev2_plugin.integration.backbone import EquiformerV2
from ev2_plugin.integration.run_config import find_config, load_config
from ev2_plugin.integration.timing import machine
from ev2_plugin.nn.activation import num_gates
from harness import commit
from marked_page import replace_section
from training_runs import new_folder, short_training, train, write_recipe

REPOSITORY = Path(__file__).parents[1]
ROWS = {
    "gate, no re-normalisation": "oc20/ablations/s2ef_2M_gate_no_renormalisation.yml",
    "gate": "oc20/ablations/s2ef_2M_gate.yml",
    "S2": "oc20/ablations/s2ef_2M_s2.yml",
    "separable S2": "oc20/ablations/s2ef_2M_layer_norm.yml",
    "separable S2, separable layer norm": "oc20/s2ef_2M_83M.yml",
}
"""Rows 1 to 5 of Table 1a and their packaged run files."""

NETWORK = {
    "max_neighbors": 12, "max_radius": 5.0, "num_radial_basis": 64,
    "lmax": 3, "mmax": 2, "num_layers": 2, "grid_resolution": 10,
    "sphere_channels": 32, "attn_hidden_channels": 16, "num_heads": 4, "attn_alpha_channels": 16,
    "attn_value_channels": 8, "ffn_hidden_channels": 32, "edge_channels": 32,
    "alpha_drop": 0.0, "drop_path_rate": 0.0,
}  # fmt: skip
"""What is smaller than in the paper; the switches are the run files'."""


@dataclass(frozen=True)
class Scale:
    """How much is learned, and for how long.

    Attributes:
        size: Systems of each split, frames of each; the test split is held out, the validation split is not used.
        batch_size: Structures per step.
        steps: Optimiser steps.
    """

    size: DatasetSize = DatasetSize(train=60, val=1, test=18, frames=4)
    batch_size: int = 8
    steps: int = 240


def changes(data: DatasetFolder, scale: Scale) -> dict[str, Any]:
    """What every row changes in its run file."""
    train_lmdb, held_out = data.s2ef("train"), data.s2ef("test")
    sizes, labels = read_metadata(train_lmdb.parent), compute_statistics(read_lmdb(train_lmdb))
    width = {"rmsd": labels.energy_std}  # as the recipe: one for both
    return {
        "model": {**NETWORK, "avg_num_nodes": float(sizes.natoms.mean()), "avg_degree": sizes.mean_degree},
        "dataset": {
            "train": {
                "src": str(train_lmdb.parent.resolve()),
                "transforms": {
                    "normalizer": {"energy": {"mean": labels.energy_mean, **width}, "forces": {"mean": 0.0, **width}}
                },
            },
            "val": {"src": str(held_out.parent.resolve())},
        },
        **short_training(labels.num_structures, scale.batch_size, scale.steps, validations=1),
    }


def anatomy(settings: Mapping[str, Any]) -> dict[str, Any]:
    """What the switches of a model section did to the network: read from the network, not from the switches."""
    with torch.device("meta"):
        model = EquiformerV2(**{key: value for key, value in settings.items() if key != "name"})
    block = model.blocks[0]
    attention, feed_forward = block.ga, block.ffn
    layout = attention.layout
    return {
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "alpha_norm_parameters": sum(
            parameter.numel() for name, parameter in model.named_parameters() if ".alpha_norm." in name
        ),
        "alpha_norm": type(attention.alpha_norm).__name__,
        "activation": attention.activation.activation,
        "attention_scalars": num_gates(attention.activation.activation, layout.lmax, attention.spec.hidden_channels),
        "feed_forward_scalars": feed_forward.num_gates,
        "grid_mlp": hasattr(feed_forward, "grid_mlp"),
        "norm": type(block.norm_1).__name__,
    }


def measure(folder: Path, scale: Scale, seeds: Sequence[int], console: Console) -> dict[str, Any]:
    """Train every row with every seed."""
    cutoff, neighbors = NETWORK["max_radius"], NETWORK["max_neighbors"]
    data = build_dataset(folder / "data", scale.size, seed=0, cutoff=cutoff, max_neighbors=neighbors)
    labels = compute_statistics(read_lmdb(data.s2ef("train")))
    held_out = list(read_lmdb(data.s2ef("test")))
    forces = torch.cat([frame.force[frame.fixed == 0] for frame in held_out])
    rows = {}
    for number, (row, recipe) in enumerate(ROWS.items(), start=1):
        config = folder / f"row_{number}" / "run.yml"
        config.parent.mkdir()
        write_recipe(config, recipe, changes(data, scale))
        logs = []
        for seed in seeds:
            console.print(f"row {number}, {row}: seed {seed}")
            logs.append(train(config, f"seed-{seed}", seed=seed))
        rows[row] = {
            "recipe": recipe,
            "full_size": anatomy(load_config(find_config(Path(recipe)))[0]["model"]),
            "here": anatomy(load_config(config)[0]["model"]),
            "steps": logs[0].curve("train", "loss").steps[-1],
            "seconds_per_step": statistics.median(log.seconds_per_step() for log in logs),
            **{
                metric: [log.curve("val", metric).values[-1] for log in logs] for metric in ("forces_mae", "energy_mae")
            },
        }
    return {
        "mean_predictor": {
            "forces_mae": float(forces.abs().mean()),
            "energy_mae": statistics.mean(abs(frame.y - labels.energy_mean) for frame in held_out),
        },
        "frames": {"train": labels.num_structures, "held_out": len(held_out)},
        "rows": rows,
    }


def tables(results: Mapping[str, Any]) -> str:
    """The results in Markdown."""
    names, baseline = list(results["rows"]), results["mean_predictor"]
    errors = [
        "| row of Table 1a | parameters | force MAE, meV/Å | energy MAE, meV | s per step |",
        "|---|---|---|---|---|",
        *(
            f"| {number}: {name} | {row['here']['parameters']:,} | {_spread(row['forces_mae'])} "
            f"| {_spread(row['energy_mae'])} | {row['seconds_per_step']:.3f} |"
            for number, (name, row) in enumerate(results["rows"].items(), start=1)
        ),
        f"| mean predictor | | {1e3 * baseline['forces_mae']:.0f} | {1e3 * baseline['energy_mae']:.0f} | |",
    ]
    parts = [
        "| row | activation | alpha norm (its parameters) | its scalars: attention, feed-forward | grid MLP | norm "
        "| parameters here | at full size |",
        "|---|---|---|---|---|---|---|---|",
        *(_anatomy_row(number, results["rows"][name]) for number, name in enumerate(names, start=1)),
    ]
    return "\n".join([*errors, "", *parts])


def _spread(values: Sequence[float]) -> str:
    """Mean and standard deviation over the seeds, in thousandths."""
    return f"{1e3 * statistics.mean(values):.1f} ± {1e3 * statistics.stdev(values):.1f}"


def _anatomy_row(number: int, row: Mapping[str, Any]) -> str:
    here = row["here"]
    scalars = f"{here['attention_scalars']}, {here['feed_forward_scalars']}"
    alpha_norm = f"{here['alpha_norm']} ({here['alpha_norm_parameters']})"
    cells = (
        *(number, here["activation"], alpha_norm, scalars, "yes" if here["grid_mlp"] else "no", here["norm"]),
        *(f"{here['parameters']:,}", f"{row['full_size']['parameters']:,}"),
    )
    return f"| {' | '.join(map(str, cells))} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seeds", type=int, default=3, help="how many, at least 2")
    parser.add_argument("--runs", type=Path, default=REPOSITORY / "runs", help="folder of runs")
    parser.add_argument("--out", type=Path, default=REPOSITORY / "benchmarks" / "results" / "ablations.json")
    parser.add_argument("--page", type=Path, default=REPOSITORY / "docs" / "learning.md")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    console, started, scale = Console(), time.monotonic(), Scale()
    folder = new_folder(args.runs, "ablations")
    results = {
        "machine": {**machine("cpu"), "commit": commit()},
        "seeds": args.seeds,
        "scale": dataclasses.asdict(scale),
        "network": NETWORK,
        **measure(folder, scale, range(args.seeds), console),
    }
    results["minutes"] = (time.monotonic() - started) / 60
    text = json.dumps(results, indent=1).replace(f"{folder.resolve()}/", "")  # paths within the run
    args.out.write_text(text + "\n", encoding="utf-8")
    replace_section(args.page, "ablations", tables(results))
    console.print(tables(results), soft_wrap=True)
    console.print(f"{results['minutes']:.1f} minutes; runs in {folder}")


if __name__ == "__main__":
    main()
