"""Random numbers go on from where they stood."""

import random

import numpy as np
import pytest
import torch

from ev2_plugin.training.random_state import restore_random_state, take_random_state

CPU = torch.device("cpu")


def draw(generator: torch.Generator) -> list[float]:
    numbers = [random.random(), random.gauss(0, 1), np.random.rand(), np.random.randn()]  # noqa: NPY002  the global one
    return [*numbers, torch.rand(1).item(), torch.rand(1, generator=generator).item()]


def test_the_same_numbers_come_again() -> None:
    generator = torch.Generator().manual_seed(1)
    draw(generator)  # an odd number of Gaussians: each library keeps a spare one
    state = take_random_state(CPU, [generator])
    first = [draw(generator) for _ in range(3)]
    assert first != [draw(generator) for _ in range(3)]
    restore_random_state(state, CPU, [generator])
    assert [draw(generator) for _ in range(3)] == first


def test_taking_a_state_draws_nothing() -> None:
    torch.manual_seed(0)
    expected = torch.rand(2).tolist()
    torch.manual_seed(0)
    take_random_state(CPU)
    assert torch.rand(2).tolist() == expected


def test_other_generators_are_an_error() -> None:
    with pytest.raises(ValueError, match="random state of 0 generators, but there are 1"):
        restore_random_state(take_random_state(CPU), CPU, [torch.Generator()])
