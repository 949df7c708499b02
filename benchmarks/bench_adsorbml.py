"""AdsorbML after the relaxations: time and memory of anomaly checks, ranking, selection and scores.

A made-up campaign is written to disk first, in the files that a real one has. Then a fresh Python does what
`ev2 adsorbml` does with it, on as many processes as there are threads; its imports count. Some of its flags are
compared with those of the host's own detector.

Run: python benchmarks/bench_adsorbml.py [--structures 90000] [--threads 2]
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ase.io import read

from adsorbml_campaign import Size, make_campaign
from ev2_plugin.adsorbml.campaign import Campaign
from ev2_plugin.adsorbml.records import RelaxedConfiguration
from ev2_plugin.adsorbml.tables import read_table
from ev2_plugin.integration.timing import require_agreement
from ev2_plugin.relax.folder import read_relaxed
from harness import arguments, prepare, result_file

NAME = "adsorbml"
QUESTION = "What does AdsorbML's post-processing of relaxed structures take?"
IDENTITY = ("structures", "workers")
COMPARED = 100
"""Structures whose flags are compared with the host's."""
EVERY_SECONDS = 0.05
"""Between two looks at the memory of all processes."""
FLAGS = ("dissociated", "desorbed", "surface_changed", "intercalated")


def measure(folder: Path, workers: int) -> dict[str, Any]:
    """Run `adsorbml_process.py`, and watch the resident memory of all its processes together."""
    begin = time.perf_counter()
    command = [sys.executable, str(Path(__file__).with_name("adsorbml_process.py")), str(folder), str(workers)]
    running = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    peak = 0
    while running.poll() is None:
        peak = max(peak, sum(map(_resident, _descendants(running.pid))))
        time.sleep(EVERY_SECONDS)
    wall = time.perf_counter() - begin
    assert running.stdout is not None
    output = running.stdout.read()
    if running.returncode:
        raise RuntimeError(f"post-processing ended with {running.returncode}")
    return {**json.loads(output.splitlines()[-1]), "wall_s": wall, "peak_mb": peak / 1e6}


def _descendants(process_id: int) -> list[int]:
    """A process and those that it started, and they."""
    try:
        tasks = list(Path(f"/proc/{process_id}/task").iterdir())
        children = [int(word) for task in tasks for word in (task / "children").read_text().split()]
    except FileNotFoundError:
        return []
    return [process_id, *(one for child in children for one in _descendants(child))]


def _resident(process_id: int) -> int:
    """Bytes; memory that processes share counts for each of them."""
    try:
        return int(Path(f"/proc/{process_id}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (FileNotFoundError, ProcessLookupError):
        return 0


def compare_with_host(campaign: Campaign) -> dict[str, float]:
    """Share of flags that differ from the host's, and the time the host's checks take."""
    from fairchem.data.oc.utils.flag_anomaly import DetectTrajAnomaly

    ours = {(one.system, one.config): one for one in read_table(campaign.relaxed, RelaxedConfiguration)}
    different, seconds, flags = 0, 0.0, 0
    results = list(read_relaxed(campaign.relaxations / "shard-000"))
    step = max(1, len(results) // COMPARED)
    for one in results[::step]:
        system, config = one.id.rsplit(".", 1)
        slab = read(campaign.systems / f"{system}.extxyz", 0)
        initial = read(campaign.placements / f"{system}.extxyz", one.index)
        final = initial.copy()
        final.set_constraint()
        final.positions = one.positions
        begin = time.process_time()
        host = DetectTrajAnomaly(initial, final, initial.get_tags(), final_slab_atoms=slab)
        found = (
            host.is_adsorbate_dissociated(),
            host.is_adsorbate_desorbed(),
            host.has_surface_changed(),
            host.is_adsorbate_intercalated(),
        )
        seconds += time.process_time() - begin
        own = ours[system, config]
        different += sum(getattr(own, name) != flag for name, flag in zip(FLAGS, found, strict=True))
        flags += len(found)
    return {"different": different / flags, "host_detector_ms": 1e3 * seconds / (flags / len(FLAGS))}


def row(size: Size, workers: int, measured: dict[str, Any], campaign: Campaign, host_ms: float) -> dict[str, Any]:
    relaxed = read_table(campaign.relaxed, RelaxedConfiguration)
    return {
        "structures": size.structures,
        "systems": size.systems,
        "atoms": size.atoms,
        "workers": workers,
        **measured,
        "cpu_ms_per_structure": 1e3 * measured["cpu_s"] / size.structures,
        "found": {name: sum(getattr(one, name) for one in relaxed) for name in (*FLAGS, "valid")},
        "host_detector_cpu_ms_per_structure": host_ms,
        "packages": {name: version(name) for name in ("numpy", "scipy", "ase", "fairchem-data-oc")},
    }


def main(argv: list[str] | None = None) -> None:
    parser = arguments(__doc__ or "", NAME)
    parser.add_argument("--structures", type=int, default=90_000)
    args = parser.parse_args(argv)
    prepare(args)
    file = result_file(args, NAME, QUESTION, IDENTITY)
    with tempfile.TemporaryDirectory() as folder:
        campaign = Campaign(Path(folder))
        size = make_campaign(campaign, 180 if args.smoke else args.structures)
        print(f"{size.structures} structures of {size.atoms:.1f} atoms on average, {size.systems} systems", flush=True)
        measured = measure(campaign.folder, args.threads)
        compared = compare_with_host(campaign)
        require_agreement({"flags": compared["different"]}, 0.0)
        found = row(size, args.threads, measured, campaign, compared["host_detector_ms"])
        file.add(found)
        print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
