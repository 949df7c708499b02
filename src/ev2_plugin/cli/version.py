"""`ev2 version`: what a bug report needs."""

import platform
from importlib.metadata import version as installed_version

import typer

import ev2_plugin


def version() -> None:
    """Print the versions of the plugin and of what it runs on."""
    typer.echo(f"ev2-plugin {ev2_plugin.__version__}")
    for package in ("fairchem-core", "torch", "torch-geometric", "e3nn"):
        typer.echo(f"{package} {installed_version(package)}")
    typer.echo(f"python {platform.python_version()}")
