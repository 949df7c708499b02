"""Each operation of the seam alone: the reference form, the form that `auto` takes, and the machine's floor for it.

Run: python benchmarks/bench_operations.py [--device cuda] [--threads 2]
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import torch
from rich.console import Console

from ceilings import Ceilings, measure_ceilings
from ev2_plugin.integration.fidelity import relative
from ev2_plugin.integration.pairing import LIMITS
from ev2_plugin.integration.timing import Run, alternating, require_agreement
from ev2_plugin.model.config import ModelConfig
from ev2_plugin.model.presets import OC20_31M, OC20_83M
from ev2_plugin.ops.backend import Operations, operations
from harness import ResultFile, arguments, prepare, result_file
from operation_cases import OperationCase, cases, gradients

NAME = "operations"
QUESTION = "How far is each operation from the least time this machine needs for its arithmetic or its bytes?"
IDENTITY = ("model", "operation", "backward")

MODELS = {"31M": OC20_31M, "83M": OC20_83M}
FORMS = {
    "cpu": {"reference": ("reference", "highest"), "auto": ("auto", "highest")},
    "cuda": {
        "reference": ("reference", "highest"),
        "pytorch": ("pytorch", "highest"),
        "auto": ("auto", "highest"),
        "auto, high": ("auto", "high"),
        "auto, tf32": ("auto", "tf32"),
    },
}
"""Backend and precision."""
NODES = {"cpu": 66, "cuda": 66 * 16}
REPEATS = 5
SMALL = dataclasses.replace(
    OC20_31M, lmax=3, num_layers=1, sphere_channels=16, attn_hidden_channels=8, num_heads=2, attn_alpha_channels=8,
    attn_value_channels=4, ffn_hidden_channels=16, edge_channels=16, grid_resolution=10, max_neighbors=5,
)  # fmt: skip


def measure(model: str, config: ModelConfig, nodes: int, device: str, ceilings: Ceilings, file: ResultFile) -> None:
    """Compare, then time, every operation of one model's shape, forward and forward with backward."""
    common = {"model": model, "nodes": nodes, "edges": nodes * config.max_neighbors}
    for case in cases(config, nodes, device):
        for backward in (False, True):
            file.add({**common, **_measure_one(case, device, ceilings, backward=backward)})


def _measure_one(case: OperationCase, device: str, ceilings: Ceilings, *, backward: bool) -> dict[str, Any]:
    forms = {name: (operations(*form), form[1]) for name, form in FORMS[device].items()}
    call = _with_gradients if backward else _without
    agreement = _compare(case, forms, call)
    flops, num_bytes = case.work(case.call(forms["reference"][0]), backward=backward)
    floor, limit = ceilings.floor(flops, num_bytes)
    runs: dict[str, Run] = {name: lambda ops=ops: call(case, ops) for name, (ops, _) in forms.items()}
    return {
        "operation": case.name,
        "backward": backward,
        "flops": flops,
        "bytes": num_bytes,
        "floor_s": floor,
        "floor_is": limit,
        "ceilings": dataclasses.asdict(ceilings),
        "agreement": agreement,
        "seconds": alternating(runs, REPEATS, device),
    }


def _without(case: OperationCase, ops: Operations) -> tuple[torch.Tensor, ...]:
    with torch.no_grad():
        return case.call(ops)


def _with_gradients(case: OperationCase, ops: Operations) -> tuple[torch.Tensor, ...]:
    results = case.call(ops)
    return (*results, *gradients(results, case))


def _compare(
    case: OperationCase,
    forms: Mapping[str, tuple[Operations, str]],
    call: Callable[[OperationCase, Operations], tuple[torch.Tensor, ...]],
) -> dict[str, float]:
    """Largest deviation of each form's results, or gradients, from the reference's."""
    (_, (reference, _)), *others = forms.items()
    expected = [value.detach() for value in call(case, reference)]
    deviations = {}
    for name, (ops, precision) in others:
        actual = [value.detach() for value in call(case, ops)]
        found = max(relative(a, e, floor=1e-30) for a, e in zip(actual, expected, strict=True))
        deviations |= require_agreement({name: found}, LIMITS[precision])
    return deviations


def main(argv: list[str] | None = None) -> None:
    args = arguments(__doc__ or "", NAME).parse_args(argv)
    prepare(args)
    file = result_file(args, NAME, QUESTION, IDENTITY)
    ceilings = measure_ceilings(args.device, share=0.02 if args.smoke else 1.0)
    for model, config in {"31M": SMALL}.items() if args.smoke else MODELS.items():
        Console().print(f"operations of {model}")
        measure(model, config, 5 if args.smoke else NODES[args.device], args.device, ceilings, file)


if __name__ == "__main__":
    main()
