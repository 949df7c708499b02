"""Tables and figures of docs/performance.md, made of the JSON files of benchmarks/results.

Run: python benchmarks/performance_page.py
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import performance_figures as figures
import performance_tables as tables
from harness import REPOSITORY, RESULTS
from marked_page import replace_section

Result = Mapping[str, Any]


@dataclass(frozen=True)
class Section:
    """A part of the page.

    Attributes:
        name: Its result files are NAME_cpu.json and NAME_cuda.json, its mark is NAME, its figures NAME_DEVICE.png.
        table: Makes its table.
        figure: Draws it; None for no figure.
    """

    name: str
    table: Callable[[Result], str]
    figure: Callable[[Path, Result], None] | None


def _inference_and_training(result: Result) -> str:
    parts = (f"**{title}**\n\n{tables.comparisons(result, task=task)}" for task, title in TASKS.items())
    return "\n\n".join(parts)


TASKS = {"inference": "Inference", "training": "Training step"}
SECTIONS = (
    Section("inference_training", _inference_and_training, figures.draw_inference_training),
    Section("latency", tables.comparisons, figures.draw_latency),
    Section("growth", tables.comparisons, figures.draw_growth),
    Section("operations", tables.operations, figures.draw_operations),
    Section("neighbors", tables.comparisons, figures.draw_neighbors),
    Section("table8", tables.table8, figures.draw_table8),
    Section("estimate", tables.estimate, None),
)


def load(folder: Path) -> dict[tuple[str, str], Result]:
    """The result files there are, by section and device."""
    wanted = ((section.name, device) for section in SECTIONS for device in tables.DEVICES)
    paths = {(name, device): folder / f"{name}_{device}.json" for name, device in wanted}
    return {key: json.loads(path.read_text(encoding="utf-8")) for key, path in paths.items() if path.exists()}


def write(page: Path, results: Mapping[tuple[str, str], Result]) -> None:
    """Fill the marked parts of the page. A device without results is said to have none."""
    replace_section(page, "targets", tables.targets(results))
    for section in SECTIONS:
        parts = [_part(section, device, results.get((section.name, device))) for device in tables.DEVICES]
        replace_section(page, section.name, "\n\n".join(parts))


def draw(folder: Path, results: Mapping[tuple[str, str], Result]) -> None:
    """Draw all figures there are results for."""
    for section in SECTIONS:
        for device in tables.DEVICES:
            result = results.get((section.name, device))
            if section.figure is not None and result is not None:
                section.figure(folder / f"{section.name}_{device}.png", result)


def _part(section: Section, device: str, result: Result | None) -> str:
    if result is None:
        return f"{tables.DEVICES[device]}: not measured."
    lines = [f"{tables.DEVICES[device]}: {tables.where(result)}"]
    if section.figure is not None:
        lines.append(f"![{result['question']}](performance/{section.name}_{device}.png)")
    return "\n\n".join([*lines, section.table(result)])


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--page", type=Path, default=REPOSITORY / "docs" / "performance.md")
    args = parser.parse_args(argv)
    results = load(args.results)
    write(args.page, results)
    draw(args.page.parent / "performance", results)


if __name__ == "__main__":
    main()
