"""Where a batch is cut for several processes, and one process's share of it."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
import torch.distributed as dist

from ev2_plugin.model.batch_share import even_cuts, share_batch
from ev2_plugin.nn.collectives import gather_rows
from helpers.models import filled_model, predict
from helpers.structures import TINY, assorted, atom_batch


@pytest.fixture
def alone() -> Iterator[Any]:
    """A group of this process."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield dist.group.WORLD
    dist.destroy_process_group()


@pytest.mark.parametrize(("edges", "parts", "cuts"), [
    ([3, 3, 3, 3], 2, [0, 2, 4]),
    ([9, 0, 0, 0, 0, 0, 0, 0, 0, 0], 2, [0, 1, 10]),
    ([0, 0, 0, 0], 4, [0, 1, 2, 3, 4]),
    ([0], 3, [0, 1, 1, 1]),
    ([5, 5], 4, [0, 1, 1, 2, 2]),
    ([7, 1, 4], 1, [0, 3]),
])  # fmt: skip
def test_cuts(edges: list[int], parts: int, cuts: list[int]) -> None:
    pointers = torch.tensor([0, *edges]).cumsum(0)
    assert even_cuts(pointers, parts).tolist() == cuts


@pytest.mark.parametrize("parts", [2, 3, 7])
def test_no_part_has_more_than_its_due_by_more_than_an_atom(parts: int) -> None:
    edges = torch.randint(0, 30, (200,))
    pointers = torch.cat((torch.zeros(1, dtype=torch.int64), edges.cumsum(0)))
    cuts = even_cuts(pointers, parts)
    assert cuts[0] == 0
    assert cuts[-1] == 200
    work = (pointers + torch.arange(201))[cuts].diff()
    assert (work - work.double().mean()).abs().max() <= edges.max() + 1


def test_the_share_of_a_process_alone_is_the_batch(alone: Any) -> None:
    whole = atom_batch(assorted())
    gauge = torch.rand(len(whole.graph.senders), dtype=torch.float64)
    shared, own_gauge = share_batch(whole, gauge, alone)
    assert torch.equal(own_gauge, gauge)
    assert shared.graph.num_nodes == whole.graph.num_nodes
    for name in ("senders", "receivers", "vectors"):
        assert torch.equal(getattr(shared.graph, name), getattr(whole.graph, name))
    assert torch.equal(shared.batch, whole.batch)
    assert torch.equal(shared.share.own_counts(shared.natoms), whole.natoms)
    model = filled_model(TINY)
    for ours, expected in zip(predict(model, shared, own_gauge), predict(model, whole, gauge), strict=True):
        assert torch.equal(ours, expected)


def test_gathered_rows_carry_their_gradient(alone: Any) -> None:
    rows = torch.randn(5, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: gather_rows(x, alone, (0, 5)), rows)
