"""Relaxations that end after the step at hand when a signal asks for it."""

from __future__ import annotations

import signal
from collections.abc import Callable

from ev2_plugin.relax.folder import Progress
from ev2_plugin.training.stopping import Stopped, StopSignals


def relax_until_stopped(relax: Callable[[Callable[[], bool]], Progress], how_to_go_on: str) -> Progress:
    """Relax structures; Ctrl-C or SIGTERM lets the step at hand end and everything be saved.

    Args:
        relax: Takes what it shall ask after every step: whether to stop.
        how_to_go_on: For the message.

    Raises:
        Stopped: If a signal asked for it.
    """
    signals = StopSignals()
    with signals.watched([signal.SIGINT, signal.SIGTERM]):
        reached = relax(lambda: signals.received is not None)
    if signals.received is not None:
        raise Stopped(
            f"stopped with {reached.done} of {reached.total} structures relaxed; {how_to_go_on}", signals.received
        )
    return reached
