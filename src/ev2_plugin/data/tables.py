"""What preparation and inspection have to say, as tables for the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ase.data import chemical_symbols
from rich.table import Table
from rich.text import Text

from ev2_plugin.data.dataset_report import Inspection, Range
from ev2_plugin.data.outcome import Outcome


def outcome_table(outcome: Outcome) -> Table:
    """Show the splits of a prepared dataset."""
    table = Table(title=str(outcome.folder))
    for column in ("split", "structures", "systems", "atoms", "edges per atom", "elements"):
        table.add_column(column, justify="left" if column in ("split", "elements") else "right")
    for split, counts in outcome.report["splits"].items():
        numbers = (counts["structures"], counts["systems"], counts["atoms"], counts["edges_per_atom"])
        table.add_row(split, *map(str, numbers), " ".join(counts["elements"]))
    return table


def outcome_lines(outcome: Outcome) -> list[str]:
    """Say how the labels are scaled, what a user should know, and how to go on."""
    return [*_label_lines(outcome.report["labels"]), *outcome.report["notes"]]


def _label_lines(labels: Mapping[str, Any] | None) -> list[str]:
    if labels is None:
        return ["labels are scaled as the recipe says"]
    lines = []
    if labels["references"] is not None:
        energies = ", ".join(f"{symbol} {energy:.3f}" for symbol, energy in labels["references"].items())
        share = "" if labels["explained"] is None else f"; they explain {labels['explained']:.2%} of the variance"
        lines.append(f"element references [eV]: {energies}{share}")
    lines.append(f"energies to learn: {labels['energy_mean']:.4g} ± {labels['energy_std']:.4g} eV")
    if labels["vector_rms"] is not None:
        lines.append(f"components of forces or displacements: 0 ± {labels['vector_rms']:.4g} eV/Å or Å")
    return lines


def inspection_table(found: Inspection) -> Table:
    """Show what a dataset holds."""
    table = Table(show_header=False, title=f"{found.structures} structures in {len(found.files)} files")
    table.add_column(style="bold")
    table.add_column()
    for name, text in _rows(found):
        table.add_row(Text(name), Text(text))
    return table


def _rows(found: Inspection) -> list[tuple[str, str]]:
    rows = [("keys", " ".join(sorted(found.keys)))]
    if not found.atoms.count:
        return rows
    elements = [f"{chemical_symbols[number]} {count}" for number, count in sorted(found.elements.items())]
    flags = [f"{''.join('FT'[flag] for flag in flags)} {count}" for flags, count in found.periodicity.items()]
    rows += [
        ("structures with element", ", ".join(elements)),
        ("structures by periodicity", ", ".join(flags)),
        ("atoms per structure", _range(found.atoms)),
        ("edges per structure", f"{_range(found.edges)} ({found.edges.count} measured)"),
        ("edges per atom", _range(found.degrees)),
        ("atoms", ", ".join(f"{kind} {count}" for kind, count in sorted(found.atom_kinds.items()))),
    ]
    rows += [
        (f"label {key}", f"{_range(values)}, {values.count} structures") for key, values in sorted(found.labels.items())
    ]
    if found.energies.num_structures > 1:
        spread = found.energies.spread()
        rows.append((f"energy ({found.energy_key}) [eV]", f"{spread.mean:.6g} ± {spread.std:.4g}"))
    if found.kind is not None:
        rows.append(("energies look like", str(found.kind)))
    if found.all_forces.count:
        largest = max(abs(found.all_forces.smallest), abs(found.all_forces.largest))
        rows.append(("force components [eV/Å]", f"rms {found.all_forces.rms:.4g}, largest {largest:.4g}"))
    if found.free_forces.count:
        rows.append(("of free atoms", f"rms {found.free_forces.rms:.4g}"))
    return rows


def _range(values: Range) -> str:
    return f"{values.smallest:.6g} to {values.largest:.6g}, mean {values.mean:.6g}"
