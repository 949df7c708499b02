"""Every benchmark on one device, each in a process of its own, then the page.

A benchmark that fails, or that the system stops because memory runs out, takes its own rows with it and no others.

Run: python benchmarks/run_all.py [--device cuda] [--threads 2] [--smoke FOLDER]
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path

from rich.console import Console

HERE = Path(__file__).parent
COMMANDS: tuple[tuple[str, ...], ...] = (
    ("bench_inference_training.py", "--only", "31M"),
    ("bench_latency.py",),
    ("bench_operations.py",),
    ("bench_neighbors.py",),
    ("bench_growth.py",),
    ("bench_inference_training.py", "--only", "83M"),
    ("bench_inference_training.py", "--only", "86M-OMat"),
    ("bench_table8.py",),
    ("bench_inference_training.py", "--only", "153M"),
    ("bench_estimate.py",),
)
"""What answers most comes first: a run may be cut."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--smoke", type=Path, metavar="FOLDER", help="tiny models, JSON files to this folder, no page")
    args = parser.parse_args()
    console, failed = Console(), []
    for command in COMMANDS:
        words = [*command, "--device", args.device, "--threads", str(args.threads)]
        if args.smoke:
            words += ["--smoke", "--out", str(args.smoke / Path(command[0]).with_suffix(".json").name)]
        start = time.monotonic()
        status = run(words)
        console.print(f"{' '.join(command)}: {time.monotonic() - start:.0f} s, exit status {status}")
        if status:
            failed.append(" ".join(command))
    if not args.smoke:
        run(["performance_page.py"])
    if failed:
        console.print(f"failed: {'; '.join(failed)}")
    return 1 if failed else 0


def run(words: list[str]) -> int:
    """One script, with this interpreter; the host's files are older than torch's warnings about them."""
    script, *arguments = words
    command = [sys.executable, "-W", "ignore::FutureWarning", str(HERE / script), *arguments]
    return subprocess.run(command, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
