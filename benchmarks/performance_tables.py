"""The result files as tables in Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from performance_targets import TARGETS, Target, figure, name_of

Result = Mapping[str, Any]
"""Content of a result file: `question`, `machine`, `rows`."""

DEVICES = {"cpu": "CPU", "cuda": "GPU"}


def table(header: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Markdown; the first column to the left, the others to the right."""
    rule = ["---", *("---:" for _ in header[1:])]
    return "\n".join(f"| {' | '.join(line)} |" for line in (header, rule, *lines))


def where(result: Result) -> str:
    """The machine, versions and commits of a result file."""
    machine, commits = result["machine"], sorted({row["commit"] for row in result["rows"]})
    versions = ", ".join(f"{name} {machine[name]}" for name in ("torch", "triton", "fairchem-core", "ev2-plugin"))
    amx = "" if machine["cuda"] else f" ({machine['cpu_capability']}, {'with' if machine['amx'] else 'without'} AMX)"
    return f"{machine['device']}{amx}; {versions}; commit {', '.join(commits)}."


def targets(results: Mapping[tuple[str, str], Result]) -> str:
    """Every target with the ratios measured; those of a device without results are not measured."""
    lines = []
    for target in TARGETS:
        result = results.get((target.file, target.device))
        ratios = target.ratios(result["rows"]) if result else {}
        lines.append([DEVICES[target.device], target.what, f"{target.goal:g}", *_verdict(target, ratios)])
    return table(["where", "host / ours", "aim", "measured", "reached"], lines)


def _verdict(target: Target, ratios: Mapping[str, float]) -> tuple[str, str]:
    if not ratios:
        return "not measured", ""
    reached = [ratio >= target.goal for ratio in ratios.values()]
    word = "yes" if all(reached) else "in part" if any(reached) else "no"
    return "; ".join(f"{name}: {ratio:.2f}" for name, ratio in ratios.items()), word


def spread(sample: Mapping[str, Any]) -> str:
    """Median and extremes, in the unit that suits."""
    scale, unit = (1, "s") if sample["median"] >= 1 else (1e3, "ms") if sample["median"] >= 1e-3 else (1e6, "µs")
    median, low, high = (f"{scale * sample[key]:.3g}" for key in ("median", "low", "high"))
    return f"{median} ({low} – {high}) {unit}"


def comparisons(result: Result, **wanted: Any) -> str:
    """Time and, where measured, memory of every way in every row, as multiples of the host's."""
    rows = [row for row in result["rows"] if all(row.get(key) == value for key, value in wanted.items())]
    with_memory = any("peak_mb" in row for row in rows)
    header = ["", "way", "median (extremes)", "host / way"]
    if with_memory:
        header += ["peak, MB", "host / way"]
    lines = []
    for row in rows:
        for way, sample in row["seconds"].items():
            line = [name_of(row), way, spread(sample), _ratio(row, "seconds", way)]
            if with_memory:
                line += [f"{row['peak_mb'][way]:,.0f}", _ratio(row, "peak_mb", way)]
            lines.append(line)
        missing = dict.fromkeys(row.get("out_of_memory", ()), "memory ran out") | row.get("skipped", {})
        lines += [[name_of(row), way, why, *[""] * (len(header) - 3)] for way, why in missing.items()]
    return table(header, lines)


def _ratio(row: Mapping[str, Any], quantity: str, way: str) -> str:
    if way == "host" or "host" not in row[quantity]:
        return ""
    return f"{figure(row, quantity, 'host') / figure(row, quantity, way):.2f}"


def operations(result: Result) -> str:
    """Times beside the floor, and what the floor assumes."""
    first = result["rows"][0]
    ways = list(first["seconds"])
    lines = [
        [
            f"{row['model']}: {row['operation']}" + (", with gradients" if row["backward"] else ""),
            f"{1e3 * row['floor_s']:.3g}",
            row["floor_is"],
            *(f"{1e3 * row['seconds'][way]['median']:.3g}" for way in ways),
            f"{row['seconds']['auto']['median'] / row['floor_s']:.1f}",
        ]
        for row in result["rows"]
    ]
    ceilings = first["ceilings"]
    found = f"{ceilings['flops'] / 1e9:.3g} GFLOP/s in float32, {ceilings['bandwidth'] / 1e9:.3g} GB/s of copying"
    header = ["operation", "floor, ms", "set by", *(f"{way}, ms" for way in ways), "auto / floor"]
    return f"Ceilings measured: {found}; {first['edges']} edges, {first['nodes']} atoms.\n\n{table(header, lines)}"


def table8(result: Result) -> str:
    """Structures per second, ours and the host's, beside the paper's."""
    by_row: dict[str, dict[str, Mapping[str, Any]]] = {}
    for row in result["rows"]:
        by_row.setdefault(row["row"], {})[row["task"]] = row
    lines = []
    for name, tasks in by_row.items():
        any_task = next(iter(tasks.values()))
        line = [name]
        for task in ("inference", "training"):
            for way in ("host", "ours"):
                row = tasks.get(task)
                known = row is not None and way in row["seconds"]
                line.append(f"{row['structures'] / figure(row, 'seconds', way):.3g}" if row and known else "")
            line.append(_ratio(tasks[task], "seconds", "ours") if task in tasks else "")
        paper = any_task["paper"]
        lines.append([*line, f"{paper['inference_structures_per_s']:g}", f"{paper['training_gpu_hours']:,}"])
    one = result["rows"][0]
    header = [
        "row", "inference: host", "ours", "ratio", "training: host", "ours", "ratio",
        "paper: inference", "paper: GPU-hours",
    ]  # fmt: skip
    depth = "all" if one["blocks"] == one["blocks_of_row"] else str(one["blocks"])
    size = one["atoms"] // one["structures"]
    words = f"Structures of {size} atoms per second, {one['structures']} in a batch, {depth} of the blocks."
    return f"{words}\n\n{table(header, lines)}"


def estimate(result: Result) -> str:
    """Predicted beside measured peak memory."""
    lines = [
        [
            f"{row['model']}, {row['use']}",
            str(row["structures"]),
            f"{row['predicted_mb']:,.0f}",
            f"{row['measured_mb']:,.0f}",
            f"{row['ratio']:.3f}",
        ]
        for row in result["rows"]
    ]
    return table(["use", "slabs of 66 atoms", "predicted, MB", "measured, MB", "predicted / measured"], lines)
