"""What a fine-tuning is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ev2_plugin.data.manifest import write_json
from ev2_plugin.storage.plain_files import read_json
from ev2_plugin.training.freezing import frozen_blocks

REFERENCES = ("auto", "keep", "fit")
METRICS = ("forces_mae", "energy_mae")
FILE_NAME = "request.json"
_OF_THE_MACHINE = ("device", "num_gpus", "trust")
"""What may differ from one call to the next."""


@dataclass(frozen=True)
class Request:
    """A fine-tuning.

    Attributes:
        sources: Files or folders to divide, or for training if there are others for validation or testing.
        checkpoint: Of the model to tune.
        out: Folder of everything.
        val: Sources of the validation split.
        test: Sources of the test split.
        shares: Shares of training, validation and test systems; None with `val` or `test`.
        seed: Of the division and of the training.
        references: `keep` the checkpoint's element references, `fit` them anew, or `auto`: what the energies ask for.
        epochs: Passes over the training split.
        lr: Largest learning rate.
        batch_size: Structures of an optimiser step; None for what suits the number of structures.
        freeze: Part of the model that keeps its weights, as `optim.freeze` has it.
        patience: Validations in a row without gain that end the training; None for no such end.
        metric: By which validations are compared.
        energy_weight: Of the error of the normalised energy per atom in the loss.
        force_weight: Of the length of the normalised force error.
        precision: `fp32`, `bf16` or `fp16`.
        device: `auto`, `cpu` or `cuda`.
        num_gpus: Processes that train.
        trust: The checkpoint comes from somebody trusted.
    """

    sources: tuple[Path, ...]
    checkpoint: Path
    out: Path
    val: tuple[Path, ...] = ()
    test: tuple[Path, ...] = ()
    shares: tuple[float, float, float] | None = None
    seed: int = 0
    references: str = "auto"
    epochs: int = 16
    lr: float = 2e-4
    batch_size: int | None = None
    freeze: str = "none"
    patience: int | None = None
    metric: str = METRICS[0]
    energy_weight: float = 2.5
    force_weight: float = 10.0
    precision: str = "fp32"
    device: str = "auto"
    num_gpus: int = 1
    trust: bool = False

    def __post_init__(self) -> None:
        if not self.sources:
            raise ValueError("fine-tuning needs files of structures with energies and forces")
        _choice("--references", self.references, REFERENCES)
        _choice("--metric", self.metric, METRICS)
        _choice("--precision", self.precision, ("fp32", "bf16", "fp16"))
        _choice("--device", self.device, ("auto", "cpu", "cuda"))
        frozen_blocks(self.freeze)
        for option, value in (
            ("--lr", self.lr),
            ("--energy-weight", self.energy_weight),
            ("--force-weight", self.force_weight),
        ):
            if not value > 0:
                raise ValueError(f"{option} must be positive, got {value}")
        if self.shares is not None and self.shares[1] == 0:
            raise ValueError("--split: a validation share of 0 leaves nothing to choose the best weights by")
        if self.test and not self.val:
            raise ValueError("--test needs --val too: without it nothing chooses the best weights")

    def settings(self) -> dict[str, Any]:
        """All that the result depends on, as JSON has it."""
        chosen = {key: value for key, value in asdict(self).items() if key not in (*_OF_THE_MACHINE, "out")}
        return {key: _plain(value) for key, value in chosen.items()}


def begin(request: Request, *, planned: bool) -> None:
    """Make the folder and note in it what is asked for.

    Args:
        request: What is asked for.
        planned: Whether an earlier call came as far as a plan: then this one must ask for the same.

    Raises:
        FileExistsError: If the folder holds anything else.
        ValueError: If it is of a call for something else.
    """
    noted = request.out / FILE_NAME
    if noted.is_file() and planned:
        _compare(read_json(noted), request.settings(), request.out)
        return
    if not noted.is_file() and request.out.exists() and any(request.out.iterdir()):
        raise FileExistsError(f"{request.out} exists and is no folder of a fine-tuning: choose another --out")
    request.out.mkdir(parents=True, exist_ok=True)
    write_json(noted, request.settings())


def _compare(before: Mapping[str, Any], now: Mapping[str, Any], folder: Path) -> None:
    for key in now:
        if before.get(key) != now[key]:
            raise ValueError(
                f"{folder} was begun with {key} {before.get(key)!r}, not {now[key]!r}: give the same again to go on, "
                f"or choose another --out"
            )


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(one) for one in value]
    return str(value) if isinstance(value, Path) else value


def _choice(option: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ValueError(f"{option} {value}: choose one of {', '.join(allowed)}")
