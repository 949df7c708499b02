"""`ev2 version`: what a bug report needs."""

import platform
from importlib.metadata import version as installed_version

import typer

import ev2_plugin
from ev2_plugin.cli.json_output import JsonOption, print_json


def version(as_json: JsonOption = False) -> None:
    """Print the versions of the plugin and of what it runs on.

    Example: ev2 version --json
    """
    packages = ("fairchem-core", "torch", "torch-geometric", "e3nn")
    versions = {
        "ev2-plugin": ev2_plugin.__version__,
        **{package: installed_version(package) for package in packages},
        "python": platform.python_version(),
    }
    if as_json:
        print_json(versions)
        return
    for name, number in versions.items():
        typer.echo(f"{name} {number}")
