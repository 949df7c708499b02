"""Rows of the tables of errors: what goes wrong, what is said, and how a command ends."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Case:
    """One way to meet an error.

    Attributes:
        how: Takes the bench and does what a user does.
        said: What the message must have: the wrong value, or the name of what is wrong.
        ends: Exit status of the command, or the error that a call raises.
    """

    how: Callable[[Any], Any]
    said: str = ""
    ends: int | type[BaseException] = 1


@dataclass(frozen=True)
class Row:
    """A message and the ways to meet it.

    Attributes:
        message: As docs/errors.md has it; `…` stands for what differs.
        cases: By name.
    """

    message: str
    cases: dict[str, Case]

    def matches(self, text: str) -> bool:
        """Whether a text has this message."""
        pattern = ".*".join(re.escape(part) for part in self.message.split("…"))
        return re.search(pattern, " ".join(text.split())) is not None


def messages_of_page(page: str) -> list[str]:
    """The messages that a page lists: first column of its tables, in backticks."""
    return re.findall(r"^\| `(.+?)` \|", page, flags=re.MULTILINE)
