"""Every command and every Python block of the documentation is run, page by page, in a folder with small files."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from helpers import documentation_folder, page_runner
from helpers.command_server import ev2_command
from helpers.documentation import PAGES, ROOT, Block, blocks

pytestmark = pytest.mark.slow

LIMIT = 900  # seconds for a page
RUN = {page: [block for block in blocks(page) if block.language in ("bash", "python")] for page in PAGES}


@dataclass(frozen=True)
class Elsewhere:
    """Lines that run in another test, because they need what is not in this folder.

    Attributes:
        pattern: The whole line begins with it.
        test: Where something like it runs.
    """

    pattern: str
    test: str


ELSEWHERE = (
    Elsewhere(
        r"(uv )?pip install |python3.11 -m venv|uv venv|\. env/bin/activate", "tests/host/test_plain_fairchem.py"
    ),
    Elsewhere(r"git clone|make setup|\.venv/bin/pre-commit", ".ci/run"),
    Elsewhere(r".* --submit --sweep-yml ", "tests/cluster/test_slurm_runs.py"),
)
"""What installs, and what is handed to SLURM for good."""

SMALLER = (
    (r"--num-gpus \d+ --gp-gpus 2", "--num-gpus 2 --gp-gpus 2 --cpu"),
    (r"(ev2 (?:train|fairchem) .*)--num-gpus \d+\b(?! --gp-gpus| --cpu)", r"\1--cpu"),
    (r" --num-nodes \d+| --submit| --(slurm-)?partition gpu", ""),
    (r"adsorbml relax C --checkpoint best_checkpoint.pt --shards 8", "adsorbml relax C --calculator emt --steps 100"),
    (r"--sites 100", "--sites 1 --mode random"),
    (r"^# +run VASP in every folder.*", "sh vasp.sh"),
    (r"targets C --oc20-dense .*", "targets C --calculator emt"),
    (r"(?<![\w/])(oc20|oc22|qm9)/([\w/]+\.yml)", r"small/\1/\2"),
    (r"(ev2 (?:train|fairchem|check) .*)data/mine/run\.yml", r"\1small/mine.yml"),
    (r"--device cuda", "--device cpu"),
    (r"^wandb sync", "wandb sync --dry-run"),
    (r"^tensorboard (.*)", r"timeout 30 tensorboard \1 --port 0 || [ $? = 124 ]"),
    (r"^\.venv/bin/python -m pytest (\S+)", r"python -m pytest --collect-only --rootdir {root} {root}/\1"),
    (r"^\.venv/bin/", ""),
    (r"^make ", "make -n -C {root} "),
)
"""What becomes of a command where there is no GPU, no cluster and little time: the same flags on small files."""


@pytest.fixture(scope="session")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """That of a shell in which the package is installed: `ev2`, `python` and so on are this environment's."""
    programs = tmp_path_factory.mktemp("bin")
    path = os.pathsep.join([str(programs), str(Path(sys.executable).parent), os.environ["PATH"]])
    made = {**os.environ, "PATH": path, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore", "COLUMNS": "120"}
    with ev2_command(programs, made):
        yield made


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory, environment: dict[str, str]) -> Path:
    folder = tmp_path_factory.mktemp("documentation") / "work"
    folder.mkdir()
    documentation_folder.build(folder, environment)
    return folder


@pytest.mark.parametrize("page", [page for page in PAGES if RUN[page]], ids=lambda page: page.stem)
def test_a_page_runs_from_top_to_bottom(
    page: Path, prepared: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    work = tmp_path / "work"
    shutil.copytree(prepared, work, symlinks=True)
    if any("--out data/mine" in block.text for block in RUN[page]):
        shutil.rmtree(work / "data/mine")
    blocks_file = tmp_path / "blocks.json"
    blocks_file.write_text(json.dumps([(str(block), block.language, as_run(block)) for block in RUN[page]]))
    found = subprocess.run(
        [sys.executable, page_runner.__file__, blocks_file],
        cwd=work,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    assert found.returncode == 0, found.stdout[-6000:]


def as_run(block: Block) -> str:
    """A block as it runs here."""
    if block.language == "python":
        return block.text
    lines = [line for line in block.text.splitlines() if not any(re.match(one.pattern, line) for one in ELSEWHERE)]
    for pattern, replacement in SMALLER:
        lines = [re.sub(pattern, replacement.format(root=ROOT), line) for line in lines]
    return "\n".join(lines)


def test_what_runs_elsewhere_has_a_test_there() -> None:
    assert all((ROOT / one.test).is_file() for one in ELSEWHERE)
