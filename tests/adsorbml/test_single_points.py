"""Single points: what VASP is given and what it says, calculations here, and the table of both."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.calculators.emt import EMT
from ase.constraints import FixAtoms
from fairchem.data.oc.utils.vasp import write_vasp_input_files
from fairchem.data.oc.utils.vasp_flags import VASP_FLAGS
from pymatgen.io.vasp.inputs import Incar
from pymatgen.io.vasp.outputs import Oszicar

from ev2_plugin.adsorbml import single_points
from ev2_plugin.adsorbml.campaign import Campaign
from ev2_plugin.adsorbml.records import RankedConfiguration, SinglePoint
from ev2_plugin.adsorbml.single_points import collect, compute, scf_steps, selected_structures, write_vasp
from ev2_plugin.adsorbml.tables import read_table, write_table
from ev2_plugin.adsorbml.vasp import VaspResult, k_points, read_vasp_result, write_vasp_inputs
from helpers.adslabs import adsorbed, tagged_slab
from helpers.campaigns import relaxed, write_placements, write_relaxations

SYSTEM = "6_1134_23"
CONFIGS = ("heuristic-000", "random-000", "random-001")


@pytest.fixture
def campaign(tmp_path: Path) -> Campaign:
    """Three relaxed structures of a system, the last two of them selected."""
    made = Campaign(tmp_path / "campaign")
    slab = tagged_slab(size=(2, 2, 2))
    slab.set_constraint(FixAtoms(mask=slab.get_tags() == 0))
    initial = {config: adsorbed(slab, Atoms("O"), atom=4 + index) for index, config in enumerate(CONFIGS)}
    write_placements(made, SYSTEM, slab, Atoms("O"), initial)
    final = [one.positions + np.where(one.get_tags() == 2, -0.123456789, 0.0)[:, None] for one in initial.values()]
    write_relaxations(
        made.relaxations / "shard-000",
        [relaxed(SYSTEM, config, positions) for config, positions in zip(CONFIGS, final, strict=True)],
    )
    select(made, *CONFIGS[1:])
    return made


def select(campaign: Campaign, *configs: str) -> None:
    rows = [RankedConfiguration(SYSTEM, rank, config, -1.0) for rank, config in enumerate(configs, 1)]
    write_table(campaign.top_k, rows, RankedConfiguration)


def folder(campaign: Campaign, config: str) -> Path:
    return campaign.single_points / f"{SYSTEM}.{config}"


def oszicar(changes: list[list[float]], energies: list[str], mark: str = "DAV") -> str:
    """What VASP writes: lines of electronic steps, then one for the ionic step that they belong to."""
    lines = []
    for number, steps in enumerate(changes, 1):
        lines.append("       N       E                     dE             d eps       ncg     rms          rms(c)")
        lines += [
            f"{mark}:{step:4d}    {-100.0:18.12E}   {change:12.5E}   -0.1E+02  4000   0.1E+02"
            for step, change in enumerate(steps, 1)
        ]
        if number <= len(energies):
            energy = energies[number - 1]
            lines.append(f"{number:4d} F= -.99990000E+02 E0= {energy}  d E =-.999900E+02")
    return "\n".join(lines) + "\n"


@pytest.mark.filterwarnings("ignore:Loaded VASP_PP_PATH")
def test_inputs_are_those_of_the_package_that_made_oc20(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    atoms = adsorbed(tagged_slab("Pt", (3, 4, 3)), Atoms("OH", [[0, 0, 0], [0, 0, 1]]))
    atoms.numbers[3] = 29
    atoms.set_constraint(FixAtoms(mask=atoms.get_tags() == 0))
    atoms.cell[1] *= -1  # left-handed
    for symbol in ("Pt", "Cu", "O", "H"):
        (tmp_path / "potpaw_PBE" / symbol).mkdir(parents=True)
        (tmp_path / "potpaw_PBE" / symbol / "POTCAR").write_text("\n")
    monkeypatch.setenv("VASP_PP_PATH", str(tmp_path))
    for kind, flags in {"single-point": {"nsw": 0, "nelm": 300}, "relaxation": {"nsw": 2000, "nelm": 60}}.items():
        theirs, ours = tmp_path / f"theirs-{kind}", tmp_path / f"ours-{kind}"
        theirs.mkdir()
        write_vasp_input_files(atoms.copy(), theirs, {**VASP_FLAGS, **flags})
        write_vasp_inputs(atoms.copy(), ours, kind)
        assert Incar.from_file(ours / "INCAR") == Incar.from_file(theirs / "INCAR")
        grids = [(one / "KPOINTS").read_text().splitlines()[1:] for one in (ours, theirs)]
        assert grids[0] == grids[1]
        mine, host = (ase.io.read(one / "POSCAR") for one in (ours, theirs))
        assert np.linalg.det(mine.cell) > 0
        np.testing.assert_array_equal(mine.cell, host.cell)
        order, host_order = (np.lexsort(one.positions.T) for one in (mine, host))
        np.testing.assert_allclose(mine.positions[order], host.positions[host_order], atol=1e-12)
        assert (mine.numbers[order] == host.numbers[host_order]).all()
        for one, places in ((mine, order), (host, host_order)):
            fixed = np.isin(places, one.constraints[0].index)
            assert fixed.tolist() == (atoms.get_tags() == 0)[np.lexsort(atoms.positions.T)].tolist()
        labels = (ours / "POTCAR.labels").read_text().split()
        assert labels == [f"PBE/{symbol}" for symbol in (ours / "POSCAR").read_text().splitlines()[5].split()]


def test_grids_follow_components_not_lengths() -> None:
    assert k_points(np.array([[6.0, 6.0, 0], [0, 30.0, 0], [0, 0, 99]])) == (7, 1, 1)
    assert k_points(np.array([[100.0, 0, 0], [0, 8.0, 0], [0, 0, 99]])) == (1, 5, 1)


def test_inputs_need_a_cell_and_a_kind(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="choose one of single-point, relaxation"):
        write_vasp_inputs(Atoms("O", cell=[5, 5, 5]), tmp_path, "md")
    with pytest.raises(ValueError, match="cell of three vectors"):
        write_vasp_inputs(Atoms("O"), tmp_path, "relaxation")


def published_reading(path: Path, nelm: int, frame: int) -> tuple[int, int, bool]:
    """SCF steps, ionic steps and convergence by the rule of the published evaluation, with pymatgen's reader."""
    steps = Oszicar(path).electronic_steps
    converged = len(steps[frame]) < nelm or abs(steps[frame][-1]["dE"]) < 1e-4
    return sum(map(len, steps)), len(steps), converged


@pytest.mark.parametrize(
    ("changes", "nelm", "converged"),
    [
        ([[-99.0, -1.0, 1e-3]], 300, True),  # stopped early
        ([[-99.0, -1.0, 1e-3]], 3, False),  # all steps and still changing
        ([[-99.0, -1.0, -5e-5]], 3, True),  # all steps, but the last changed little
        ([[-99.0, 1.0], [0.5, 0.1, 1e-2]], 3, False),  # a relaxation whose last geometry did not converge
        ([[-99.0, 1.0, 0.1], [0.5, 0.1]], 3, True),
    ],
)
def test_results_are_read_as_the_published_evaluation_does(
    tmp_path: Path, changes: list[list[float]], nelm: int, converged: bool
) -> None:
    energies = [f"-.{number}2345678E+02" for number in range(1, len(changes) + 1)]
    (tmp_path / "OSZICAR").write_text(oszicar(changes, energies))
    (tmp_path / "INCAR").write_text(f"NSW = 0\nNELM = {nelm}\n")
    result = read_vasp_result(tmp_path)
    assert result is not None
    expected = published_reading(tmp_path / "OSZICAR", nelm, -1)
    assert (result.scf_steps, result.ionic_steps, result.converged) == (*expected[:2], converged)
    assert expected[2] == converged
    assert result.energy == Oszicar(tmp_path / "OSZICAR").ionic_steps[-1]["E0"]


def test_restarts_count_together_and_lost_exponents_are_read(tmp_path: Path) -> None:
    (tmp_path / "OSZICAR.1").write_text(oszicar([[1.0, 2.0], [1.0]], ["-.5E+02"], "RMM"))
    (tmp_path / "OSZICAR").write_text(oszicar([[1.0, 1e-3]], ["-.5E+02"]).replace("1.00000E-03", "1.00000-103"))
    assert read_vasp_result(tmp_path) == VaspResult(-50.0, 5, 3, True)  # NELM is 60 where INCAR says nothing


def test_what_has_not_ended_is_no_result(tmp_path: Path) -> None:
    assert read_vasp_result(tmp_path) is None
    for text in ("", oszicar([[1.0]], []), oszicar([[1.0], [2.0, 3.0]], ["-.5E+02"])):
        (tmp_path / "OSZICAR").write_text(text)
        assert read_vasp_result(tmp_path) is None
    (tmp_path / "OSZICAR").write_text(oszicar([[1.0]], ["********"]))
    with pytest.raises(ValueError, match="line 3: .* has no energy E0"):
        read_vasp_result(tmp_path)


def test_vasp_gets_the_selected_structures_and_its_results_are_collected(campaign: Campaign) -> None:
    assert write_vasp(campaign, "single-point") == (2, 2)
    assert write_vasp(campaign, "single-point") == (0, 2)
    assert sorted(path.name for path in campaign.single_points.iterdir()) == [f"{SYSTEM}.{one}" for one in CONFIGS[1:]]
    incar = Incar.from_file(folder(campaign, CONFIGS[1]) / "INCAR")
    assert (incar["NSW"], incar["NELM"]) == (0, 300)
    assert collect(campaign) == ([], [f"{SYSTEM}.{one}" for one in CONFIGS[1:]])
    (folder(campaign, CONFIGS[2]) / "OSZICAR").write_text(oszicar([[1.0, 1e-3]], ["-.51234567E+02"]))
    expected = SinglePoint(SYSTEM, CONFIGS[2], -51.234567, 2, 1, True)
    assert collect(campaign) == ([expected], [f"{SYSTEM}.{CONFIGS[1]}"])
    assert read_table(campaign.single_point_table, SinglePoint) == [expected]


def test_calculators_compute_what_is_missing(campaign: Campaign, monkeypatch: pytest.MonkeyPatch) -> None:
    assert compute(campaign, "emt", {}) == 2
    found, missing = collect(campaign)
    assert not missing
    for result, (row, atoms) in zip(found, selected_structures(campaign), strict=True):
        atoms.calc = EMT()
        assert result == SinglePoint(SYSTEM, row.config, atoms.get_potential_energy(), 1, 1, True)
    monkeypatch.setattr(single_points, "_compute", None)
    seen: list[tuple[int, int]] = []
    assert compute(campaign, "emt", {}, lambda *count: seen.append(count)) == 0
    assert seen == [(1, 2), (2, 2)]


def test_a_calculation_that_was_cut_off_is_done_again(campaign: Campaign) -> None:
    compute(campaign, "emt", {})
    stored = folder(campaign, CONFIGS[1]) / "result.json"
    before = json.loads(stored.read_text())
    stored.unlink()
    assert collect(campaign)[1] == [f"{SYSTEM}.{CONFIGS[1]}"]
    assert compute(campaign, "emt", {}) == 1
    assert json.loads(stored.read_text()) == before


def test_results_are_never_those_of_another_structure_or_method(campaign: Campaign) -> None:
    compute(campaign, "emt", {})
    with pytest.raises(ValueError, match="begun with method 'calculator', now it is 'vasp'"):
        write_vasp(campaign, "single-point")
    with pytest.raises(ValueError, match="begun with calculator 'emt'"):
        compute(campaign, "ev2_plugin.adsorbml.disturbed_emt.DisturbedEMT", {})
    shard = campaign.relaxations / "shard-000"
    positions = np.fromfile(shard / "relaxed.positions")
    (positions + 1e-3).tofile(shard / "relaxed.positions")
    for stage in (lambda: compute(campaign, "emt", {}), lambda: collect(campaign)):
        with pytest.raises(ValueError, match="another structure than the one selected now"):
            stage()


def test_a_selection_from_elsewhere_is_refused(campaign: Campaign) -> None:
    select(campaign, "random-999")
    with pytest.raises(ValueError, match=r"6_1134_23\.random-999 was not placed and relaxed"):
        compute(campaign, "emt", {})
    campaign.top_k.unlink()
    with pytest.raises(ValueError, match="'ev2 adsorbml select' makes it"):
        compute(campaign, "emt", {})


def test_a_calculation_that_fails_names_its_structure(campaign: Campaign) -> None:
    with pytest.raises(RuntimeError, match=rf"single point of 6_1134_23\.{CONFIGS[1]} by .*: the queue is full"):
        compute(campaign, f"{__name__}:Failing", {})
    assert len(collect(campaign)[1]) == 2


class Failing(EMT):
    """A calculator that cannot."""

    def calculate(self, *arguments: Any) -> None:
        """Fail."""
        raise OSError("the queue is full")


class WithElectronicSteps(EMT):
    """A calculator that says how it went."""

    def __init__(self, converged: bool = True) -> None:
        super().__init__()
        self.converged = converged

    def get_number_of_iterations(self) -> int:
        """As DFT codes of ASE have it."""
        return 17


def test_electronic_steps_count_where_a_calculator_has_them(campaign: Campaign) -> None:
    assert (scf_steps(EMT()), scf_steps(WithElectronicSteps())) == (1, 17)
    assert scf_steps(type("Silent", (), {"get_number_of_iterations": lambda self: None})()) == 1
    keywords: dict[str, Any] = {"converged": False}
    compute(campaign, f"{__name__}:WithElectronicSteps", keywords)
    assert [(one.scf_steps, one.converged) for one in collect(campaign)[0]] == [(17, False)] * 2
