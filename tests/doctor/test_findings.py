"""What is found from what trials and metadata tell, and the line that mends it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from ev2_plugin.doctor import dependencies, installer, packages, services, torch_stack
from ev2_plugin.doctor.dependencies import Needs, other_packages, python_finding
from ev2_plugin.doctor.finding import Finding, worst
from ev2_plugin.doctor.host import registry_finding
from ev2_plugin.doctor.packages import package_finding
from ev2_plugin.doctor.services import slurm_finding, wandb_finding
from ev2_plugin.doctor.table import mending_lines, summary
from ev2_plugin.doctor.torch_stack import ask_driver, extension_finding, gpu_finding, torch_finding, triton_finding
from ev2_plugin.doctor.trials import Trial
from ev2_plugin.doctor.versions import Requirement

NEEDS = Needs.read()
TORCH = {"version": "2.4.1+cu121", "cuda": "12.1", "arrays": None, "gpus": []}
H100 = {"name": "H100", "capability": [9, 0]}


@pytest.fixture(autouse=True)
def by_pip(monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment whose `pip` is the one of the PATH, with what builds need."""
    monkeypatch.setattr(installer, "_installer", lambda: "pip install")
    monkeypatch.setattr(installer, "_is_installed", lambda requirement: True)


def trial(**facts: Any) -> Trial:
    return Trial(facts=facts)


def failed(said: str, module: str | None = None, died: bool = False) -> Trial:
    return Trial(facts={}, failure=said, module=module, place="/env/x.py, line 3", died=died)


def installed(monkeypatch: pytest.MonkeyPatch, **versions: str | None) -> None:
    """Packages of other versions than here, or not installed."""
    real = dependencies.installed_version

    def version(package: str) -> str | None:
        key = package.replace("-", "_")
        return versions[key] if key in versions else real(package)

    for module in (dependencies, packages, torch_stack):
        monkeypatch.setattr(module, "installed_version", version)


def command(folder: Path, name: str, script: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def test_bounds_come_from_the_installed_metadata() -> None:
    assert NEEDS.ours["scipy"].bounds == "<1.17"
    assert NEEDS.hosts["torch"].bounds == "~=2.4.0"
    assert set(NEEDS.of["numpy"]) >= {"ev2-plugin", "fairchem-core", "scipy"}


def test_a_version_out_of_bounds_is_an_error_and_the_line_brings_it_within(monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch, numpy="2.1.0", lmdb="1.7.5")
    numpy = package_finding("numpy", trial(version="2.1.0"), NEEDS)
    assert numpy == Finding(
        name="numpy", found="2.1.0 is not <2,>=1.26", severity="error", mend='pip install "numpy<2,>=1.26"'
    )
    assert package_finding("lmdb", trial(version="1.7.5"), NEEDS).mend == 'pip install "lmdb<1.7"'


def test_an_import_error_that_names_another_package_is_mended_there(monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch, scipy="1.17.0")
    said = failed("ImportError: cannot import name 'sph_harm' from 'scipy.special'", "scipy.special")
    for package in ("scipy", "fairchem-core"):
        finding = package_finding(package, said, NEEDS)
        assert finding.severity == "error"
        assert "sph_harm" in finding.found
        assert finding.mend == 'pip install "scipy<1.17"'


def test_a_package_of_the_right_version_that_does_not_import_is_installed_anew() -> None:
    finding = package_finding("lmdb", failed("crashes (SIGSEGV)", died=True), NEEDS)
    assert finding.found == "1.6.2: crashes (SIGSEGV) (at /env/x.py, line 3)"
    assert finding.mend == 'pip install --force-reinstall --no-deps "lmdb<1.7"'


def test_a_module_of_unknown_origin_gets_no_line_that_might_install_something_else() -> None:
    assert package_finding("ase", failed("ModuleNotFoundError: no 'yaml2'", "yaml2"), NEEDS).mend is None


def test_what_is_compiled_is_compiled_anew_against_the_torch_that_is_there() -> None:
    said = failed("OSError: undefined symbol: _ZN3c106detail14")
    line = extension_finding("torch-scatter", said, trial(**TORCH), NEEDS).mend
    assert line == (
        'pip install --no-build-isolation --no-cache-dir --force-reinstall --no-deps "torch-scatter>=2.1.2"'
    )


def test_what_a_build_needs_is_installed_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(installer, "_is_installed", lambda requirement: requirement == "wheel")
    assert installer.compile_anew("torch-scatter").startswith('pip install "setuptools<81" ninja && pip install --no-b')


def test_torch_sparse_is_for_plain_fairchem_only(monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch, torch_sparse=None)
    absent = failed("ModuleNotFoundError: No module named 'torch_sparse'", "torch_sparse")
    finding = extension_finding("torch-sparse", absent, trial(**TORCH), NEEDS)
    assert finding.severity == "ok"
    assert "only the plain `fairchem` command needs it" in finding.found
    assert finding.mend is not None
    assert "torch-sparse" in finding.mend
    installed(monkeypatch, torch_sparse="0.6.18")
    broken = extension_finding("torch-sparse", failed("OSError: undefined symbol"), trial(**TORCH), NEEDS)
    assert broken.severity == "warning"


def test_extensions_without_kernels_matter_where_torch_has_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CUDA_HOME", raising=False)
    gpu = trial(**{**TORCH, "gpus": [H100]})
    for_cpus = trial(version="2.1.2", cuda=-1, on_gpu="RuntimeError: Not compiled with CUDA support")
    finding = extension_finding("torch-scatter", for_cpus, gpu, NEEDS)
    assert finding.severity == "warning"
    assert "Not compiled with CUDA support" in finding.found
    assert "nvcc" in finding.found
    assert extension_finding("torch-scatter", for_cpus, trial(**TORCH), NEEDS).severity == "ok"
    with_kernels = extension_finding("torch-scatter", trial(version="2.1.2", cuda=12010, on_gpu=None), gpu, NEEDS)
    assert with_kernels == Finding(name="torch-scatter", found="2.1.2, with kernels for CUDA 12.1")


def test_a_torch_newer_than_the_hosts_pin_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch, torch="2.13.0")
    finding = torch_finding(trial(**{**TORCH, "version": "2.13.0+cu126"}), NEEDS)
    assert finding.severity == "warning"
    assert "fairchem-core asks for ~=2.4.0" in finding.found
    assert finding.mend == 'pip install "torch~=2.4.0"'


def test_a_torch_without_numpy_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch, numpy="2.3.0")
    finding = torch_finding(trial(**{**TORCH, "arrays": "RuntimeError: Numpy is not available"}), NEEDS)
    assert finding.severity == "error"
    assert finding.mend == 'pip install "numpy<2,>=1.26"'


@pytest.mark.parametrize(
    ("smi", "torch", "severity", "said", "mend"),
    [
        (None, TORCH, "ok", "everything runs on the CPU", None),
        ("echo 'Driver/library version mismatch' >&2; exit 18", TORCH, "error", "version mismatch", "sudo reboot"),
        ("echo 'CUDA Version: 12.4'", {**TORCH, "gpus": [H100]}, "ok", "H100 (compute capability 9.0)", None),
        (
            "echo 'CUDA Version: 11.4'; echo 'GPU 0: V100 (UUID: x)'",
            TORCH,
            "error",
            "the driver serves CUDA 11.4, this torch is built for 12.1",
            'torch==2.4.1" --index-url https://download.pytorch.org/whl/cu118',
        ),
        (
            "echo 'CUDA Version: 12.4'; echo 'GPU 0: A100 (UUID: x)'",
            {**TORCH, "version": "2.4.1+cpu", "cuda": None},
            "error",
            "built for CPUs only",
            "https://download.pytorch.org/whl/cu121",
        ),
        (
            "echo 'CUDA Version: 12.4'",
            {**TORCH, "gpus": [{"name": "V100", "capability": [7, 0]}]},
            "ok",
            "below capability 8 the Triton kernels do not run",
            None,
        ),
    ],
)
def test_gpus_as_driver_and_torch_tell_of_them(
    smi: str | None,
    torch: dict[str, Any],
    severity: str,
    said: str,
    mend: str | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if smi is not None:
        command(tmp_path, "nvidia-smi", smi)
    finding = gpu_finding(ask_driver(), trial(**torch))
    assert finding.severity == severity
    assert said in finding.found
    assert (finding.mend is None) if mend is None else (mend in str(finding.mend))


def test_a_hidden_gpu_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    command(tmp_path, "nvidia-smi", "echo 'GPU 0: A100 (UUID: x)'")
    finding = gpu_finding(ask_driver(), trial(**TORCH))
    assert (finding.severity, finding.mend) == ("warning", "unset CUDA_VISIBLE_DEVICES")


def test_kernels_need_a_c_compiler_where_there_is_a_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    finding = triton_finding(trial(version="3.0.0"), trial(**{**TORCH, "gpus": [H100]}))
    assert (finding.severity, finding.mend) == ("error", "sudo apt-get install -y gcc")
    assert triton_finding(trial(version="3.0.0"), trial(**TORCH)).severity == "ok"
    assert triton_finding(failed("ImportError: no libcuda"), trial(**TORCH)).severity == "ok"


def test_of_errors_in_the_registry_each_cause_is_told_once() -> None:
    sparse = {"said": "ModuleNotFoundError: No module named 'torch_sparse'", "module": "torch_sparse", "place": "a"}
    only_sparse = registry_finding(trial(failures={"gemnet": sparse, "gemnet.layers": sparse}), NEEDS)
    assert only_sparse.severity == "ok"
    assert "2 modules of fairchem's other models need torch-sparse" in only_sparse.found
    own = {"said": "ImportError: cannot import name 'x' from 'scipy.special'", "module": "scipy.special", "place": "b"}
    both = registry_finding(trial(failures={"gemnet": sparse, "models.one": own, "models.two": own}), NEEDS)
    assert both.severity == "error"
    assert both.found == f"models.one: {own['said']} (at b)"
    damaged = {"said": "SyntaxError: invalid syntax", "module": None, "place": "fairchem/core/models/base.py, line 1"}
    finding = registry_finding(trial(failures={"models.base": damaged}), NEEDS)
    assert finding.mend == 'pip install --force-reinstall --no-deps "fairchem-core==1.10.0"'


def test_packages_without_a_line_of_their_own_are_told_together(monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch, hydra_core=None, jaxtyping="0.2.0", tqdm="4.0")
    finding = other_packages(NEEDS, shown=set())
    assert finding.severity == "error"
    assert "hydra-core is missing (needed by fairchem-core)" in finding.found
    assert "jaxtyping is 0.2.0, not >=0.2.34" in finding.found
    assert str(finding.mend).startswith('pip install hydra-core "')


def test_a_version_that_the_plugin_itself_excludes_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch, jaxtyping="0.2.0")
    assert other_packages(NEEDS, shown=set()).severity == "error"


def test_a_package_that_only_others_bound_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch, protobuf="4.0")
    finding = other_packages(NEEDS, shown=set())
    assert finding.severity == "warning"
    assert str(finding.mend).startswith('pip install "protobuf')


def test_python_beyond_the_bounds_is_an_error() -> None:
    assert python_finding("3.11.7", "<3.13,>=3.11").severity == "ok"
    finding = python_finding("3.13.1", "<3.13,>=3.11")
    assert (finding.severity, finding.mend) == ("error", "uv venv --python 3.11")


@pytest.mark.parametrize(
    ("mode", "facts", "said"),
    [
        ("offline", {}, "WANDB_MODE is offline"),
        (None, {"wandb_is_settled": True}, "an account or a mode is configured"),
        (None, {"wandb_is_settled": False}, "no account"),
        (None, {}, ""),
    ],
)
def test_wandb_tells_where_runs_go(
    mode: str | None, facts: dict[str, Any], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("WANDB_MODE", raising=False)
    if mode:
        monkeypatch.setenv("WANDB_MODE", mode)
    finding = wandb_finding(trial(version="0.31.0"), trial(**facts), NEEDS)
    assert finding.severity == "ok"
    assert said in finding.found


@pytest.mark.parametrize(
    ("sinfo", "severity", "said"),
    [
        (None, "ok", "not on this machine"),
        ("echo 'gpu* 4 nodes idle gpu:a100:8'; echo 'cpu 2 nodes idle (null)'", "ok", "idle gpu:a100:8; cpu 2 nodes"),
        ("echo 'sinfo: error: Unable to contact slurm controller' >&2; exit 1", "warning", "Unable to contact"),
        ("sleep 30", "warning", "does not answer within 1 s"),
    ],
)
def test_slurm_is_asked(
    sinfo: str | None, severity: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(services, "_PATIENCE", 1)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin" if sinfo else str(tmp_path))
    if sinfo:
        for name in ("sbatch", "srun", "squeue", "scontrol"):
            command(tmp_path, name, "true")
        command(tmp_path, "sinfo", f"exec {sinfo}" if sinfo.startswith("sleep") else sinfo)
    finding = slurm_finding()
    assert finding.severity == severity
    assert said in finding.found


def test_slurm_with_commands_missing_is_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    command(tmp_path, "sbatch", "true")
    assert "there is no srun, sinfo, squeue, scontrol" in slurm_finding().found


def test_lines_are_given_once_and_errors_first() -> None:
    findings = [
        Finding(name="a", found="", severity="warning", mend="x"),
        Finding(name="b", found="", severity="error", mend="y"),
        Finding(name="c", found="", severity="error", mend="y"),
        Finding(name="d", found="", mend="z"),
    ]
    assert mending_lines(findings) == ["# b", "y", "# a", "x", "# d (only if you want it)", "z"]
    assert summary(findings) == "2 errors, 1 warning, 1 ok"
    assert worst(findings) == "error"
    assert worst([]) == "ok"


def test_lines_are_for_this_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.undo()
    environment = tmp_path / "an env/bin"
    environment.mkdir(parents=True)
    monkeypatch.setattr(sys, "executable", str(environment / "python"))
    monkeypatch.setattr(sys, "prefix", str(environment.parent))
    monkeypatch.setenv("PATH", str(environment))
    monkeypatch.setattr(installer, "find_spec", lambda name: None)
    assert installer.install("ase") == f"uv pip install --python '{environment}/python' ase"
    (tmp_path / ".uv/bin").mkdir(parents=True)
    command(tmp_path / ".uv/bin", "uv", "true")
    assert installer.install("ase").startswith(f"{tmp_path}/.uv/bin/uv pip install")
    monkeypatch.setattr(installer, "find_spec", lambda name: object())
    assert installer.install("ase") == f"'{environment}/python' -m pip install ase"
    command(environment, "pip", "true")
    assert installer.install(Requirement("ase", "<3.26")) == 'pip install "ase<3.26"'
