"""Runs the blocks of a page one after the other: Python ones in one namespace, as in a notebook, the others by bash.

`python page_runner.py FILE`, FILE holding a JSON list of [where, language, text].
"""

import json
import subprocess
import sys
from pathlib import Path


def run(blocks: list[tuple[str, str, str]]) -> None:
    """Run the blocks; the first that fails ends the process."""
    namespace: dict[str, object] = {"__name__": "__main__"}
    for where, language, text in blocks:
        print(f"--- {where}", flush=True)
        if language == "python":
            exec(compile(text, where, "exec"), namespace)
        else:
            ended = subprocess.run(["bash", "-euo", "pipefail", "-c", text], stdin=subprocess.DEVNULL, check=False)
            if ended.returncode:
                sys.exit(f"{where} ended with status {ended.returncode}\n{text}")


if __name__ == "__main__":
    run(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
