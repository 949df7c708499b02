"""`ev2_plugin.load`: predictions of many structures, features of atoms, and what is said of the model."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule
from ase.constraints import FixBondLength
from torch import nn

import ev2_plugin
from ev2_plugin.integration import batch_prediction, loaded_model
from ev2_plugin.integration.calculator import Calculator
from ev2_plugin.integration.inspection import inspect_checkpoint
from ev2_plugin.integration.loaded_model import LoadedModel
from ev2_plugin.relax.settings import Budget
from ev2_plugin.so3.edge_frame import edge_frames
from ev2_plugin.so3.layout import CoefficientLayout
from helpers import official_checkpoints as official
from helpers import tiny_s2ef
from helpers.equivariance import random_rotation, wigner
from helpers.models import fill_by_name
from helpers.structures import assorted, crystal, rotated, slab
from helpers.trainers import config, make_trainer


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with stress and element references, one without, one of fairchem's own."""
    made = tmp_path_factory.mktemp("models")
    for name in ("omat24", "oc20"):
        torch.save(getattr(official, name)().content, made / f"{name}.pt")
    return made


@pytest.fixture(scope="module")
def schnet(dataset: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    model = {"name": "schnet", "hidden_channels": 16, "num_filters": 16, "cutoff": 4.0, "otf_graph": True}
    trainer = make_trainer(config(dataset, model), tmp_path_factory.mktemp("schnet"))
    fill_by_name(trainer.model)
    return Path(trainer.save(checkpoint_file="schnet.pt"))


@pytest.fixture(scope="module")
def loaded(folder: Path) -> dict[str, LoadedModel]:
    return {name: ev2_plugin.load(str(folder / f"{name}.pt"), device="cpu") for name in ("omat24", "oc20")}


@pytest.fixture
def oc20(loaded: dict[str, LoadedModel]) -> LoadedModel:
    return copy.deepcopy(loaded["oc20"])


@pytest.fixture
def omat24(loaded: dict[str, LoadedModel]) -> LoadedModel:
    return copy.deepcopy(loaded["omat24"])


def test_each_prediction_is_what_the_calculator_says(omat24: LoadedModel, folder: Path) -> None:
    calculator = Calculator(folder / "omat24.pt", device="cpu")
    structures = [slab(), crystal(), bulk("Cu", cubic=True), slab()[:4]]
    structures[2].rattle(0.1, seed=3)  # norms blow up the rounding of what symmetry makes zero
    structures[0].set_constraint(FixBondLength(0, 1))
    before = [atoms.copy() for atoms in structures]
    seen: list[tuple[int, int]] = []
    predicted = omat24.predict(structures, on_progress=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]
    for atoms, kept, one in zip(structures, before, predicted, strict=True):
        assert atoms == kept
        calculator.calculate(Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=atoms.pbc))
        assert one.energy == pytest.approx(calculator.results["energy"], abs=1e-4)
        np.testing.assert_allclose(one.forces, calculator.results["forces"], atol=1e-5)
        np.testing.assert_allclose(one.stress, calculator.results["stress"], atol=1e-6)
        assert one.results.keys() == {"energy", "forces", "stress"}


def test_how_structures_are_batched_does_not_matter(oc20: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    structures = [*assorted(), *tiny_s2ef.slabs()]
    sizes: list[int] = []
    evaluate = oc20.potential.evaluate
    monkeypatch.setattr(
        oc20.potential, "evaluate", lambda some, names: sizes.append(len(some)) or evaluate(some, names)
    )
    together = oc20.predict(structures)
    assert sizes == [len(structures)]
    edges = oc20.potential.num_edges(next(batch_prediction.bare_structures(structures[:1], ["a"])))[0]
    for limit in (1, edges + 60):
        sizes.clear()
        apart = oc20.predict(structures, batch_edges=limit)
        assert sum(sizes) == len(structures)
        assert (max(sizes) == 1) == (limit == 1)
        for one, other in zip(apart, together, strict=True):
            assert one.energy == pytest.approx(other.energy, abs=1e-4)
            np.testing.assert_allclose(one.forces, other.forces, atol=1e-4)
    assert oc20.predict([]) == []


def test_where_memory_does_not_suffice_batches_are_halved(oc20: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    structures, sizes = tiny_s2ef.slabs(), []
    expected = oc20.predict(structures)
    evaluate = oc20.potential.evaluate

    def small_only(some: Any, names: Any) -> Any:
        sizes.append(len(some))
        if len(some) > most:
            raise MemoryError("all of it is taken")
        return evaluate(some, names)

    monkeypatch.setattr(oc20.potential, "evaluate", small_only)
    most = 1
    for one, other in zip(oc20.predict(structures), expected, strict=True):
        np.testing.assert_allclose(one.forces, other.forces, atol=1e-4)
    assert sizes == [4, 2, 1, 1, 2, 1, 1]
    most = 0
    with pytest.raises(MemoryError, match="structure 0: the memory does not suffice for it: all of it is taken"):
        oc20.predict(structures)


def test_a_long_list_is_taken_batch_by_batch(oc20: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    structures = tiny_s2ef.slabs() * 3
    taken: list[str] = []
    convert = batch_prediction.from_atoms
    monkeypatch.setattr(batch_prediction, "from_atoms", lambda some, ids: taken.extend(ids) or convert(some, ids))
    evaluate, ahead, done = oc20.potential.evaluate, [], 0

    def watched(some: Any, names: Any) -> Any:
        nonlocal done
        done += len(some)
        ahead.append(len(taken) - done)
        return evaluate(some, names)

    monkeypatch.setattr(oc20.potential, "evaluate", watched)
    (edges,) = oc20.potential.num_edges(next(batch_prediction.bare_structures(structures, ["a"] * 12)))
    taken.clear()
    oc20.predict(structures, batch_edges=2 * edges + 40)
    assert len(ahead) >= 5
    assert max(ahead) == 1


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (Atoms("Th"), "structure odd: atom 0 has atomic number 90, but the model's tables end at 89"),
        (Atoms("CO", positions=[[0, 0, 0], [0, 0, 0.001]]), "structure odd: atoms 0 and 1 are 0.0010 Å apart"),
        (Atoms(), "structure odd has no atoms"),
        (Atoms("H", pbc=True), "structure odd: periodic direction 0 has no cell vector"),
        (Atoms("H", positions=[[0, np.nan, 0]]), "structure odd: position of atom 0 is"),
    ],
)
@pytest.mark.parametrize("method", ["predict", "embeddings"])
def test_what_is_wrong_with_a_structure_is_said_by_its_name(
    method: str, wrong: Atoms, message: str, oc20: LoadedModel
) -> None:
    with pytest.raises(ValueError, match=message):
        getattr(oc20, method)([slab(), wrong, molecule("H2O")], ids=["a", "odd", "b"])


def test_what_is_no_list_of_structures_is_refused(oc20: LoadedModel) -> None:
    with pytest.raises(ValueError, match="give a list of structures"):
        oc20._ids(slab(), None)
    with pytest.raises(ValueError, match="1 ids for 2 structures"):
        oc20.predict([slab(), slab()], ids=["a"])
    with torch.no_grad():
        oc20.potential.backbone.sphere_embedding.weight[6].fill_(torch.nan)
    with pytest.raises(ValueError, match="structure 1: its predicted energy or forces are not finite"):
        oc20.predict([molecule("H2O"), molecule("CO")])


def test_features_turn_with_the_structure_and_invariant_ones_stay(oc20: LoadedModel) -> None:
    model = oc20.potential.model
    config, rotation = model.config, random_rotation(3)
    oc20.potential.model = oc20.potential.backbone = model.double()
    structures = [slab(), molecule("CH3CH2OH")]
    turned = [rotated(one, rotation) for one in structures]
    here, there = (oc20.embeddings(some, all_coefficients=True) for some in (structures, turned))
    matrix = wigner(rotation, config.lmax).numpy()
    for atoms, mine, other in zip(structures, here, there, strict=True):
        assert mine.shape == (len(atoms), (config.lmax + 1) ** 2, config.sphere_channels)
        expected = np.einsum("ij,njc->nic", matrix, mine)
        error = np.abs(other - expected).max(axis=(0, 2)) / np.abs(mine).max()
        assert error.max() < 0.02  # the sphere grid's
        assert np.abs(other - mine)[:, 1:].max() > 0.3 * np.abs(mine).max()
    invariant = oc20.embeddings(structures)
    for atoms, mine, every in zip(structures, invariant, here, strict=True):
        assert mine.shape == (len(atoms), config.sphere_channels)
        np.testing.assert_array_equal(mine, every[:, 0])


def test_the_matrices_of_so3_turn_features_as_well(oc20: LoadedModel) -> None:
    layout = CoefficientLayout(3, 3)
    turn = edge_frames(torch.tensor([[0.3, -0.5, 0.8]], dtype=torch.float64), layout).into[0]
    turn = turn[torch.tensor(layout.kept).argsort()]  # degree-major rows
    rotation = turn[1:4, 1:4]  # degree 1: x, y, z
    oc20.potential.model.double()
    here, there = (
        torch.tensor(oc20.embeddings([one], all_coefficients=True)[0]) for one in (slab(), rotated(slab(), rotation))
    )
    error = torch.linalg.vector_norm(there - turn @ here) / torch.linalg.vector_norm(here)
    assert 1e-8 < error < 0.05
    assert torch.linalg.vector_norm(there - turn.T @ here) > 0.3 * torch.linalg.vector_norm(here)


def test_features_are_what_the_heads_read(oc20: LoadedModel, omat24: LoadedModel) -> None:
    for model in (oc20, omat24):
        structures = [bulk("Cu", cubic=True), slab()]
        read: list[torch.Tensor] = []
        head: nn.Module = next(m for name, m in model.potential.model.named_modules() if name.endswith("energy_block"))
        scalars = head.scalars
        head.scalars = lambda x, scalars=scalars, read=read: read.append(x) or scalars(x)
        model.predict(structures)
        found = model.embeddings(structures, all_coefficients=True)
        np.testing.assert_allclose(np.concatenate(found), read[0].numpy(), atol=1e-5)


def test_models_of_fairchems_own_predict_and_say_why_they_have_no_features(schnet: Path) -> None:
    model = ev2_plugin.load(schnet)
    slabs = tiny_s2ef.slabs()
    mixed = [slabs[0], molecule("CH3CH2OH"), slabs[1], slabs[2]]
    predicted = model.predict(mixed)  # of two periodicities, which such a model takes apart only
    for atoms, one in zip(mixed, predicted, strict=True):
        (alone,) = model.predict([atoms])
        assert one.energy == pytest.approx(alone.energy, abs=1e-4)
        assert one.stress is None
    with pytest.raises(ValueError, match="SchNetWrap is a model of fairchem's own: only those of ev2_plugin"):
        model.embeddings(mixed)
    assert "elements: unknown" in repr(model)
    assert "cutoff: 4 Å" in repr(model)


def test_says_what_it_is(oc20: LoadedModel, omat24: LoadedModel, folder: Path) -> None:
    count = sum(one.numel() for one in oc20.potential.model.parameters())
    assert repr(oc20) == (
        f"<EquiformerV2, {count:,} parameters, on cpu, energy: adsorption, cutoff: 4 Å, elements: H to Ac>"
    )
    assert omat24.elements == ("C", "O", "Na", "Cl", "Cu")
    assert repr(omat24).endswith("energy: total, cutoff: 4 Å, elements: C O Na Cl Cu>")
    assert omat24.properties == ("energy", "forces", "stress")
    assert oc20.facts == inspect_checkpoint(folder / "oc20.pt")
    assert oc20.facts["model"]["parameters"] == count
    with pytest.raises(FileNotFoundError):
        ev2_plugin.load("nowhere.pt")
    with pytest.raises(ValueError, match="there is no device"):
        ev2_plugin.load(folder / "oc20.pt", device="meta")


def test_calculators_share_the_weights(oc20: LoadedModel) -> None:
    first, second = oc20.calculator(), oc20.calculator()
    assert isinstance(first, Calculator)
    assert first.potential.model is second.potential.model is oc20.potential.model
    assert first.potential.neighbors is not second.potential.neighbors
    atoms = slab()
    atoms.calc = first
    assert atoms.get_potential_energy() == oc20.predict([atoms])[0].energy
    assert first.parameters["checkpoint"] == str(oc20.path)


def test_a_gpus_memory_sets_the_batch(oc20: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    given = []
    monkeypatch.setattr(loaded_model, "fitting_edges", lambda *all_of: given.append(all_of) or 321)
    monkeypatch.setattr(type(oc20), "device", torch.device("cuda"))
    structures = tiny_s2ef.slabs()
    structures[0].set_constraint(FixBondLength(0, 1))
    assert oc20._budget(structures, list("abcd"), None) == Budget(max_edges=321)
    ((source, potential, config),) = given
    assert (potential, config, len(source[0])) == (oc20.potential, oc20.config, 1)
