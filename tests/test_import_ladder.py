"""Which part of the package may import which, read from the sources."""

import ast
from pathlib import Path

import pytest

import ev2_plugin

PACKAGE = Path(ev2_plugin.__file__).parent

MODEL_LADDER = ("so3", "graph", "ops", "nn", "model")
SCIENCE_LADDER = ("potential", "relax", "adsorbml")
BELOW_INTEGRATION = {
    *MODEL_LADDER,
    *SCIENCE_LADDER,
    "storage",
    "data",
    "training",
    "evaluation",
    "submission",
    "progress",
    "workers",
}
MAY_IMPORT = {
    **{part: set(MODEL_LADDER[: rung + 1]) for rung, part in enumerate(MODEL_LADDER)},
    **{part: {"storage", "workers", *SCIENCE_LADDER[: rung + 1]} for rung, part in enumerate(SCIENCE_LADDER)},
    "storage": {"storage"},
    "progress": set(),
    "workers": set(),
    "data": {"storage", "workers", "data"},
    "training": {"storage", "training"},
    "evaluation": {"potential", "storage", "workers", "data", "evaluation"},
    "submission": {"storage", "workers", "data", "submission"},
    "report": {"storage", "data", "evaluation", "potential", "relax", "adsorbml", "report"},
    # Where everything else is broken these two must still run.
    "machine": {"machine"},
    "doctor": {"machine", "doctor"},
    # The root resolves the public names, which leads up to integration: closed to all that lies below.
    "integration": {*BELOW_INTEGRATION, "machine", "integration", "(root)"},
    "demo": {*BELOW_INTEGRATION, "integration", "report", "demo", "(root)"},
    "finetuning": {*BELOW_INTEGRATION, "integration", "report", "finetuning", "(root)"},
    "cli": {*BELOW_INTEGRATION, "integration", "report", "demo", "doctor", "finetuning", "cli", "(root)"},
    "__main__": {"cli"},
    "__init__": set(),
}
MAY_IMPORT_FAIRCHEM = {"integration"}
SOURCES = sorted(PACKAGE.rglob("*.py"))


def part_of(relative: Path) -> str:
    return relative.parts[0].removesuffix(".py")


def imported_modules(source: str, package: str) -> list[str]:
    """Return the absolute names of all modules that `source` imports, wherever in the file."""
    modules = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            modules += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")[: 1 - node.level or None] if node.level else []
            module = ".".join([*parents, node.module] if node.module else parents)
            # `from ev2_plugin import so3` imports a part; `from ev2_plugin import EnergyHead` the root
            modules += [
                f"{module}.{alias.name}" if module == "ev2_plugin" and alias.name in MAY_IMPORT else module
                for alias in node.names
            ]
    return modules


def violations(relative: Path, source: str) -> list[str]:
    """Return what the file at `relative` (below the package) imports although it must not."""
    part = part_of(relative)
    if part not in MAY_IMPORT:
        return [f"{relative}: {part!r} has no place on the ladder"]
    wrong = []
    for module in imported_modules(source, ".".join(["ev2_plugin", *relative.parts[:-1]])):
        top, _, rest = module.partition(".")
        target = rest.split(".")[0] or "(root)"
        if top == "ev2_plugin" and target not in MAY_IMPORT[part]:
            wrong.append(f"{relative}: {part} must not import {module}")
        if top == "fairchem" and part not in MAY_IMPORT_FAIRCHEM:
            wrong.append(f"{relative}: only integration imports fairchem, not {part}")
    return wrong


def test_every_source_keeps_to_the_ladder() -> None:
    assert SOURCES
    found = [
        line for path in SOURCES for line in violations(path.relative_to(PACKAGE), path.read_text(encoding="utf-8"))
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("relative", "source"),
    [
        ("so3/wigner.py", "from ev2_plugin.graph import EdgeGraph"),
        ("so3/wigner.py", "from ..graph import EdgeGraph"),
        ("ops/backend.py", "def f():\n    import ev2_plugin.nn.linear"),
        ("model/backbone.py", "from fairchem.core.common.registry import registry"),
        ("model/backbone.py", "from ev2_plugin import EnergyHead"),
        ("model/backbone.py", "from ev2_plugin import integration"),
        ("data/lmdb.py", "from ev2_plugin.model import config"),
        ("integration/heads.py", "from ev2_plugin.cli.main import app"),
        ("demo/dataset.py", "import fairchem.core"),
        ("doctor/processes.py", "from ev2_plugin.storage import lmdb_file"),
        ("helpers/new.py", ""),
    ],
)
def test_a_step_up_the_ladder_is_reported(relative: str, source: str) -> None:
    assert violations(Path(relative), source)


@pytest.mark.parametrize(
    ("relative", "source"),
    [
        ("ops/backend.py", "from ..so3 import layout\nfrom .edge_rotation import reference"),
        ("integration/heads.py", "import fairchem.core\nimport ev2_plugin\nfrom ev2_plugin.nn import linear"),
        ("cli/demo.py", "from ev2_plugin.demo.dataset import build"),
    ],
)
def test_a_step_down_the_ladder_is_allowed(relative: str, source: str) -> None:
    assert not violations(Path(relative), source)
