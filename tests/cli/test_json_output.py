"""What `--json` prints is JSON to the letter."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

from ev2_plugin.cli.json_output import print_json


def test_numbers_that_json_lacks_become_null(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"path": Path("a/b"), "values": (1.5, math.nan, [math.inf]), 3: "Å"})

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is no JSON")

    found = json.loads(capsys.readouterr().out, parse_constant=refuse)
    assert found == {"path": "a/b", "values": [1.5, None, [None]], "3": "Å"}


def test_what_is_no_json_is_refused() -> None:
    with pytest.raises(TypeError, match="ndarray"):
        print_json({"values": np.zeros(2)})
