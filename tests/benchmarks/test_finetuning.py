"""The comparison of fine-tuning with training from scratch: its data, and that the page shows its numbers."""

import json
import re
from pathlib import Path

import ase.db
import pytest
from ase.build import bulk

import finetuning
from finetuning_figure import draw


def test_a_polymorph_is_one_formula_at_growing_volumes(tmp_path: Path) -> None:
    path = tmp_path / "crystals.db"
    with ase.db.connect(path) as database:
        for name, structure, smallest in (
            ("MgO", "rocksalt", 4.0),
            ("MgO", "cesiumchloride", 2.3),
            ("CaO", "rocksalt", 4.6),
        ):
            for stretch in (1.0, 1.05, 1.1):
                database.write(bulk(name, structure, a=smallest * stretch))
    found = finetuning.polymorphs(path)
    assert [len(frames) for frames in found.values()] == [3, 3, 3]


def test_the_shared_oxides_are_dioxides_of_five_metals() -> None:
    path = finetuning.REPOSITORY.parent / "shared/data/oxides.db"
    if not path.exists():
        pytest.skip(f"{path} is not there")
    found = finetuning.polymorphs(path)
    assert sum(map(len, found.values())) == 295
    assert {re.match(r"[A-Z][a-z]?", name)[0] for name in found} == {"Ru", "Ir", "Ti", "Sn", "V"}
    assert min(map(len, found.values())) > 1


def test_the_page_shows_the_numbers_of_the_results(tmp_path: Path) -> None:
    results = json.loads((finetuning.REPOSITORY / "benchmarks/results/finetuning.json").read_text())
    assert finetuning.table(results) in (finetuning.REPOSITORY / "docs/finetuning.md").read_text(encoding="utf-8")
    draw(results["tasks"], tmp_path / "curves.png")
    assert (tmp_path / "curves.png").stat().st_size > 10_000
