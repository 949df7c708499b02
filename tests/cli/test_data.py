"""`ev2 data` as a user has it: prepare, inspect, train a step from what is written."""

from pathlib import Path

import ase.io
import numpy as np
import pytest
import yaml
from ase.build import fcc111, molecule
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms
from typer.testing import CliRunner, Result

from ev2_plugin.cli.main import app

pytestmark = pytest.mark.usefixtures("restored_process_state")

SMALL_MODEL = {
    "num_layers": 1,
    "sphere_channels": 8,
    "lmax": 2,
    "mmax": 1,
    "grid_resolution": 8,
    "attn_hidden_channels": 8,
    "num_heads": 2,
    "attn_alpha_channels": 4,
    "attn_value_channels": 4,
    "ffn_hidden_channels": 8,
    "edge_channels": 8,
    "num_radial_basis": 16,
    "max_radius": 4.0,
    "max_neighbors": 12,
}
SMALL_RUN = {
    **{"num_workers": 0, "batch_size": 2, "eval_batch_size": 2, "global_batch_size": 2, "max_epochs": 1},
    "eval_every": 2,
}


def ev2(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["data", *map(str, arguments)])


def small_recipe(path: Path, base: str, *, hydra: bool) -> Path:
    """The packaged run with a model of a thousandth of its size."""
    model = {"backbone": SMALL_MODEL} if hydra else SMALL_MODEL
    optim = {**SMALL_RUN, "scheduler_params": {"warmup_epochs": 0.5}}
    path.write_text(yaml.safe_dump({"includes": [base], "model": model, "optim": optim}))
    return path


@pytest.fixture
def slabs(tmp_path: Path) -> Path:
    """Three relaxations of an oxygen atom on copper, as .traj files."""
    folder = tmp_path / "sources"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name in ("a", "b", "c"):
        slab = fcc111("Cu", (2, 2, 2), vacuum=5.0, periodic=True)
        slab.info.clear()
        slab.append("O")
        slab.positions[-1] = slab.positions[7] + [0.2, 0.1, 1.9]
        slab.set_tags([0] * 4 + [1] * 4 + [2])
        slab.set_constraint(FixAtoms(indices=range(4)))
        frames = []
        for _ in range(4):
            slab.positions[4:] += rng.normal(scale=0.03, size=(5, 3))
            slab.calc = EMT()
            energy, forces = slab.get_potential_energy(), slab.get_forces(apply_constraint=False)
            frame = slab.copy()
            frame.calc = SinglePointCalculator(frame, energy=energy, forces=forces)
            frames.append(frame)
        ase.io.write(folder / f"{name}.traj", frames)
    return folder


CASES = {
    "s2ef": ("oc20/s2ef_2M_83M.yml", False, []),
    "oc22": ("oc20/s2ef_2M_83M.yml", False, ["--layout", "oc22"]),
    "aselmdb": ("oc20/s2ef_2M_83M.yml", False, ["--layout", "aselmdb"]),
    "is2re": ("oc20/is2re_36M.yml", True, ["--task", "is2re", "--references", "none"]),
    "is2rs": ("oc20/is2re_95M_noisy_nodes.yml", True, ["--task", "is2re", "--references", "none"]),
}


@pytest.mark.parametrize("case", CASES)
def test_what_is_prepared_is_sound_and_trains(case: str, slabs: Path, tmp_path: Path) -> None:
    from ev2_plugin.integration.launcher import main

    base, hydra, options = CASES[case]
    recipe, out = small_recipe(tmp_path / "small.yml", base, hydra=hydra), tmp_path / "out"
    share = "0.67,0.33,0" if case in ("is2re", "is2rs") else "0.4,0.3,0.3"
    result = ev2("prepare", slabs, "--out", out, "--split", share, "--recipe", recipe, *options)
    assert result.exit_code == 0, result.output
    assert f"ev2 train {out}/run.yml" in result.output.replace("\n", "")
    for split in ("train", "val"):
        result = ev2("inspect", out / split, "--recipe", out / "run.yml")
        assert result.exit_code == 0, result.output
    run = tmp_path / "runs"
    main(
        ["--mode", "train", "--config-yml", str(out / "run.yml"), "--cpu", "--run-dir", str(run), "--identifier", "it"]
    )
    assert list(run.rglob("checkpoint.pt"))


def test_molecules_of_qm9_train_too(tmp_path: Path) -> None:
    from ev2_plugin.integration.launcher import main

    raw = tmp_path / "raw"
    raw.mkdir()
    for index, name in enumerate(("CH4", "NH3", "H2O", "C2H2", "HCN", "CH3OH"), start=1):
        atoms = molecule(name)
        lines = [str(len(atoms)), "\t".join(["gdb", str(index), *(str(index + place) for place in range(15))])]
        lines += [f"{a.symbol}\t{a.x:.6f}\t{a.y:.6f}\t{a.z:.6f}\t0.0" for a in atoms]
        (raw / f"dsgdb9nsd_{index:06}.xyz").write_text("\n".join([*lines, "1.0", "C\tC", "I\tI"]) + "\n")
    (raw / "uncharacterized.txt").write_text("\n".join(["header"] * 9 + ["99  x", "last", ""]))
    recipe, out = small_recipe(tmp_path / "small.yml", "qm9/mu.yml", hydra=True), tmp_path / "out"
    options = ("--task", "qm9", "--split", "0.7,0.3,0", "--recipe", recipe)
    result = ev2("prepare", raw, "--out", out, *options)
    assert result.exit_code == 0, result.output
    assert ev2("inspect", out / "train").exit_code == 0
    run = tmp_path / "runs"
    main(
        ["--mode", "train", "--config-yml", str(out / "run.yml"), "--cpu", "--run-dir", str(run), "--identifier", "it"]
    )
    assert list(run.rglob("checkpoint.pt"))


def test_mistakes_are_one_sentence(slabs: Path, tmp_path: Path) -> None:
    recipe, out = small_recipe(tmp_path / "small.yml", "oc20/s2ef_2M_83M.yml", hydra=False), tmp_path / "out"
    hosts, split = tmp_path / "hosts.yml", ("--split", "0.4,0.3,0.3")
    hosts.write_text(yaml.safe_dump({"includes": ["demo/s2ef.yml"], "trainer": "equiformerv2_forces"}))
    for arguments, said in {
        (slabs, *split, "--recipe", "oc20/none.yml"): "no config 'oc20/none.yml'",
        (slabs, "--recipe", recipe): "say how to divide the systems",
        (slabs, "--split", "1", "--recipe", recipe): "--split 1: needs three shares",
        (slabs, *split, "--task", "qm9", "--layout", "oc22"): "--layout oc22 is no dataset that the host reads",
        (slabs, *split, "--recipe", hosts): "element references need trainer ev2_plugin.Trainer",
        (tmp_path / "nowhere", *split, "--recipe", recipe): "nowhere does not exist",
    }.items():
        result = ev2("prepare", *arguments, "--out", out)
        assert result.exit_code == 1
        assert result.stderr.strip().splitlines()[-1].startswith("error: ")
        assert said in result.stderr, result.stderr
        assert "Traceback" not in result.output
        assert not out.exists()


def test_inspect_says_no_to_labels_of_another_energy(slabs: Path, tmp_path: Path) -> None:
    recipe, out = small_recipe(tmp_path / "small.yml", "oc20/s2ef_2M_83M.yml", hydra=False), tmp_path / "out"
    result = ev2("prepare", slabs, "--out", out, "--split", "1,0,0", "--recipe", recipe)
    assert result.exit_code == 0, result.output
    result = ev2("inspect", out / "train")
    assert result.exit_code == 0
    assert "nothing here would break training" in result.output
    result = ev2("inspect", out / "train", "--normalizer", "-500,1")
    assert result.exit_code == 3
    assert "error: the labels are" in result.output
    for arguments, said in (
        ((out,), "holds no .lmdb"),
        ((out / "train", "--normalizer", "1"), "--normalizer 1: needs mean and standard deviation"),
    ):
        result = ev2("inspect", *arguments)
        assert result.exit_code == 1
        assert said in result.stderr
        assert "Traceback" not in result.output
