"""The rule for labels and normalisers, and the words for energies."""

from types import SimpleNamespace

import pytest
import torch

from ev2_plugin.integration.check.labels import LabelFacts, Spread, energy_kind
from ev2_plugin.integration.check.survey import Survey, survey


def facts(mean: float, std: float, structures: int = 200) -> LabelFacts:
    raw = Spread(-300.0, 65.0)
    return LabelFacts("energy", "system", structures, raw, None, Spread(-0.7554, 2.887), Spread(mean, std))


@pytest.mark.parametrize(
    ("mean", "std", "structures", "fits"),
    [
        (0.0, 1.0, 200, True),
        (5.0, 0.1, 200, True),
        (-4.9, 10.0, 200, True),
        (-5.1, 1.0, 200, False),
        (0.0, 0.09, 200, False),
        (0.0, 11.0, 200, False),
        (0.0, 0.0, 9, True),  # a few structures say little about the spread
        (0.0, 0.0, 10, False),
        (-104.0, 65.0, 1, False),
    ],
)
def test_rule(mean: float, std: float, structures: int, fits: bool) -> None:
    assert facts(mean, std, structures).fits is fits


@pytest.mark.parametrize(
    ("level", "normalised", "references", "refused"),
    [("system", True, True, True), ("system", True, False, True), ("system", False, False, True),
     ("system", False, True, False), ("atom", True, False, False)],
)  # fmt: skip
def test_labels_that_do_not_fit_are_refused_if_that_must_be_a_mistake(
    level: str, normalised: bool, references: bool, refused: bool
) -> None:
    spread = Spread(-76.0, 10.3)  # QM9's energies less those of free atoms, which the paper takes as they are
    found = LabelFacts(
        target="energy",
        level=level,
        structures=200,
        raw=Spread(-11178.0, 1085.0),
        referenced=spread if references else None,
        normalizer=Spread(0.0, 1.0) if normalised else None,
        normalised=spread,
    )
    assert not found.fits
    assert found.refused is refused


def test_advice_has_the_numbers_that_would_be_right() -> None:
    advice = facts(-104.0, 22.5).advice
    assert "normaliser (mean -0.7554, rmsd 2.887)" in advice
    assert "200 training structures have mean -104 and standard deviation 22.5" in advice
    assert "normalizer.energy {mean: -300, rmsd: 65}" in advice


@pytest.mark.parametrize(
    ("mean", "std", "text"),
    [
        (1e-9, 1.0, "0.00 ± 1.00"),
        (-1e-9, 0.979, "0.000 ± 0.979"),
        (-300.26, 65.0, "-300.3 ± 65.0"),
        (3.0, 0.0, "3.000 ± 0.000"),
        (5.0, 1234.5, "5 ± 1234"),
    ],
)
def test_a_spread_is_written_to_three_digits(mean: float, std: float, text: str) -> None:
    assert str(Spread(mean, std)) == text


def sample(energies: list[float], tags: list[int], natoms: int = 50) -> Survey:
    class Structure(SimpleNamespace):
        def __contains__(self, key: str) -> bool:
            return hasattr(self, key)

        def __getitem__(self, key: str) -> object:
            return getattr(self, key)

    structures = tuple(Structure(energy=energy, tags=torch.tensor(tags)) for energy in energies)
    return Survey("train", len(energies), (natoms,) * len(energies), structures, has_metadata=False)


@pytest.mark.parametrize(
    ("energies", "tags", "words"),
    [
        ([-300.0, -310.0], [0, 1, 2], "total or atomisation energies (-6.1 eV per atom)"),
        ([-33000.0], [0, 0, 0], "total energies of all electrons (-660 eV per atom)"),
        ([-1.0, -2.0, 40.0], [0, 1, 2], "adsorption energies (-1 eV per structure with adsorbate)"),
        ([-5.0], [0, 1, 1], "referenced energies (-0.1 eV per atom)"),
    ],
)
def test_words_for_energies(energies: list[float], tags: list[int], words: str) -> None:
    assert energy_kind(sample(energies, tags), referenced=False) == words
    assert energy_kind(sample(energies, tags), referenced=True) == f"{words}; element references are taken off"


def test_no_words_without_energies() -> None:
    assert energy_kind(Survey("train", 0, (), (), has_metadata=False), referenced=False) is None


class ManyAtoms(torch.utils.data.Dataset):
    """A dataset that says which of its samples were read."""

    def __init__(self, length: int) -> None:
        self.length, self.indices, self.read = length, list(range(length)), []

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> SimpleNamespace:
        self.read.append(index)
        structure = sample([0.0], [0]).samples[0]
        structure.atomic_numbers, structure.pos = torch.tensor([6, 8]), torch.eye(2, 3)
        return structure

    def metadata_hasattr(self, name: str) -> bool:
        return False


@pytest.mark.parametrize(("length", "read"), [(1, 1), (150, 150), (200, 200), (1_000_000, 200)])
def test_a_sample_spreads_over_the_whole_dataset(length: int, read: int) -> None:
    dataset = ManyAtoms(length)
    seen = survey("train", dataset, ["energy"], max_num_elements=90)
    assert len(dataset.read) == len(seen.natoms) == read
    assert dataset.read == sorted(set(dataset.read))
    assert (dataset.read[0], dataset.read[-1]) == (0, length - 1)
    assert seen.structures == length
