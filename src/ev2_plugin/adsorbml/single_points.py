"""Single points on the best relaxed structures: handed to VASP or computed here, and collected in a table.

Energies are total energies; `single_points/<system>.<config>` holds what belongs to one structure.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ase import Atoms

from ev2_plugin.adsorbml.campaign import Campaign, structure_id
from ev2_plugin.adsorbml.records import RankedConfiguration, SinglePoint
from ev2_plugin.adsorbml.settings_file import settle, write_json
from ev2_plugin.adsorbml.structure_files import extended_xyz, list_placements, write_structures
from ev2_plugin.adsorbml.tables import read_table, write_table
from ev2_plugin.adsorbml.vasp import read_vasp_result, write_vasp_inputs
from ev2_plugin.potential.calculators import build_calculator
from ev2_plugin.relax.folder import read_relaxed
from ev2_plugin.storage.plain_files import read_json
from ev2_plugin.storage.safe_pickle import reading

STAGE = "single_points"
RESULT, STRUCTURE = "result.json", "structure.extxyz"
_DEFAULTS: Mapping[str, Any] = {"method": None, "vasp": None, "calculator": None, "keywords": None}


def selected_structures(campaign: Campaign) -> list[tuple[RankedConfiguration, Atoms]]:
    """The structures of `top_k.csv`, where their relaxations ended.

    Raises:
        ValueError: If there is no such table, or a structure of it was not relaxed.
    """
    if not campaign.top_k.exists():
        raise ValueError(f"{campaign.top_k}: no such table; 'ev2 adsorbml select' makes it")
    chosen = read_table(campaign.top_k, RankedConfiguration)
    wanted = {structure_id(one.system, one.config) for one in chosen}
    initial = {one.name: one for one in list_placements(campaign) if one.name in wanted}
    final = {
        one.id: one.positions
        for shard in sorted(campaign.relaxations.glob("shard-*"))
        for one in read_relaxed(shard)
        if one.id in wanted
    }
    found = []
    for one in chosen:
        name = structure_id(one.system, one.config)
        if name not in initial or name not in final:
            raise ValueError(f"{campaign.top_k}: {name} was not placed and relaxed in this campaign; select again")
        atoms = initial[name].read()
        atoms.positions = final[name]
        found.append((one, atoms))
    return found


def write_vasp(campaign: Campaign, kind: str) -> tuple[int, int]:
    """Write VASP's inputs for the selected structures; those that are there stay.

    Args:
        campaign: With `top_k.csv`.
        kind: `single-point`, or `relaxation` for DFT relaxations from there.

    Returns:
        Folders written now, and in all.

    Raises:
        ValueError: If a folder's inputs are for another structure, or the single points are computed otherwise.
    """
    structures = selected_structures(campaign)
    settle(campaign.folder, STAGE, {"method": "vasp", "vasp": kind}, _DEFAULTS)
    written = 0
    for one, atoms in structures:
        folder = _folder(campaign, one)
        if _is_for(folder, atoms):
            continue
        write_vasp_inputs(atoms, folder, kind)
        write_structures(folder / STRUCTURE, [atoms])
        written += 1
    return written, len(structures)


def compute(
    campaign: Campaign,
    calculator: str,
    keywords: Mapping[str, Any],
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> int:
    """Compute the selected structures by an ASE calculator; what is computed already stays.

    Args:
        campaign: With `top_k.csv`.
        calculator: See `build_calculator`; each structure gets a new one, which works in the structure's folder.
        keywords: Of the calculator.
        on_progress: Called with structures done and structures in all.

    Returns:
        How many were computed now.

    Raises:
        ValueError: If a folder's result is for another structure, or the single points are computed otherwise.
        RuntimeError: If a calculation fails; the message names the structure.
    """
    structures = selected_structures(campaign)
    build_calculator(calculator, keywords)
    given = {"method": "calculator", "calculator": calculator, "keywords": dict(keywords)}
    settle(campaign.folder, STAGE, given, _DEFAULTS)
    computed = 0
    for number, (one, atoms) in enumerate(structures, 1):
        folder = _folder(campaign, one)
        if not (_is_for(folder, atoms) and (folder / RESULT).exists()):
            write_structures(folder / STRUCTURE, [atoms])
            try:
                result = _compute(one, atoms, calculator, keywords, folder)
            except Exception as error:  # each calculator has its own
                name = structure_id(one.system, one.config)
                raise RuntimeError(f"single point of {name} by {calculator}: {error}") from error
            write_json(folder / RESULT, asdict(result))
            computed += 1
        on_progress(number, len(structures))
    return computed


def collect(campaign: Campaign) -> tuple[list[SinglePoint], list[str]]:
    """Read the results that are there, and write `single_points.csv`.

    Returns:
        The rows of the table, and the names of the selected structures without a result.

    Raises:
        ValueError: If a result cannot be read or is for another structure.
    """
    found, missing = [], []
    for one, atoms in selected_structures(campaign):
        folder = _folder(campaign, one)
        result = _result(one, folder) if _is_for(folder, atoms) else None
        if result is None:
            missing.append(structure_id(one.system, one.config))
        else:
            found.append(result)
    write_table(campaign.single_point_table, found, SinglePoint)
    return found, missing


def scf_steps(calculator: Any) -> int:
    """Electronic steps of a calculator's last calculation; 1 for calculators that have none, like EMT."""
    count = getattr(calculator, "get_number_of_iterations", lambda: None)()
    return 1 if count is None else int(count)


def _compute(
    one: RankedConfiguration, atoms: Atoms, calculator: str, keywords: Mapping[str, Any], folder: Path
) -> SinglePoint:
    atoms.calc = build_calculator(calculator, keywords)
    if hasattr(atoms.calc, "directory"):
        atoms.calc.directory = folder
    energy = float(atoms.get_potential_energy())
    converged = getattr(atoms.calc, "converged", True) is not False
    return SinglePoint(one.system, one.config, energy, scf_steps(atoms.calc), 1, converged)


def _result(one: RankedConfiguration, folder: Path) -> SinglePoint | None:
    stored = folder / RESULT
    if stored.exists():
        found = read_json(stored)
        with reading(stored):
            return SinglePoint(**found)
    vasp = read_vasp_result(folder)
    if vasp is None:
        return None
    return SinglePoint(one.system, one.config, vasp.energy, vasp.scf_steps, vasp.ionic_steps, vasp.converged)


def _is_for(folder: Path, atoms: Atoms) -> bool:
    """Whether a folder was made for this structure; False if there is none.

    Raises:
        ValueError: If it was made for another.
    """
    path = folder / STRUCTURE
    if not path.exists():
        return False
    if path.read_text(encoding="utf-8") != extended_xyz([atoms]):
        raise ValueError(f"{folder} is for another structure than the one selected now: move the folder away")
    return True


def _folder(campaign: Campaign, one: RankedConfiguration) -> Path:
    return campaign.single_points / structure_id(one.system, one.config)
