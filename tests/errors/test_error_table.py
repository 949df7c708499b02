"""Every mistake a user can make that is known: met as users meet it, named by its value, with the way out."""

from __future__ import annotations

import copy
import errno
import importlib.util
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ase.io
import lmdb
import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import fcc111, molecule
from ase.calculators.singlepoint import SinglePointCalculator
from typer.testing import CliRunner, Result

from ev2_plugin.cli.main import app
from ev2_plugin.finetuning.request import Request, begin
from ev2_plugin.integration import memory_guard
from ev2_plugin.integration.calculator import Calculator
from ev2_plugin.integration.memory_guard import TooLittleMemoryError
from ev2_plugin.integration.starting_point import read_starting_point, write_start
from ev2_plugin.storage.atomic import written_atomically
from helpers import tiny_s2ef
from helpers.error_table import Case, Row, messages_of_page
from helpers.trainers import config as training_config
from helpers.trainers import make_trainer

pytestmark = pytest.mark.usefixtures("restored_process_state")

PAGE = Path(__file__).parents[2] / "docs/errors.md"
CLUSTER_TABLE = Path(__file__).parents[1] / "cluster/test_error_table.py"
Change = Callable[[dict[str, Any]], None]


class Bench:
    """A folder with a dataset, a run file and a checkpoint, and the commands.

    Args:
        folder: Where.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.dataset = tiny_s2ef.write_dataset("lmdb", folder / "data")
        trainer = make_trainer(training_config(self.dataset), folder / "trained")
        self.checkpoint = Path(trainer.save())
        self.monkeypatch = pytest.MonkeyPatch()

    def ev2(self, *arguments: object) -> Result:
        return CliRunner().invoke(app, [str(one) for one in arguments])

    def run_file(self, change: Change = lambda config: None, model: dict[str, Any] = tiny_s2ef.FLAT_MODEL) -> Path:
        config = tiny_s2ef.config(self.dataset, copy.deepcopy(model), "ev2_plugin.Trainer")
        config["optim"]["load_balancing"] = None
        change(config)
        return tiny_s2ef.write_config(self.folder / "run.yml", config)

    def fairchem(self, *arguments: object, mode: str = "train") -> Result:
        flags = ["--run-dir", self.folder / "run", "--cpu"]
        return self.ev2("fairchem", "--mode", mode, *flags, *arguments)

    def train(self, change: Change, model: dict[str, Any] = tiny_s2ef.FLAT_MODEL) -> Result:
        return self.fairchem("--config-yml", self.run_file(change, model))

    def on_samples(self, change: Callable[[Any], None], place: int = 2) -> dict[str, Any]:
        """The dataset with one sample changed."""

        def edit(transaction: Any) -> None:
            key = str(place).encode()
            sample = pickle.loads(transaction.get(key))
            change(sample)
            transaction.put(key, pickle.dumps(sample))

        return self.on_file(edit)

    def on_file(self, edit: Callable[[Any], None]) -> dict[str, Any]:
        """The dataset with its LMDB changed."""
        folder = self.folder / "changed"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(self.dataset["src"], folder)
        file = str(folder / "data.0000.lmdb")
        with lmdb.open(file, subdir=False, map_size=2**24) as environment, environment.begin(write=True) as transaction:
            edit(transaction)
        return {**self.dataset, "src": str(folder)}

    def train_on(self, dataset: dict[str, Any]) -> Result:
        return self.train(lambda config: config.update(dataset={"train": dataset, "val": dataset}))

    def check(self, dataset: dict[str, Any]) -> Result:
        path = self.run_file(lambda config: config.update(dataset={"train": dataset, "val": dataset}))
        return self.ev2("check", path, "--cpu")

    def relax(self, *structures: Atoms, out: Path | None = None) -> Result:
        ase.io.write(self.folder / "start.traj", list(structures))
        shutil.rmtree(self.folder / "relaxed.traj.work", ignore_errors=True)
        out = out or self.folder / "relaxed.traj"
        flags = ["--checkpoint", self.checkpoint, "--steps", 1, "--device", "cpu"]
        return self.ev2("relax", self.folder / "start.traj", *flags, "--out", out)

    def finetune(self, *structures: Atoms, checkpoint: Path | None = None, options: tuple[object, ...] = ()) -> Result:
        for folder in ("mine", "tuned"):
            shutil.rmtree(self.folder / folder, ignore_errors=True)
        (self.folder / "mine").mkdir()
        for number, one in enumerate(structures):
            ase.io.write(self.folder / f"mine/{number}.traj", one)
        flags = ["--checkpoint", checkpoint or self.checkpoint, "--device", "cpu", "--split", "0.5,0.5,0"]
        return self.ev2("finetune", self.folder / "mine", *flags, "--out", self.folder / "tuned", *options)

    def calculate(self, atoms: Atoms) -> float:
        atoms.calc = Calculator(self.checkpoint, device="cpu")
        return float(atoms.get_potential_energy())


def labelled(energy: float, *, forces: bool = True, element: int = 29) -> list[Atoms]:
    """Four slabs with an energy (eV) and, if wanted, forces."""
    made = []
    for number in range(4):
        one = slab()
        one.positions[0, 2] += 0.1 * number
        one.numbers[0] = element
        labels = {"energy": energy + number, **({"forces": np.full((len(one), 3), 0.1)} if forces else {})}
        one.calc = SinglePointCalculator(one, **labels)
        made.append(one)
    return made


def without_reference(bench: Bench) -> Result:
    """Fine-tuning of a checkpoint that has a reference for gold alone."""
    checkpoint = bench.folder / "gold.pt"
    write_start(checkpoint, read_starting_point(bench.checkpoint), {"Au": 1.0}, None)
    return bench.finetune(*labelled(0.0), checkpoint=checkpoint, options=("--references", "keep"))


def begun_with_other_epochs(bench: Bench) -> Result:
    """A folder in which a plan for four epochs lies."""
    out = bench.folder / "other"
    shutil.rmtree(out, ignore_errors=True)
    flags = ["--checkpoint", bench.checkpoint, "--out", out]
    begin(Request((bench.folder / "mine",), bench.checkpoint, out, epochs=4), planned=False)
    (out / "plan.json").touch()
    return bench.ev2("finetune", bench.folder / "mine", *flags)


@pytest.fixture(scope="module")
def shared_bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench(tmp_path_factory.mktemp("errors"))


@pytest.fixture
def bench(shared_bench: Bench) -> Any:
    """The bench; what a case patches is taken back."""
    with pytest.MonkeyPatch.context() as patch:
        shared_bench.monkeypatch = patch
        yield shared_bench


def put(path: str, value: object) -> Change:
    """Set a value of a config, `optim.lr_initial`."""

    def change(config: dict[str, Any]) -> None:
        here: Any = config
        *above, last = path.split(".")
        for key in above:
            here = here[int(key)] if isinstance(here, list) else here[key]
        here[last] = value

    return change


def config_case(path: str, value: object, said: str, model: dict[str, Any] = tiny_s2ef.FLAT_MODEL) -> Case:
    return Case(lambda bench: bench.train(put(path, value), model), said)


def misspelt(path: str, meant: str, model: dict[str, Any] = tiny_s2ef.FLAT_MODEL) -> tuple[str, Case]:
    shown = ".".join(part for part in path.split(".") if not part.isdigit())
    return path, config_case(path, {}, f"{shown} (did you mean {meant!r}?)", model)


def slab() -> Atoms:
    atoms = fcc111("Cu", (2, 2, 2), vacuum=6.0, periodic=True)
    atoms.rattle(0.05, seed=1)
    return atoms


def moved(place: int, to: Any) -> Atoms:
    atoms = slab()
    atoms.positions[place] = to if not isinstance(to, int) else atoms.positions[to]
    return atoms


def with_cell(change: Callable[[Any], Any]) -> Atoms:
    atoms = slab()
    atoms.set_cell(change(atoms.cell.array.copy()))
    return atoms


def flat(cell: Any) -> Any:
    cell[1] = cell[0]
    return cell


def no_number(cell: Any) -> Any:
    cell[2, 2] = float("nan")
    return cell


def of_element(number: int) -> Atoms:
    atoms = slab()
    atoms.numbers[3] = number
    return atoms


def broken_module(bench: Bench) -> Result:
    """Twice in one process: the host's registry hides the cause the second time."""
    (bench.folder / "own_models.py").write_text("import library_that_is_not_there\n")
    bench.monkeypatch.syspath_prepend(bench.folder)
    for _ in range(2):
        result = bench.train(put("model.name", "own_models.Model"))
    return result


def coincide(sample: Any) -> None:
    sample.pos[3] = sample.pos[5]


def nan_position(sample: Any) -> None:
    sample.pos[3, 1] = float("nan")


def flatten(sample: Any) -> None:
    sample.cell[0, 1] = sample.cell[0, 0]


def truncated(bench: Bench) -> Result:
    dataset = bench.on_file(lambda transaction: None)
    path = Path(dataset["src"]) / "data.0000.lmdb"
    path.write_bytes(path.read_bytes()[:9000])
    return bench.train_on(dataset)


def emptied(transaction: Any) -> None:
    for number in range(tiny_s2ef.NUM_STRUCTURES):
        transaction.delete(str(number).encode())
    transaction.put(b"length", pickle.dumps(0))


def no_structures(bench: Bench) -> Result:
    (bench.folder / "nothing").mkdir(exist_ok=True)
    return bench.train_on({**bench.dataset, "src": str(bench.folder / "nothing")})


def little_memory(bench: Bench) -> None:
    bench.monkeypatch.setattr(memory_guard, "NOT_ASKED", 0)
    bench.monkeypatch.setattr(memory_guard, "free_memory", lambda device: 1000)


def too_large(use: Callable[[Bench], Any]) -> Callable[[Bench], Any]:
    def how(bench: Bench) -> Any:
        little_memory(bench)
        return use(bench)

    return how


def fails(function: str, number: int) -> Callable[[Bench], None]:
    def how(bench: Bench) -> None:
        def refuse(*arguments: object, **keywords: object) -> Any:
            raise OSError(number, "as the system says")

        bench.monkeypatch.setattr(function, refuse)

    return how


def full_disk(bench: Bench) -> None:
    fails("os.fsync", errno.ENOSPC)(bench)
    with written_atomically(bench.folder / "file") as file:
        file.write(b"x")


def full_disk_in_relaxation(bench: Bench) -> Result:
    fails("os.fsync", errno.ENOSPC)(bench)
    return bench.relax(slab())


def unreadable_checkpoint(bench: Bench) -> Result:
    def refuse(self: Path, *arguments: object, **keywords: object) -> Any:
        raise PermissionError(errno.EACCES, "Permission denied", str(self))

    bench.monkeypatch.setattr(Path, "open", refuse)
    return bench.ev2("relax", bench.folder / "start.traj", "--checkpoint", bench.checkpoint)


def without_slurm(bench: Bench) -> Result:
    bench.monkeypatch.setattr("ev2_plugin.integration.slurm.shutil.which", lambda command: None)
    return bench.fairchem("--config-yml", bench.run_file(), "--submit", "--logdir", bench.folder / "logs")


def folder_in_the_way(bench: Bench) -> Result:
    (bench.folder / "taken").write_text("")
    return bench.relax(slab(), out=bench.folder / "taken" / "out.traj")


HYDRA = tiny_s2ef.HYDRA_MODEL
ROWS = (
    Row(
        "nothing reads …",
        dict(
            [
                misspelt("optimm", "optim"),
                misspelt("model.num_layer", "num_layers"),
                misspelt("model.pass_through_head_output", "pass_through_head_outputs", HYDRA),
                misspelt("model.backbone.num_layer", "num_layers", HYDRA),
                misspelt("model.heads.energy.reduced", "reduce", HYDRA),
                misspelt("optim.lr_intial", "lr_initial"),
                misspelt("dataset.trian", "train"),
                misspelt("dataset.train.srcc", "src"),
                misspelt("task.prediction_dtyp", "prediction_dtype"),
                misspelt("outputs.energy.levl", "level"),
                misspelt("loss_functions.0.energy.coeficient", "coefficient"),
                misspelt("evaluation_metrics.metricss", "metrics"),
            ]
        )
        | {"slurm": config_case("slurm", {"constraintt": "a"}, "slurm.constraintt (did you mean 'constraint'?)")},
    ),
    Row(
        "… must be …, got …",
        {
            "mapping": config_case("optim.optimizer_params", [1], "optim.optimizer_params must be a mapping"),
            "list": config_case("evaluation_metrics.metrics.energy", "mae", "must be a list, got 'mae'"),
            "number": config_case("optim.lr_initial", "1e-4", "got '1e-4' (YAML takes 1e-4 for text"),
            "count": config_case("optim.batch_size", 2.5, "optim.batch_size must be a positive integer, got 2.5"),
            "source": config_case("dataset.train.src", 3, "dataset.train.src must be a file or folder"),
            "choice": config_case("outputs.energy.level", "molecule", "must be system or atom, got 'molecule'"),
            "part": config_case("optim.freeze", "heads", "optim.freeze must be none, embedding, blocks:N"),
        },
    ),
    Row(
        "… is missing",
        {
            "model": config_case("model", None, "model is missing"),
            "lr": config_case("optim.lr_initial", None, "optim.lr_initial is missing"),
        },
    ),
    Row(
        "no … is called …; perhaps …",
        {
            "model": config_case("model.name", "equiformer_v22", "no model is called 'equiformer_v22'; perhaps"),
            "loss": config_case("loss_functions.0.energy.fn", "maee", "'mae'"),
            "dataset": config_case("dataset.train.format", "lmbd", "'lmdb'"),
            "logger": config_case("logger", "tensorbord", "'tensorboard'"),
        },
    ),
    Row(
        "… cannot be imported: …",
        {"own": Case(broken_module, "own_models cannot be imported: No module named 'library_that_is_not_there'")},
    ),
    Row("--submit needs SLURM, and there is no … on this machine…", {"train": Case(without_slurm, "sbatch")}),
    Row(
        "dataset.… does not exist",
        {"train": Case(lambda bench: bench.train_on({**bench.dataset, "src": "/no/data"}), "/no/data")},
    ),
    Row(
        "dataset.… is empty…",
        {
            "no samples": Case(lambda bench: bench.train_on(bench.on_file(emptied)), "it has no samples"),
            "no files": Case(no_structures, "the folder has no *.lmdb"),
        },
    ),
    Row(
        "… counts … structures…",
        {
            "too many": Case(
                lambda bench: bench.train_on(bench.on_file(lambda lmdb: lmdb.put(b"length", pickle.dumps(7)))),
                "counts 7 structures and has no more than",
            ),
            "too few": Case(
                lambda bench: bench.train_on(bench.on_file(lambda lmdb: lmdb.put(b"length", pickle.dumps(2)))),
                "counts 2 structures, but there is one after them",
            ),
        },
    ),
    Row(
        "… entry … is missing",
        {
            "training": Case(
                lambda bench: bench.train_on(bench.on_file(lambda lmdb: lmdb.delete(b"1"))), "entry 1", ValueError
            )
        },
    ),
    Row("… is truncated: … bytes of …", {"lmdb": Case(truncated, "9000 bytes of")}),
    Row(
        "… atoms … and … are … Å apart …: atoms must not coincide",
        {
            "training": Case(
                lambda bench: bench.train_on(bench.on_samples(coincide)), "(sid 2, fid 0): atoms 3 and 5", ValueError
            ),
            "check": Case(lambda bench: bench.check(bench.on_samples(coincide)), "sample 2 of dataset.train"),
            "relaxation": Case(lambda bench: bench.relax(slab(), moved(3, 5)), "structure start_1: atoms 3 and 5"),
            "calculator": Case(lambda bench: bench.calculate(moved(3, 5)), "atoms 3 and 5", ValueError),
        },
    ),
    Row(
        "… position of atom … is …: positions must be finite numbers …",
        {
            "training": Case(
                lambda bench: bench.train_on(bench.on_samples(nan_position)), "(sid 2, fid 0)", ValueError
            ),
            "calculator": Case(lambda bench: bench.calculate(moved(3, float("inf"))), "atom 3 is [inf", ValueError),
            "relaxation": Case(
                lambda bench: bench.relax(moved(3, float("nan"))), "structure start: position of atom 3"
            ),
        },
    ),
    Row(
        "… its cell … must be finite numbers …",
        {"calculator": Case(lambda bench: bench.calculate(with_cell(no_number)), "nan", ValueError)},
    ),
    Row(
        "… is singular for its periodic directions …",
        {
            "training": Case(lambda bench: bench.train_on(bench.on_samples(flatten)), "(sid 2, fid 0)", ValueError),
            "calculator": Case(lambda bench: bench.calculate(with_cell(flat)), "[True, True, True]", ValueError),
        },
    ),
    Row(
        "… has atomic number …, but the model's…tables end at …",
        {
            "calculator": Case(
                lambda bench: bench.calculate(of_element(95)), "atom 3 has atomic number 95", ValueError
            ),
            "relaxation": Case(lambda bench: bench.relax(of_element(95)), "structure start: atom 3"),
        },
    ),
    Row(
        "… has atomic number …: elements are counted from 1",
        {"calculator": Case(lambda bench: bench.calculate(of_element(0)), "atom 3 has atomic number 0", ValueError)},
    ),
    Row(
        "… takes … GB at the least, and … GB are free on …. What helps: …",
        {
            "training": Case(
                too_large(lambda bench: bench.train(lambda config: None)), "a training step on", TooLittleMemoryError
            ),
            "calculator": Case(
                too_large(lambda bench: bench.calculate(slab())), "a structure of 8 atoms", TooLittleMemoryError
            ),
            "relaxation": Case(too_large(lambda bench: bench.relax(slab())), "does not fit into the memory by itself"),
        },
    ),
    Row(
        "the energies do not fit …, whose energies are of the kind …, while the labels look like …",
        {"total energies": Case(lambda bench: bench.finetune(*labelled(-900.0)), "--references fit")},
    ),
    Row(
        "… has no … where ASE looks for them; it has: …",
        {
            "no forces": Case(lambda bench: bench.finetune(*labelled(0.0, forces=False)), "has no forces"),
            "nothing": Case(lambda bench: bench.finetune(*[slab()] * 4), "has no energy and no forces"),
        },
    ),
    Row(
        "… is for atomic numbers below … (max_num_elements), and the data have …",
        {"curium": Case(lambda bench: bench.finetune(*labelled(0.0, element=96)), "below 90 (max_num_elements)")},
    ),
    Row(
        "… has no element reference for …: --references fit makes new ones",
        {"copper": Case(without_reference, "no element reference for Cu")},
    ),
    Row(
        "… exists and is no folder of a fine-tuning: choose another --out",
        {"a file of mine": Case(lambda bench: bench.finetune(options=("--out", bench.dataset["src"])), "no folder of")},
    ),
    Row(
        "… was begun with …, not …: give the same again to go on, or choose another --out",
        {"epochs": Case(begun_with_other_epochs, "begun with epochs 4, not 16")},
    ),
    Row(
        "no space left (… MB free, or the quota is used up); what was there is kept",
        {"any file": Case(full_disk, "MB free", OSError)},
    ),
    Row("…: permission denied", {"checkpoint": Case(unreadable_checkpoint, "checkpoint.pt: permission denied")}),
    Row("…: not a directory", {"file in the way": Case(folder_in_the_way, "taken")}),
)

WORKING = {
    "one atom": Atoms("Cu", positions=[[0, 0, 0]]),
    "one atom in a cell": Atoms("Cu", cell=[20, 20, 20], pbc=True),
    "no edges": Atoms("Cu2", positions=[[0, 0, 0], [0, 0, 30]]),
    "left-handed cell": with_cell(lambda cell: cell[[1, 0, 2]]),
}
"""What looks like a mistake and is none."""


def outcome(case: Case, bench: Bench) -> tuple[int | type[BaseException], str]:
    """How it ended and what was said."""
    try:
        result = case.how(bench)
    except Exception as error:
        return type(error), str(error)
    if isinstance(case.ends, int):
        return result.exit_code, result.output
    assert result.exit_code == 1
    return type(result.exception), str(result.exception)


@pytest.mark.parametrize(
    ("row", "case"),
    [pytest.param(row, case, id=f"{row.message}-{name}") for row in ROWS for name, case in row.cases.items()],
)
def test_a_mistake_is_named(row: Row, case: Case, bench: Bench) -> None:
    ends, said = outcome(case, bench)
    assert ends == case.ends if isinstance(case.ends, int) else issubclass(ends, case.ends), said
    assert row.matches(said), said
    assert case.said in " ".join(said.split()), said
    if isinstance(case.ends, int):
        assert "Traceback" not in said


@pytest.mark.parametrize("name", WORKING)
def test_what_looks_like_a_mistake_works(name: str, bench: Bench) -> None:
    alone = bench.calculate(WORKING[name].copy())
    result = bench.relax(WORKING[name], slab())
    assert result.exit_code in (0, 3), result.output
    together = Calculator(bench.checkpoint, device="cpu").batch([slab(), WORKING[name], molecule("H2O", vacuum=4.0)])
    assert together[1]["energy"] == pytest.approx(alone, abs=1e-5)
    assert torch.isfinite(torch.as_tensor(together[1]["forces"])).all()


def test_the_page_lists_every_message_and_no_other() -> None:
    spec = importlib.util.spec_from_file_location("cluster_error_table", CLUSTER_TABLE)
    assert spec is not None
    assert spec.loader is not None
    cluster = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(cluster)
    expected = [row.message for row in (*ROWS, *cluster.ROWS)]
    assert sorted(messages_of_page(PAGE.read_text(encoding="utf-8"))) == sorted(expected)
