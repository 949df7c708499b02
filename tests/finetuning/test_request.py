"""What is asked for, and that a folder is of one request."""

import re
from pathlib import Path
from typing import Any

import pytest

from ev2_plugin.finetuning.request import Request, begin


def request(out: Path = Path("out"), **options: Any) -> Request:
    return Request(**{"sources": (Path("a"),), "checkpoint": Path("c.pt"), "out": out, **options})


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"references": "new"}, "--references new: choose one of auto, keep, fit"),
        ({"metric": "loss"}, "--metric loss: choose one of forces_mae, energy_mae"),
        ({"precision": "fp8"}, "--precision fp8: choose one of fp32, bf16, fp16"),
        ({"device": "gpu"}, "--device gpu: choose one of auto, cpu, cuda"),
        ({"freeze": "heads"}, "optim.freeze must be none, embedding"),
        ({"lr": 0.0}, "--lr must be positive, got 0.0"),
        ({"force_weight": -1.0}, "--force-weight must be positive, got -1.0"),
        ({"shares": (0.9, 0.0, 0.1)}, "--split: a validation share of 0"),
        ({"test": (Path("t"),)}, "--test needs --val too"),
        ({"sources": ()}, "needs files"),
    ],
)
def test_what_cannot_be_meant_is_said_at_once(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)):
        request(**options)


def test_a_folder_that_was_planned_is_for_the_same_request(tmp_path: Path) -> None:
    folder = tmp_path / "tuned"
    begin(request(folder, epochs=4), planned=False)
    begin(request(folder, epochs=4, device="cpu", num_gpus=2), planned=True)  # another machine
    with pytest.raises(ValueError, match="was begun with epochs 4, not 8: give the same again to go on"):
        begin(request(folder, epochs=8), planned=True)


def test_before_there_is_a_plan_the_request_may_change(tmp_path: Path) -> None:
    begin(request(tmp_path / "tuned"), planned=False)
    begin(request(tmp_path / "tuned", references="fit"), planned=False)
    with pytest.raises(ValueError, match="begun with references 'fit', not 'auto'"):
        begin(request(tmp_path / "tuned"), planned=True)


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(FileExistsError, match="is no folder of a fine-tuning: choose another --out"):
        begin(request(tmp_path), planned=False)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
