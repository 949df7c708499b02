import pytest
import torch

from ev2_plugin.graph.structure_error import StructureError
from ev2_plugin.model.batch import build_batch, check_elements
from helpers.structures import TINY, assorted, atom_batch, molecule, single_atom, tensors


def test_structure_of_each_atom() -> None:
    atoms = atom_batch([molecule(), single_atom(), molecule()])
    assert atoms.num_graphs == 3
    assert atoms.batch.tolist() == [0] * 6 + [1] + [2] * 6


def test_elements_outside_the_tables() -> None:
    numbers, *rest = tensors(assorted())
    numbers[13] = 90
    message = r"structure 1 of the batch: atom 3 has atomic number 90, .* end at 89 \(max_num_elements=90\)"
    with pytest.raises(StructureError, match=message):
        build_batch(numbers, *rest, TINY)
    check_elements(torch.tensor([1, 89]), torch.tensor([1, 1]), 90)


@pytest.mark.parametrize("number", [0, -1])
def test_what_is_no_element(number: int) -> None:
    natoms = torch.tensor([1, 2, 0])
    with pytest.raises(
        StructureError, match=f"structure 1 .*: atom 1 has atomic number {number}: elements are counted"
    ):
        check_elements(torch.tensor([5, 1, number]), natoms, 90)
