"""The lines that install packages into this environment, whichever tool made it."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from ev2_plugin.doctor.versions import Requirement, within

_TO_COMPILE = ("setuptools<81", "wheel", "ninja")
"""What a build without isolation takes from the environment; later setuptools lack what torch 2.4 builds with."""


def install(*requirements: Requirement | str, anew: bool = False) -> str:
    """The line that brings packages within their bounds.

    Args:
        requirements: What to install.
        anew: Also if such a version is installed: its files are damaged.
    """
    return " ".join([_installer(), *(["--force-reinstall", "--no-deps"] if anew else []), *map(_quoted, requirements)])


def compile_anew(package: Requirement | str) -> str:
    """The line that builds a package of torch extensions against the torch that is installed.

    Caches are left alone: they hand out what was built for another torch.
    """
    missing = [one for one in _TO_COMPILE if not _is_installed(one)]
    build = f"{_installer()} --no-build-isolation --no-cache-dir --force-reinstall --no-deps {_quoted(package)}"
    return f"{install(*missing)} && {build}" if missing else build


def torch_for(cuda: str, torch_version: str) -> str:
    """The line that installs the same torch built for another CUDA.

    Args:
        cuda: As in the index's address, `cu118`.
        torch_version: As torch says it, `2.4.1+cpu`.
    """
    release = torch_version.partition("+")[0]
    index = f"--index-url https://download.pytorch.org/whl/{cuda}"
    return f"{_installer()} --force-reinstall --no-deps {_quoted(f'torch=={release}')} {index}"


def _installer() -> str:
    if find_spec("pip") is None:
        return f"{_uv()} pip install --python {shlex.quote(sys.executable)}"
    found = shutil.which("pip")
    if found and Path(found).parent == Path(sys.executable).parent:
        return "pip install"
    return f"{shlex.quote(sys.executable)} -m pip install"


def _uv() -> str:
    """The command `uv`; that of `make setup` lies beside the environment."""
    beside = Path(sys.prefix).parent / ".uv/bin/uv"
    if shutil.which("uv") or not os.access(beside, os.X_OK):
        return "uv"
    return shlex.quote(str(beside))


def _quoted(requirement: Requirement | str) -> str:
    text = str(requirement)
    return f'"{text}"' if any(sign in text for sign in "<>=~!") else text


def _is_installed(requirement: str) -> bool:
    name, _, below = requirement.partition("<")
    try:
        return within(version(name), f"<{below}" if below else "")
    except PackageNotFoundError:
        return False
