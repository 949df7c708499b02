"""Find the classes that a run's config names, importing of fairchem only the modules that define them.

fairchem's own start imports every model it has, which takes seconds and needs torch-sparse. Here the
modules every run needs are imported, and those of other host models when a config names one. Errors of an
import reach the user as they are; the host's registry would report "Failed to find the model".
"""

import difflib
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from fairchem.core.common import registry as registry_module
from fairchem.core.common.registry import registry

from ev2_plugin.integration.registration import register

_ALWAYS_NEEDED = ("common.logger", "trainers", "datasets", "models.base", "tasks")
_IMPORTS_DONE = "imports_setup"  # the host's own mark: its import sweep has run


@contextmanager
def only_needed_imports(config: Mapping[str, Any]) -> Iterator[None]:
    """Register what `config` names and keep the host from importing the rest of its models.

    The host's mark is put back on leaving, so that whatever the same process does later with fairchem
    (an `OCPCalculator` for another model, say) finds it as it was.

    Args:
        config: The run's config, as `build_run_config` returns it.

    Raises:
        ImportError: If a module that the config needs cannot be imported.
        ValueError: If the config names a class that nobody registers.
    """
    for module in _ALWAYS_NEEDED:
        import_module(f"fairchem.core.{module}")
    register()
    for kind, name in named_classes(config):
        import_class(kind, name)
    before = registry.get(_IMPORTS_DONE, default=False, no_warning=True)
    registry.register(_IMPORTS_DONE, True)
    try:
        yield
    finally:
        registry.register(_IMPORTS_DONE, before)


def named_classes(config: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield (kind, name) for every class that the host will look up for this config."""
    yield "trainer", config.get("trainer", "ocp")
    yield from _named_models(_mapping(config.get("model")))
    for split in _mapping(config.get("dataset")).values():
        if "format" in _mapping(split):
            yield "dataset", split["format"]
    losses = config.get("loss_functions")
    for loss in losses if isinstance(losses, list) else []:
        for settings in _mapping(loss).values():
            if "fn" in _mapping(settings):
                yield "loss", settings["fn"]


def _named_models(model: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    if "name" in model:
        yield "model", model["name"]
    if "model" in _mapping(model.get("backbone")):
        yield "model", model["backbone"]["model"]
    for head in _mapping(model.get("heads")).values():
        if "module" in _mapping(head):
            yield "model", head["module"]
    start = _mapping(model.get("finetune_config")).get("starting_checkpoint")
    if start is not None:
        # The host builds the model that the checkpoint's config names, so its classes are needed too.
        checkpoint = torch.load(start, map_location="cpu", weights_only=False)
        yield from _named_models(checkpoint["config"]["model"])


def _mapping(value: object) -> Mapping[str, Any]:
    """Return `value` if it has keys; whatever else a config holds there is left for the host to judge."""
    return value if isinstance(value, Mapping) else {}


def import_class(kind: str, name: str) -> None:
    """Import the module that defines a class, so that the host's registry finds it.

    Args:
        kind: "model", "trainer", "dataset" or "loss".
        name: A registered short name or a dotted path.

    Raises:
        ImportError: If the module cannot be imported.
        ValueError: If nobody registers the short name; names that are alike are suggested.
    """
    registered = registry.mapping[f"{kind}_name_mapping"]
    if name in registered:
        return
    if "." in name:
        module, _, attribute = name.rpartition(".")
        if not hasattr(import_module(module), attribute):
            raise ImportError(f"{kind} {name!r}: module {module!r} has no class {attribute!r}")
        return
    modules = _host_modules(kind)
    if name not in modules:
        known = sorted({*modules, *registered})
        alike = difflib.get_close_matches(name, known, n=3) or known
        raise ValueError(
            f"no {kind} is called {name!r}; perhaps {' or '.join(map(repr, alike))}, "
            "or the dotted path of a class of your own"
        )
    try:
        import_module(modules[name])
    except ImportError as error:
        raise ImportError(
            f"fairchem's {kind} {name!r} ({modules[name]}) cannot be imported: {error}. "
            "The extra `ev2-plugin[host]` installs what fairchem's other models need."
        ) from error


@cache
def _host_modules(kind: str) -> dict[str, str]:
    """Map each name that fairchem's sources register for `kind` to the module that does it."""
    root = Path(registry_module.__file__).parents[1]
    decorator = re.compile(rf'^@registry\.register_{kind}\("([^"]+)"\)', re.MULTILINE)
    return {
        name: ".".join(["fairchem.core", *path.relative_to(root).with_suffix("").parts])
        for path in sorted(root.rglob("*.py"))
        for name in decorator.findall(path.read_text(encoding="utf-8"))
    }
