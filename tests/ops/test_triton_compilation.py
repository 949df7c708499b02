"""The kernels compile to machine code of a Hopper GPU with the Triton installed; no GPU is needed."""

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

KERNELS = {
    "messages", "radial_gradient", "node_gradient", "back_and_sum", "back_gradient", "back_and_sum_dense",
    "back_gradient_dense", "silu", "silu_gradient", "logits", "softmax", "softmax_gradient", "feature_gradient",
}  # fmt: skip


def assembler() -> Path | None:
    spec = find_spec("triton")
    if spec is None or spec.origin is None:
        return None
    return Path(spec.origin).parent / "backends" / "nvidia" / "bin" / "ptxas"


def test_every_kernel_compiles_for_hopper(tmp_path: Path) -> None:
    ptxas = assembler()
    if ptxas is None or not ptxas.exists():
        pytest.skip(f"Triton is not installed, or without NVIDIA's assembler (looked for {ptxas})")
    root = Path(__file__).parents[2]
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"} | {
        "TRITON_CACHE_DIR": str(tmp_path),
        "PYTHONPATH": os.pathsep.join([str(root / "tests"), str(root / "src")]),
    }
    program = root / "tests" / "helpers" / "triton_compilation.py"
    run = subprocess.run([sys.executable, program], env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    made = [json.loads(line) for line in run.stdout.splitlines()]
    for dtype, more in (("torch.float32", {"split_kernel"}), ("torch.bfloat16", set())):
        assert {entry["kernel"] for entry in made if entry["dtype"] == dtype} == KERNELS | more
    assert all(entry["bytes"] > 0 for entry in made)
