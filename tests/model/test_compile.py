"""Runs `compile_cases.py` where annotations are not checked."""

import subprocess
import sys
from pathlib import Path

import pytest

CASES = Path(__file__).with_name("compile_cases.py")


@pytest.mark.parametrize("chosen", ["not slow", pytest.param("slow", marks=pytest.mark.slow)])
def test_compiled_model(chosen: str) -> None:
    options = ["--noconftest", "-p", "no:cacheprovider", "-n", "0", "-q", "-m", chosen]
    command = [sys.executable, "-m", "pytest", *options, str(CASES)]
    done = subprocess.run(command, cwd=CASES.parents[2], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-8000:]
    assert " passed" in done.stdout
