"""How long a report of many predictions takes to write, and to open in Chromium.

Slabs with made-up labels and predictions are written to disk first. Writing the report is given in CPU time of its one
process. It is then opened from its file in fresh profiles: from the start of the navigation to the drawn plots of the
first screen and of the whole page, and the time that the page's thread computed, which does not depend on what else the
machine does.

Run: python benchmarks/bench_report.py [--structures 100000] [--repeats 5]
"""

from __future__ import annotations

import json
import shutil
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from ase.build import fcc111
from ase.constraints import FixAtoms
from playwright.sync_api import Browser, sync_playwright

from ev2_plugin.data.lmdb import write_lmdb
from ev2_plugin.data.structures import structure_to_data
from ev2_plugin.report.write import write_report
from ev2_plugin.storage.metrics_log import Entry, MetricsLog
from harness import arguments, prepare, result_file

NAME = "report"
QUESTION = "How long does a report of many predictions take to write and to open?"
IDENTITY = ("structures",)
METALS = ("Cu", "Pt", "Ag", "Ni", "Pd", "Au")


def make_predictions(folder: Path, number: int) -> tuple[Path, Path]:
    """Write slabs of 33 atoms, 17 of them free, and predictions that err as those of a trained model."""
    rng = np.random.default_rng(0)
    slabs = []
    for metal in METALS:
        slab = fcc111(metal, (4, 4, 2), vacuum=6.0, periodic=True)
        slab.append("O")
        slab.positions[-1] = slab.positions[-2] + [0.3, 0.2, 1.5]
        slab.set_tags([0] * 16 + [1] * 16 + [2])
        slab.set_constraint(FixAtoms(range(16)))
        slabs.append(slab)
    energies = rng.normal(-1.0, 2.0, size=number)
    forces = rng.normal(size=(number, 33, 3)) * 10 ** rng.uniform(-2, 0.5, size=(number, 1, 1))
    frames = (
        structure_to_data(
            slabs[index % len(slabs)], sid=index, fid=0, energy=float(energies[index]), forces=forces[index]
        )
        for index in range(number)
    )
    write_lmdb(folder / "labels" / "data.lmdb", frames)
    file = folder / "s2ef_predictions.npz"
    np.savez(
        file,
        ids=[f"{index}_0" for index in range(number)],
        energy=energies + rng.laplace(scale=0.2, size=number),
        forces=(forces + rng.laplace(scale=0.03, size=forces.shape))[:, 16:].reshape(-1, 3),
        chunk_idx=17 * np.arange(1, number),
    )
    return file, folder / "labels"


def make_run(folder: Path, steps: int = 5000) -> Path:
    """Write the metrics of a training."""
    logs = folder / "logs" / "local" / "run"
    logs.mkdir(parents=True)
    log = MetricsLog(logs / "metrics.jsonl")
    for step in range(1, steps + 1):
        values = {"loss": 9 / step, "energy_mae": 3 / step, "forces_mae": 1 / step, "lr": 1e-3, "grad_norm": 5.0}
        log.append(Entry(step=step, split="train", epoch=step / 100, time=0.0, values=values))
    log.close()
    return folder


def opened(browser: Browser, page_file: Path) -> dict[str, float]:
    """Open a page in a fresh profile."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, offline=True)
    page = context.new_page()
    session = context.new_cdp_session(page)
    session.send("Performance.enable", {"timeDomain": "threadTicks"})
    page.goto(page_file.absolute().as_uri())
    page.wait_for_selector("html[data-drawn-after-ms]", state="attached")
    noted = page.evaluate("({...document.documentElement.dataset})")
    computed = {one["name"]: one["value"] for one in session.send("Performance.getMetrics")["metrics"]}
    context.close()
    return {
        "first_screen_ms": float(noted["firstDrawnAfterMs"]),
        "all_plots_ms": float(noted["drawnAfterMs"]),
        "computed_ms": 1000 * computed["TaskDuration"],
    }


def measure(number: int, repeats: int) -> dict[str, Any]:
    """Make, write and open a report."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        file, labels = make_predictions(folder, number)
        begin = time.process_time()
        written = write_report(make_run(folder), folder / "report.html", predictions=file, against=labels)
        seconds = time.process_time() - begin
        with sync_playwright() as play:
            browser = play.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
            times = [opened(browser, written.path) for _ in range(repeats)]
            browser_version = browser.version
            browser.close()
        found = {key: statistics.median(one[key] for one in times) for key in times[0]}
        megabytes = written.path.stat().st_size / 1e6
    return {"structures": number, "write_cpu_s": seconds, "megabytes": megabytes, "chromium": browser_version, **found}


def main(argv: list[str] | None = None) -> None:
    parser = arguments(__doc__ or "", NAME)
    parser.add_argument("--structures", type=int, default=100_000)
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args(argv)
    prepare(args)
    file = result_file(args, NAME, QUESTION, IDENTITY)
    found = measure(200 if args.smoke else args.structures, args.repeats)
    file.add(found)
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
