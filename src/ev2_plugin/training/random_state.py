"""Where the random numbers of a process stand, to go on from there."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

State = dict[str, Any]


def take_random_state(device: torch.device, generators: Sequence[torch.Generator] = ()) -> State:
    """The state of every generator that training draws from, as plain values and tensors.

    Args:
        device: Its own generator is included if it is a GPU.
        generators: Others, on the CPU.
    """
    version, numbers, spare = random.getstate()
    of_numpy = np.random.get_state(legacy=False)  # noqa: NPY002  the global one, which datasets use
    return {
        "python": (version, torch.tensor(numbers), spare),
        "numpy": {**of_numpy, "state": {**of_numpy["state"], "key": torch.tensor(of_numpy["state"]["key"].tolist())}},
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
        "generators": [generator.get_state() for generator in generators],
    }


def restore_random_state(state: State, device: torch.device, generators: Sequence[torch.Generator] = ()) -> None:
    """Go on from where `take_random_state` found the generators.

    A GPU's generator stays as it is if the state was taken without one, and the reverse.

    Raises:
        ValueError: If there are more or fewer generators than there were.
    """
    if len(state["generators"]) != len(generators):
        raise ValueError(f"random state of {len(state['generators'])} generators, but there are {len(generators)}")
    version, numbers, spare = state["python"]
    random.setstate((version, tuple(numbers.tolist()), spare))
    of_numpy = state["numpy"]
    key = of_numpy["state"]["key"].numpy().astype(np.uint32)
    np.random.set_state({**of_numpy, "state": {**of_numpy["state"], "key": key}})  # noqa: NPY002
    torch.set_rng_state(state["torch"])
    if device.type == "cuda" and state["cuda"] is not None:
        torch.cuda.set_rng_state(state["cuda"], device)
    for generator, one in zip(generators, state["generators"], strict=True):
        generator.set_state(one)
