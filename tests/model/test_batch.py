import pytest
import torch

from ev2_plugin.model.batch import build_batch, check_elements
from helpers.structures import TINY, assorted, atom_batch, molecule, single_atom, tensors


def test_structure_of_each_atom() -> None:
    atoms = atom_batch([molecule(), single_atom(), molecule()])
    assert atoms.num_graphs == 3
    assert atoms.batch.tolist() == [0] * 6 + [1] + [2] * 6


def test_elements_outside_the_tables() -> None:
    numbers, *rest = tensors(assorted())
    numbers[13] = 90
    with pytest.raises(ValueError, match=r"atom 13 has atomic number 90, .* end at 89 \(max_num_elements=90\)"):
        build_batch(numbers, *rest, TINY)
    with pytest.raises(ValueError, match="atom 1 has atomic number -1"):
        check_elements(torch.tensor([5, -1, 90]), 90)
    check_elements(torch.tensor([0, 89]), 90)
