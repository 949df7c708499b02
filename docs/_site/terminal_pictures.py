"""Pictures of the terminal for docs/cli.md, by rich's own export of what the commands print.

Run: make pictures. A tiny checkpoint and two slabs are made in a temporary folder for it.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
import tempfile
from pathlib import Path

import ase.io
import rich.console
import torch
from ase.build import add_adsorbate, fcc111

DOCS = Path(__file__).parents[1]
PICTURES = DOCS / "cli"
WIDTH = 100
sys.path.insert(0, str(DOCS.parent / "tests"))
os.environ["COLUMNS"] = str(WIDTH)
NOWHERE = open(os.devnull, "w")  # noqa: SIM115  open as long as this process is


class RecordingConsole(rich.console.Console):
    """Prints nowhere and remembers, whoever makes it."""

    made: list[RecordingConsole] = []

    def __init__(self, **settings: object) -> None:
        quiet = {"file": NOWHERE, "force_terminal": True, "color_system": "truecolor", "width": WIDTH}
        super().__init__(**{**settings, **quiet, "record": not settings.get("stderr")})
        self.made.append(self)


def picture(name: str, arguments: list[str]) -> None:
    """Run a command and keep what it shows.

    Raises:
        RuntimeError: If it shows nothing, or ends with an error.
    """
    from ev2_plugin.cli.main import app

    RecordingConsole.made.clear()
    code = 0
    try:
        app(arguments, prog_name="ev2")
    except SystemExit as ended:
        code = int(ended.code or 0)
    texts = [console for console in RecordingConsole.made if console.record and console.export_text(clear=False)]
    if not texts or code not in (0, 3):
        raise RuntimeError(f"ev2 {' '.join(arguments)} showed nothing, or ended with {code}")
    svg = texts[-1].export_svg(title=f"ev2 {' '.join(arguments)}", unique_id=name)
    svg = re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL)  # fonts from elsewhere: the pages need no network
    (PICTURES / f"{name}.svg").write_text(svg, encoding="utf-8")


def slab(shift: float) -> ase.Atoms:
    """An oxygen atom on copper."""
    atoms = fcc111("Cu", (2, 2, 3), vacuum=6.0, periodic=True)
    add_adsorbate(atoms, "O", 1.2 + shift, "fcc")
    atoms.info.clear()
    return atoms


def main() -> None:
    """Make all pictures."""
    from helpers import official_checkpoints

    rich.console.Console = RecordingConsole  # type: ignore[misc]  before typer and the commands ask for it
    PICTURES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        torch.save(official_checkpoints.oc20().content, "best_checkpoint.pt")
        Path("slabs").mkdir()
        ase.io.write("slabs/a.vasp", slab(0.0), sort=True)
        ase.io.write("slabs/b.vasp", slab(0.4), sort=True)
        picture("help", ["--help"])
        picture("relax", ["relax", "slabs/a.vasp", "slabs/b.vasp", "--calculator", "emt"])
        picture("inspect", ["inspect", "best_checkpoint.pt"])


if __name__ == "__main__":
    main()
