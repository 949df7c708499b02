"""Which frames belong to one system, so that a split never separates them."""

from __future__ import annotations

from collections import Counter

from ev2_plugin.data.frames import Frame


class SystemCounter:
    """Numbers systems and frames in the order in which they are read.

    A system is what the source numbers so (`sid`); where it does not, frames that continue one another
    (`Frame.continues`) are one system.

    Attributes:
        given: Whether the source numbers its systems; None before the first frame.
    """

    def __init__(self) -> None:
        self.given: bool | None = None
        self._system = -1
        self._frames: Counter[int] = Counter()
        self._previous: Frame | None = None

    def number(self, frame: Frame) -> tuple[int, int]:
        """Number a frame.

        Args:
            frame: The next frame of the chunk.

        Returns:
            Its `sid`, counted from 0 in this chunk unless the source gives it, and its `fid`.

        Raises:
            ValueError: If some frames of a chunk have a `sid` and others have none.
        """
        given = frame.sid is not None
        if self.given not in (None, given):
            raise ValueError(f"{frame.name} has {'a' if given else 'no'} sid, unlike frames before: number all or none")
        self.given = given
        if frame.sid is not None:
            self._system = frame.sid
        elif self._previous is None or not frame.continues(self._previous):
            self._system += 1
        self._previous = frame
        counted = self._frames[self._system]
        self._frames[self._system] += 1
        return self._system, frame.fid if given and frame.fid is not None else counted
