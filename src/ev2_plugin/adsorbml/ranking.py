"""From relaxed configurations to those that are worth a single point.

Configurations that relaxed into the same minimum all keep their places: the AdsorbML paper does not remove
duplicates either, so several of the k best may be one structure.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby
from operator import attrgetter

from ev2_plugin.adsorbml.records import RankedConfiguration, RelaxedConfiguration


def rank(relaxed: Iterable[RelaxedConfiguration]) -> list[RankedConfiguration]:
    """Order the valid configurations of each system by energy.

    Relaxations that ran out of steps count like the others, with their last frame.

    Args:
        relaxed: Configurations, energies of one system comparable.

    Returns:
        Systems by name; in each, the lowest energy first and equal ones by the name of their configuration.
    """
    valid = sorted((one for one in relaxed if one.valid), key=attrgetter("system", "energy", "config"))
    return [
        RankedConfiguration(one.system, place, one.config, one.energy)
        for _, group in groupby(valid, key=attrgetter("system"))
        for place, one in enumerate(group, start=1)
    ]


def top_k(ranking: Sequence[RankedConfiguration], k: int) -> list[RankedConfiguration]:
    """The first k of each system; all of a system that has fewer.

    Raises:
        ValueError: If k is below 1.
    """
    if k < 1:
        raise ValueError(f"k is {k}; it should be 1 or more")
    return [one for one in ranking if one.rank <= k]
