"""All findings, in the order in which they depend on each other."""

from __future__ import annotations

import platform
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import PackageNotFoundError, metadata
from pathlib import Path

from ev2_plugin.doctor.dependencies import HOST, PLUGIN, Needs, other_packages, python_finding
from ev2_plugin.doctor.finding import Finding
from ev2_plugin.doctor.host import plugin_finding, registry_finding
from ev2_plugin.doctor.packages import package_finding
from ev2_plugin.doctor.resources import (
    disk_finding,
    memory_finding,
    shared_memory_finding,
    temporary_finding,
    threads_finding,
)
from ev2_plugin.doctor.services import slurm_finding, wandb_finding
from ev2_plugin.doctor.torch_stack import ask_driver, extension_finding, gpu_finding, torch_finding, triton_finding
from ev2_plugin.doctor.trials import run_trials
from ev2_plugin.doctor.versions import normalised

_ON_TORCH = (
    *("torch", "torch_scatter", "torch_sparse", "torch_geometric", "e3nn"),
    *("fairchem.core._cli", "registry", "plugin"),
)
_BESIDE = ("numpy", "scipy", "ase", "lmdb", "wandb", "submitit", "triton")
_PACKAGES = ("torch-geometric", "e3nn", "numpy", "scipy", "ase", "lmdb")


def examine(folder: Path, time_limit: float = 60.0) -> list[Finding]:
    """Look at everything that runs of the plugin stand on.

    Args:
        folder: Where runs would write.
        time_limit: Seconds for each import; slow file systems take long.
    """
    with ThreadPoolExecutor() as together:
        on_torch = together.submit(run_trials, _ON_TORCH, time_limit)
        beside = together.submit(run_trials, _BESIDE, time_limit)
        asked_driver, slurm = together.submit(ask_driver), together.submit(slurm_finding)
        needs = Needs.read()
        trials = {**beside.result(), **on_torch.result()}
        driver = asked_driver.result()
    torch, plugin = trials["torch"], trials["plugin"]
    findings = [
        *_python(),
        torch_finding(torch, needs),
        gpu_finding(driver, torch),
        triton_finding(trials["triton"], torch),
        *(extension_finding(one, trials[_module(one)], torch, needs) for one in ("torch-scatter", "torch-sparse")),
        *(package_finding(one, trials[_module(one)], needs) for one in _PACKAGES),
        package_finding("submitit", trials["submitit"], needs),
        wandb_finding(trials["wandb"], plugin, needs),
        package_finding(HOST, trials["fairchem.core._cli"], needs),
        registry_finding(trials["registry"], needs),
        plugin_finding(plugin, needs, _checkout()),
    ]
    shown = {normalised(one.name) for one in findings}
    resources = [
        disk_finding(folder),
        temporary_finding(),
        shared_memory_finding(),
        memory_finding(),
        threads_finding(),
    ]
    return [*findings, other_packages(needs, shown), slurm.result(), *resources]


def _python() -> list[Finding]:
    try:
        wanted = metadata(PLUGIN)["Requires-Python"]
    except PackageNotFoundError:
        wanted = ""  # that the plugin is not installed is told by itself
    return [python_finding(platform.python_version(), wanted)]


def _module(package: str) -> str:
    return package.replace("-", "_")


def _checkout() -> str | None:
    """Folder of the sources, if the plugin runs from one."""
    root = Path(__file__).parents[3]
    return str(root) if (root / "pyproject.toml").is_file() else None
