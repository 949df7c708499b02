"""Where a campaign keeps its files.

A campaign is a folder. Every stage reads files of the stages before it and writes its own, which can be looked at,
edited, made again, or handed to another machine.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Campaign:
    """Names of the files of a campaign. Tables are CSV with a header, energies in eV.

    Attributes:
        folder: What holds them all.
    """

    folder: Path

    @property
    def systems(self) -> Path:
        """Folder of `<system>.extxyz`: clean surface and adsorbate of each system, see `clean_slab`."""
        return self.folder / "systems"

    @property
    def placements(self) -> Path:
        """Folder of `<system>.extxyz`: initial structures, each with `system` and `config` in its `info`."""
        return self.folder / "placements"

    @property
    def relaxations(self) -> Path:
        """Folder of `shard-000` and so on, written by `ev2_plugin.relax`."""
        return self.folder / "relaxations"

    @property
    def relaxed(self) -> Path:
        """Table of `RelaxedConfiguration`: what became of every initial structure."""
        return self.folder / "relaxed.csv"

    @property
    def ranking(self) -> Path:
        """Table of `RankedConfiguration`: valid configurations of each system by energy."""
        return self.folder / "ranking.csv"

    @property
    def top_k(self) -> Path:
        """Table of `RankedConfiguration`: the first k of each system."""
        return self.folder / "top_k.csv"

    @property
    def single_points(self) -> Path:
        """Folder of `<system>.<config>`: inputs and outputs of the single points."""
        return self.folder / "single_points"

    @property
    def single_point_table(self) -> Path:
        """Table of `SinglePoint`."""
        return self.folder / "single_points.csv"

    @property
    def targets(self) -> Path:
        """Table of `Target`: the ground truth."""
        return self.folder / "targets.csv"

    @property
    def scores(self) -> Path:
        """Success rates and speed-ups as JSON."""
        return self.folder / "scores.json"

    @property
    def score_table(self) -> Path:
        """Success rates and speed-ups as a Markdown table."""
        return self.folder / "scores.md"

    @property
    def figure(self) -> Path:
        """Success rate over speed-up."""
        return self.folder / "success.png"


def structure_id(system: str, config: str) -> str:
    """Name of an initial structure in relaxations and single points, `<system>.<config>`.

    Raises:
        ValueError: If one of the two is empty or cannot be part of a file's name, or the configuration has a dot:
            `system_and_config` would split it elsewhere.
    """
    for kind, name in (("system", system), ("config", config)):
        if not name or name != name.strip() or "/" in name:
            raise ValueError(f"{kind} {name!r}: a name must not be empty, begin or end with a blank, or hold '/'")
    if "." in config:
        raise ValueError(f"config {config!r}: names of configurations must not hold a dot")
    return f"{system}.{config}"


def system_and_config(structure: str) -> tuple[str, str]:
    """Take the name of a structure apart at its last dot.

    Raises:
        ValueError: If it has none.
    """
    system, dot, config = structure.rpartition(".")
    if not (system and dot and config):
        raise ValueError(f"structure {structure!r}: its name should be <system>.<config>")
    return system, config
