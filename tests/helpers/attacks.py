"""Objects whose pickles do something when they are read: they make a folder, and nothing worse."""

import io
import os
from pathlib import Path
from typing import Any

import torch


class Attack:
    """Makes a folder when it is unpickled."""

    def __init__(self, made: Path) -> None:
        self.made = made

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, (str(self.made),)


class AttackInStorage:
    """The attack in bytes that torch.storage._load_from_bytes opens, as it opens those of every stored tensor."""

    def __init__(self, made: Path) -> None:
        self.made = made

    def __reduce__(self) -> Any:
        inner = io.BytesIO()
        torch.save(Attack(self.made), inner, _use_new_zipfile_serialization=False)
        return torch.storage._load_from_bytes, (inner.getvalue(),)
