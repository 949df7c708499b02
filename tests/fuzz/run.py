"""Fuzz every format that is read for so many seconds each: `run.py SECONDS [FORMAT ...]`; status 1 if one fails."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from pathlib import Path

LIMITS = ("-timeout=20", "-rss_limit_mb=6000", "-max_len=70000", "-print_final_stats=1")
"""Seconds of one input, and memory, after which it counts as a failure."""


def fuzz(name: str, seconds: int, folder: Path) -> tuple[int, str]:
    """Fuzz one format; how many files were tried, and what went wrong."""
    folder.mkdir()
    command = [sys.executable, str(Path(__file__).with_name("fuzz_reader.py")), name, str(folder)]
    done = subprocess.run([*command, f"-max_total_time={seconds}", *LIMITS], capture_output=True, text=True)
    tried = re.findall(r"stat::number_of_executed_units:\s*(\d+)|^#(\d+)\s", done.stderr, re.M)
    count = max((int(one or other) for one, other in tried), default=0)
    return count, "" if done.returncode == 0 else done.stdout[-1000:] + done.stderr[-4000:]


def main() -> None:
    sys.path.insert(0, str(Path(__file__).parents[1]))
    from helpers.file_readers import READERS

    seconds, names, failed = int(sys.argv[1]), sys.argv[2:] or list(READERS), False
    folder = Path(tempfile.mkdtemp(prefix="fuzz-"))
    for number, name in enumerate(names):
        count, wrong = fuzz(name, seconds, folder / str(number))
        print(f"{name:30}{count:>12,} files tried   {'FAILED' if wrong else 'ok'}", flush=True)
        if wrong:
            failed = True
            print(f"{wrong}\nthe file is in {folder / str(number)}", flush=True)
    sys.exit(failed)


if __name__ == "__main__":
    main()
