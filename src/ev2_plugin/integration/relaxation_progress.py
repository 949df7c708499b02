"""How far relaxations are: a bar on a terminal, now and then a line in a log."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ev2_plugin.progress import rate, stages_shown
from ev2_plugin.relax.folder import Progress


@contextmanager
def relaxation_progress(say: Callable[[str], None] = logging.info) -> Iterator[Callable[[Progress], None]]:
    """A function that shows how far relaxations are; `say` takes lines where there is no terminal."""
    with stages_shown(say) as show:
        yield lambda reached: show("relax", reached.done, reached.total, in_words(reached))


def in_words(reached: Progress) -> str:
    """Structures done, in work and per second, and the time that the rest takes."""
    left, before = reached.total - reached.done, reached.done - reached.here
    amount = f"{reached.done} of {reached.total} structures"
    parts = [f"{amount} ({before} from before)" if before else amount]
    if left:
        parts.append(f"{reached.active} in work")
    return ", ".join([*parts, *rate(reached.structures_per_second, left, "structures")])
