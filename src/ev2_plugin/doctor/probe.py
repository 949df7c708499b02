"""Imports what may be broken, one stage after another, and says what came of each.

Run as a program, in a process that may crash or hang: `python probe.py SECONDS STAGE...`. It writes a line of JSON per
stage and ends at the first that fails, because what is left of a failed import spoils the next ones.
"""

from __future__ import annotations

import faulthandler
import importlib
import json
import os
import sys
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

Facts = dict[str, Any]


def try_torch() -> Facts:
    """PyTorch, on the CPU and on every GPU that it sees."""
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    for device in ["cpu", *range(count)]:
        value = (torch.ones(3, device=device) + 1).sum().item()
        if value != 6:
            raise RuntimeError(f"the sum of three twos is {value} on {device}")
    properties = [torch.cuda.get_device_properties(index) for index in range(count)]
    return {
        "version": torch.__version__,
        "cuda": torch.version.cuda,
        "arrays": _error_of(lambda: torch.ones(1).numpy()),
        "gpus": [{"name": one.name, "capability": [one.major, one.minor]} for one in properties],
    }


def try_torch_scatter() -> Facts:
    """The library and its compiled operations; on a GPU too, if torch sees one."""
    import torch
    import torch_scatter

    def largest(device: str) -> list[float]:
        values, places = torch.ones(3, device=device), torch.tensor([0, 1, 1], device=device)
        return torch_scatter.scatter(values, places, reduce="max").tolist()

    if largest("cpu") != [1.0, 1.0]:
        raise RuntimeError(f"the largest of ones is {largest('cpu')}")
    return {
        "version": torch_scatter.__version__,
        "cuda": torch.ops.torch_scatter.cuda_version(),
        "on_gpu": _error_of(lambda: largest("cuda")) if torch.cuda.is_available() else None,
    }


def try_torch_sparse() -> Facts:
    """The library and its compiled operations."""
    import torch
    import torch_sparse

    return {"version": torch_sparse.__version__, "cuda": torch.ops.torch_sparse.cuda_version()}


def try_torch_geometric() -> Facts:
    """The library and a batch of two graphs."""
    import torch
    from torch_geometric import __version__
    from torch_geometric.data import Batch, Data

    batch = Batch.from_data_list([Data(pos=torch.zeros(2, 3)), Data(pos=torch.zeros(1, 3))])
    if batch.num_graphs != 2:
        raise RuntimeError(f"two graphs make a batch of {batch.num_graphs}")
    return {"version": __version__}


def try_scipy() -> Facts:
    """The library, with the function that fairchem imports and newer versions have not."""
    import scipy
    from scipy.spatial import cKDTree  # noqa: F401  compiled: importing it is the trial
    from scipy.special import sph_harm  # noqa: F401  that it is there is all that is asked

    return {"version": scipy.__version__}


def try_lmdb() -> Facts:
    """The library: a file written, and read while it is open, as the datasets of one run do."""
    import lmdb

    with tempfile.TemporaryDirectory() as folder:
        file = str(Path(folder) / "tried.lmdb")
        with lmdb.open(file, subdir=False, map_size=2**20) as environment:
            with environment.begin(write=True) as transaction:
                transaction.put(b"0", b"written")
            with lmdb.open(file, subdir=False, readonly=True, lock=False) as again, again.begin() as transaction:
                if transaction.get(b"0") != b"written":
                    raise RuntimeError("what was written is not what is read")
    return {"version": lmdb.__version__}


def try_registry() -> Facts:
    """What the start of the `fairchem` command imports, one by one: it stops at the first and later hides the cause."""
    importlib.import_module("fairchem.core.common.logger")
    core = Path(importlib.import_module("fairchem.core.common.registry").__file__ or "").parents[1]
    failures = {}
    for part in ("trainers", "datasets", "models", "tasks"):
        for file in sorted((core / part).rglob("*.py")):
            module = ".".join(["fairchem", "core", *file.relative_to(core).with_suffix("").parts])
            try:
                importlib.import_module(module.removesuffix(".__init__"))
            except Exception as error:  # whatever it is, it is the finding
                failures[module] = _said(error)
    return {"failures": failures}


def try_plugin() -> Facts:
    """Every public name of the plugin, and its names in fairchem's registry."""
    package = importlib.import_module("ev2_plugin")
    for name in package.__all__:
        getattr(package, name)
    importlib.import_module("ev2_plugin.integration.registration").register()
    account = importlib.import_module("ev2_plugin.integration.wandb_account")
    return {"version": package.__version__, "wandb_is_settled": account.is_settled()}


STAGES: dict[str, Callable[[], Facts]] = {
    "torch": try_torch,
    "torch_scatter": try_torch_scatter,
    "torch_sparse": try_torch_sparse,
    "torch_geometric": try_torch_geometric,
    "scipy": try_scipy,
    "lmdb": try_lmdb,
    "registry": try_registry,
    "plugin": try_plugin,
}
"""What is tried beyond importing a module; any other stage is the name of one."""


def main() -> None:
    """Try the stages that the command line names."""
    limit, stages = float(sys.argv[1]), sys.argv[2:]
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print is no answer
    faulthandler.enable()
    for stage in stages:
        faulthandler.dump_traceback_later(limit, exit=True)
        try:
            answer: Facts = {"facts": STAGES[stage]() if stage in STAGES else _imported(stage)}
        except BaseException as error:  # a library may also end the process
            answer = {"failure": _said(error)}
        print(json.dumps({"stage": stage, **answer}), file=answers, flush=True)
        if "failure" in answer:
            break
    os._exit(0)  # nothing is left to do, and a broken library may crash on leaving


def _imported(module: str) -> Facts:
    return {"version": getattr(importlib.import_module(module), "__version__", None)}


def _error_of(attempt: Callable[[], object]) -> str | None:
    try:
        attempt()
    except Exception as error:  # whatever it is, it is the finding
        return f"{type(error).__name__}: {error}"
    return None


def _said(error: BaseException) -> Facts:
    """What an error says, the module that it names, and where it arose."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "importlib" not in frame.filename]
    place = f"{frames[-1].filename}, line {frames[-1].lineno}" if frames else None
    if isinstance(error, SyntaxError):
        place = f"{error.filename}, line {error.lineno}"
    return {"said": f"{type(error).__name__}: {error}", "module": getattr(error, "name", None), "place": place}


if __name__ == "__main__":
    main()
