"""Findings on PyTorch, what is compiled against it, and the GPU that it drives."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass, replace

from ev2_plugin.doctor.dependencies import Needs, installed_version
from ev2_plugin.doctor.finding import Finding, Severity
from ev2_plugin.doctor.installer import compile_anew, install, torch_for
from ev2_plugin.doctor.packages import mend_package, package_finding, untried
from ev2_plugin.doctor.trials import Trial
from ev2_plugin.doctor.versions import within

_PATIENCE = 20  # seconds for nvidia-smi, which takes several on machines with many sleeping GPUs
_OLDEST_FOR_KERNELS = 8
"""Compute capability that the Triton kernels need; torch's own operations serve older GPUs."""


@dataclass(frozen=True, kw_only=True)
class Driver:
    """What nvidia-smi says.

    Attributes:
        error: Its words if it fails.
        cuda: Newest CUDA that the driver serves, `12.4`.
        gpus: One line each.
    """

    error: str | None = None
    cuda: str | None = None
    gpus: tuple[str, ...] = ()


def ask_driver() -> Driver | None:
    """What the NVIDIA driver says of itself; None if there is none."""
    if shutil.which("nvidia-smi") is None:
        return None
    try:
        whole = subprocess.run(["nvidia-smi"], capture_output=True, text=True, timeout=_PATIENCE)
        listed = subprocess.run(["nvidia-smi", "--list-gpus"], capture_output=True, text=True, timeout=_PATIENCE)
    except (OSError, subprocess.TimeoutExpired) as error:
        return Driver(error=str(error))
    if whole.returncode:
        return Driver(error=" ".join((whole.stdout + whole.stderr).split()) or f"status {whole.returncode}")
    found = re.search(r"CUDA Version:\s*([\d.]+)", whole.stdout)
    gpus = tuple(line.partition(" (UUID")[0] for line in listed.stdout.splitlines() if line.strip())
    return Driver(cuda=found[1] if found else None, gpus=gpus)


def torch_finding(trial: Trial, needs: Needs) -> Finding:
    """PyTorch: there, of a version that plugin and host take, and able to share memory with NumPy."""
    finding = package_finding("torch", trial, needs)
    if finding.severity != "ok":
        return finding
    version, cuda, arrays = trial.facts["version"], trial.facts["cuda"], trial.facts["arrays"]
    finding = replace(finding, found=f"{version}, {f'built for CUDA {cuda}' if cuda else 'built for CPUs only'}")
    if arrays:
        said = f"{version} cannot make NumPy arrays: {arrays}"
        return Finding(name="torch", found=said, severity="error", mend=mend_package("numpy", needs))
    pinned = needs.hosts.get("torch")
    if pinned and not within(version.partition("+")[0], pinned.bounds):
        said = f"{finding.found}; fairchem-core asks for {pinned.bounds}, its own models may fail with another"
        return replace(finding, found=said, severity="warning", mend=install(pinned))
    return finding


def extension_finding(package: str, trial: Trial, torch: Trial, needs: Needs) -> Finding:
    """torch-scatter or torch-sparse: there, compiled against this torch, for GPUs where torch drives some."""
    only_host = "only the plain `fairchem` command needs it"
    finding = package_finding(package, trial, needs)
    if package == "torch-sparse" and finding.found == "not installed":
        return replace(finding, severity="ok", found=f"not installed: {only_host}")
    if finding.severity == "error" and package == "torch-sparse":
        return replace(finding, severity="warning", found=f"{finding.found}; {only_host}")
    if finding.severity != "ok":
        return finding
    built = trial.facts["cuda"]
    kernels = f"with kernels for CUDA {built // 1000}.{built % 1000 // 10}" if built > 0 else "for CPUs"
    if not torch.facts.get("gpus") or (built > 0 and not trial.facts.get("on_gpu")):
        return replace(finding, found=f"{finding.found}, {kernels}")
    toolkit = bool(shutil.which("nvcc") or os.environ.get("CUDA_HOME"))
    said = trial.facts.get("on_gpu") or "compiled for CPUs only"
    return replace(
        finding,
        severity="warning",
        found=f"{finding.found}: fairchem's own models fail on the GPU ({said}), the plugin's do not need it "
        f"there{'' if toolkit else '. To compile for the GPU, nvcc of the CUDA toolkit must be in the PATH'}",
        mend=compile_anew(package),
    )


def gpu_finding(driver: Driver | None, torch: Trial) -> Finding:
    """The GPUs of this machine, and whether torch can use them."""
    if torch.failure:
        return untried("gpu", "torch")
    gpus, cuda, version = torch.facts["gpus"], torch.facts["cuda"], torch.facts["version"]
    if gpus:
        shown = ", ".join(f"{one['name']} (compute capability {_dotted(one['capability'])})" for one in gpus)
        if min(one["capability"][0] for one in gpus) < _OLDEST_FOR_KERNELS:
            shown += (
                f"; below capability {_OLDEST_FOR_KERNELS} the Triton kernels do not run, backend auto takes others"
            )
        return Finding(name="gpu", found=shown)
    if driver is None:
        return Finding(name="gpu", found="none: everything runs on the CPU")
    if driver.error:
        said = f"nvidia-smi fails: {driver.error}"
        return Finding(name="gpu", found=said, severity="error", mend="sudo reboot")
    if not driver.gpus:
        return Finding(name="gpu", found="none, though there is a driver: everything runs on the CPU")
    listed = ", ".join(driver.gpus)
    if os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1"):
        said = f"{listed}; hidden by CUDA_VISIBLE_DEVICES"
        return Finding(name="gpu", found=said, severity="warning", mend="unset CUDA_VISIBLE_DEVICES")
    if cuda is None:
        said = f"{listed}; this torch is built for CPUs only"
    else:
        said = f"{listed}; the driver serves CUDA {driver.cuda}, this torch is built for {cuda} and sees no GPU"
    return Finding(name="gpu", found=said, severity="error", mend=torch_for(_build_for(driver.cuda), version))


def triton_finding(trial: Trial, torch: Trial) -> Finding:
    """The compiler of the GPU kernels, which in turn calls a C compiler."""
    gpus = torch.facts.get("gpus")
    present = installed_version("triton")
    severity: Severity = "error" if gpus else "ok"
    mend = install("triton") if gpus else None
    if trial.failure:
        said = f"{trial.failure if present else 'not installed'}{'' if gpus else ': without a GPU nothing needs it'}"
        return Finding(name="triton", found=said, severity=severity, mend=mend)
    if gpus and not any(map(shutil.which, (os.environ.get("CC") or "gcc", "cc", "clang"))):
        said = f"{present}, but there is no C compiler, which it calls when a kernel first runs"
        return Finding(name="triton", found=said, severity="error", mend="sudo apt-get install -y gcc")
    return Finding(name="triton", found=f"{present}{'' if gpus else '; without a GPU nothing needs it'}")


def _build_for(cuda: str | None) -> str:
    """The build of torch 2.4 for what a driver serves: drivers of one major version serve all its builds."""
    return "cu118" if cuda and int(cuda.partition(".")[0]) < 12 else "cu121"


def _dotted(numbers: list[int]) -> str:
    return ".".join(map(str, numbers))
