"""The check that settings of optimisers share."""

from __future__ import annotations

import math
from dataclasses import fields
from typing import Any


def require_positive(settings: Any) -> None:
    """Refuse a dataclass of numbers of which one is not positive and finite.

    Raises:
        ValueError: Naming the first such field.
    """
    for field in fields(settings):
        value = getattr(settings, field.name)
        if not (value > 0 and math.isfinite(value)):
            raise ValueError(f"{type(settings).__name__}: {field.name} must be a positive number, got {value!r}")
