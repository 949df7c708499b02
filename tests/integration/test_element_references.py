"""OC22-like total energies: references in training, validation, prediction and relaxation."""

import pickle
from pathlib import Path
from typing import Any

import lmdb
import numpy as np
import pytest
import torch
from fairchem.core.modules.normalization.element_references import create_element_references
from fairchem.core.preprocessing import AtomsToGraphs
from torch_geometric.data import Batch, Data

from ev2_plugin.integration.element_references import FittedReferences, from_elements, only_fitted
from ev2_plugin.integration.trainer import Trainer
from helpers import tiny_s2ef
from helpers.trainers import config, make_trainer

OXIDE = {"Cu": -2.7232, "O": -6.6645}
PUBLISHED = Path(__file__).parents[2] / ".." / "shared" / "data" / "oc22_linfit_coeffs.npz"


@pytest.fixture(scope="module")
def oc22(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Slabs with some oxygen in OC22's layout; the total energy is a hundred times the reference's scale."""
    folder = tmp_path_factory.mktemp("oc22") / "data"
    folder.mkdir()
    environment = lmdb.open(str(folder / "data.lmdb"), map_size=2**24, subdir=False)
    convert = AtomsToGraphs(r_energy=True, r_forces=True, r_fixed=True, r_pbc=True, r_edges=False).convert
    with environment.begin(write=True) as transaction:
        for index, slab in enumerate(tiny_s2ef.slabs()):
            data = convert(slab)
            data.atomic_numbers[:index] = 8.0
            residual = 0.1 * index
            data.y = sum(OXIDE["O" if z == 8 else "Cu"] for z in data.atomic_numbers.tolist()) + residual
            data.force, data.sid, data.fid, data.oc22, data.nads = data.forces, index, 0, 1, 1
            data.tags = torch.ones(len(slab), dtype=torch.long)
            del data.energy, data.forces
            transaction.put(str(index).encode(), pickle.dumps(data, protocol=-1))
        transaction.put(b"length", pickle.dumps(tiny_s2ef.NUM_STRUCTURES))
    environment.close()
    return {
        "format": "oc22_lmdb",
        "src": str(folder),
        "key_mapping": {"y": "energy", "force": "forces"},
        "transforms": {
            "element_references": {"energy": {"elements": OXIDE}},
            "normalizer": {"energy": {"mean": 0.0, "rmsd": 25.0}, "forces": {"mean": 0.0, "rmsd": 0.15}},
        },
    }


def silent(trainer: Trainer) -> Trainer:
    """Make the model say 0, so that what comes out is the reference."""
    for parameter in trainer.model.parameters():
        parameter.data.zero_()
    trainer.ema = None
    return trainer


def references_of(batch: Any) -> torch.Tensor:
    of_atoms = torch.tensor([OXIDE["O" if z == 8 else "Cu"] for z in batch.atomic_numbers.tolist()]).double()
    return torch.zeros(len(batch.natoms)).double().index_add(0, batch.batch, of_atoms)


def test_loss_and_validation_see_referenced_energies(oc22: dict[str, Any], tmp_path: Path) -> None:
    settings = config(oc22, batch_size=4, eval_batch_size=4)
    settings["loss_functions"] = [{"energy": {"fn": "mae", "coefficient": 1}}]
    trainer = silent(make_trainer(settings, tmp_path))
    (batch,) = list(trainer.train_loader)
    loss = trainer._compute_loss(trainer._forward(batch), batch)
    assert loss.item() == pytest.approx((0.1 + 0.2 + 0.3) / 4 / 25, rel=1e-3)  # the residuals, normalised
    metrics = trainer.validate()
    assert metrics["energy_mae"]["metric"] == pytest.approx(0.15, rel=1e-3)


def test_predictions_and_relaxations_get_references_back(oc22: dict[str, Any], tmp_path: Path) -> None:
    trainer = silent(make_trainer(config(oc22, batch_size=4), tmp_path))
    (batch,) = list(trainer.train_loader)
    expected = references_of(batch)
    for per_image in (True, False):  # files; what the relaxation driver asks for
        energy = trainer.predict(batch.clone(), per_image=per_image, disable_tqdm=True)["energy"]
        energy = torch.as_tensor(np.array(energy)).double().flatten()
        torch.testing.assert_close(energy, expected, rtol=1e-7, atol=0)


def test_labels_survive_the_round_trip_to_float32_rounding(oc22: dict[str, Any], tmp_path: Path) -> None:
    trainer = make_trainer(config(oc22, batch_size=4), tmp_path)
    (batch,) = list(trainer.train_loader)
    references, normalizer = trainer.elementrefs["energy"], trainer.normalizers["energy"]
    label = batch.energy.view(-1, 1)
    normalised = normalizer.norm(references.dereference(label, batch))
    assert normalised.abs().max() < 0.02
    back = references(normalizer.denorm(normalised), batch)
    torch.testing.assert_close(back, label, rtol=2 * torch.finfo(torch.float32).eps, atol=0)


def test_hundreds_of_atoms_do_not_wear_float32_out() -> None:
    references = only_fitted(_host_references({"Cu": -2.72317891, "O": -6.66451234}))["energy"]
    numbers = torch.tensor([29, 8]).repeat(400)
    batch = Batch.from_data_list([Data(atomic_numbers=numbers, natoms=800, pos=torch.zeros(800, 3))])
    label = torch.tensor([[-3755.0762]])
    expected = label.double() - references.element_references[numbers].double().sum()
    assert references.dereference(label, batch).item() == pytest.approx(expected.item(), rel=1e-6)


def _host_references(elements: dict[str, float]) -> dict[str, Any]:
    return {
        target: create_element_references(**entry)
        for target, entry in from_elements({"energy": {"elements": elements}}).items()
    }


def test_what_is_given_by_symbol_is_taken_at_its_word() -> None:
    given = {"H": 0.0, "Br": -70045.28}  # nothing to refer to; an all-electron energy
    table = only_fitted(_host_references(given))["energy"].element_references
    assert table.isfinite().nonzero().flatten().tolist() == [1, 35]
    torch.testing.assert_close(table[[1, 35]], torch.tensor(list(given.values())).double())


def test_an_element_outside_the_fit_is_an_error(oc22: dict[str, Any], tmp_path: Path) -> None:
    settings = config(oc22)
    settings["dataset"]["train"]["transforms"]["element_references"] = {"energy": {"elements": {"Cu": -2.7}}}
    trainer = make_trainer(settings, tmp_path)
    with pytest.raises(ValueError, match="O: no element reference"):
        trainer.train(disable_eval_tqdm=True)
    with pytest.raises(ValueError, match="O: no element reference"):
        trainer.predict(trainer.val_loader, disable_tqdm=True)


def test_a_checkpoint_keeps_what_is_outside(oc22: dict[str, Any], tmp_path: Path) -> None:
    settings = config(oc22)
    trained = make_trainer(settings, tmp_path)
    trained.train(disable_eval_tqdm=True)
    path = str(tmp_path / "checkpoints" / "test" / "checkpoint.pt")
    table = torch.load(path, weights_only=False)["elementrefs"]["energy"]["element_references"]
    assert table.isfinite().nonzero().flatten().tolist() == [8, 29]
    assert settings["dataset"]["train"]["transforms"]["element_references"] == {"energy": {"elements": OXIDE}}

    del settings["dataset"]["train"]["transforms"]["element_references"]
    loaded = make_trainer(settings, tmp_path / "loaded")
    loaded.load_checkpoint(path)
    assert isinstance(loaded.elementrefs["energy"], FittedReferences)
    torch.testing.assert_close(loaded.elementrefs["energy"].element_references, table, equal_nan=True)


def test_a_published_table_with_garbage_is_refused(oc22: dict[str, Any], tmp_path: Path) -> None:
    coefficients = np.zeros(100)
    coefficients[[0, 2, 8, 29]] = 8e5, -5.8e10, -6.7, -2.7
    np.savez(tmp_path / "linear.npz", coeff=coefficients)
    settings = config(oc22)
    settings["dataset"]["train"]["transforms"]["element_references"] = {
        "energy": {"file": str(tmp_path / "linear.npz")}
    }
    with pytest.raises(ValueError, match=r"1 coefficients have no meaning \(He -5.8e\+10 eV\).*`elements:`"):
        make_trainer(settings, tmp_path)


@pytest.mark.skipif(not PUBLISHED.is_file(), reason="the published OC22 fit is not in ../shared/data")
def test_the_published_oc22_table_is_refused_as_it_is() -> None:
    with pytest.raises(ValueError, match="coefficients have no meaning"):
        only_fitted({"energy": create_element_references(file=str(PUBLISHED))})


def test_a_clean_table_and_a_fit_of_the_host_serve_for_their_elements(oc22: dict[str, Any], tmp_path: Path) -> None:
    coefficients = np.zeros(100)
    coefficients[[8, 29]] = OXIDE["O"], OXIDE["Cu"]
    np.savez(tmp_path / "linear.npz", coeff=coefficients)
    for entry in (
        {"energy": {"file": str(tmp_path / "linear.npz")}},
        {"fit": {"targets": ["energy"], "batch_size": 2}},
    ):
        settings = config(oc22)
        settings["dataset"]["train"]["transforms"]["element_references"] = entry
        table = make_trainer(settings, tmp_path / str(len(entry))).elementrefs["energy"].element_references
        assert table.isfinite().nonzero().flatten().tolist() == [8, 29]


@pytest.mark.parametrize(
    ("elements", "message"),
    [
        ({"Xx": 1.0}, "'Xx' is no chemical symbol"),
        ({True: 1.0}, "True is no chemical symbol"),
        ({"O": "1"}, r"elements\.O must be a number in eV, got '1'"),
        ({"O": float("inf")}, r"elements\.O must be a number in eV, got inf"),
    ],
)
def test_wrong_entries_are_named(elements: dict[Any, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"element_references.energy.elements.*{message}|{message}"):
        from_elements({"energy": {"elements": elements}})
