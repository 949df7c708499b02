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

from fairchem.core.common import registry as registry_module
from fairchem.core.common.registry import registry
from torch import nn

from ev2_plugin.integration.host_reading import host_reads_data_only, is_trusted
from ev2_plugin.integration.registration import SHORT_NAMES, register
from ev2_plugin.storage.safe_pickle import ADVICE
from ev2_plugin.storage.torch_file import read_torch
from ev2_plugin.storage.unpickler import Refused

_ALWAYS_NEEDED = ("common.logger", "trainers", "datasets", "models.base", "tasks")
_HOSTS_MODELS = "fairchem.core.models."
_IMPORTS_DONE = "imports_setup"  # the host's own mark: its import sweep has run


@contextmanager
def only_needed_imports(config: Mapping[str, Any]) -> Iterator[None]:
    """Register what `config` names, and keep the host from importing the rest of its models and from executing files.

    The host's mark is put back on leaving, so that whatever the same process does later with fairchem
    (an `OCPCalculator` for another model, say) finds it as it was.

    Args:
        config: The run's config, as `build_run_config` returns it.

    Raises:
        ImportError: If a module that the config needs cannot be imported.
        Refused: If a checkpoint to start from holds more than data, and the config does not say `task.trust`.
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
        with host_reads_data_only(is_trusted(config)):
            yield
    finally:
        registry.register(_IMPORTS_DONE, before)


def named_classes(config: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield (kind, name) for every class that the host will look up for this config."""
    yield "trainer", config.get("trainer", "ocp")
    yield from _named_models(_mapping(config.get("model")), is_trusted(config))
    logger = config.get("logger") or "local"
    name = logger if isinstance(logger, str) else _mapping(logger).get("name")
    if name != "wandb_singleton":  # the host makes it without looking it up
        yield "logger", name
    for split in _mapping(config.get("dataset")).values():
        if "format" in _mapping(split):
            yield "dataset", split["format"]
    losses = config.get("loss_functions")
    for loss in losses if isinstance(losses, list) else []:
        for settings in _mapping(loss).values():
            if "fn" in _mapping(settings):
                yield "loss", settings["fn"]


def _named_models(model: Mapping[str, Any], trust: bool) -> Iterator[tuple[str, Any]]:
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
        settings = read_torch(Path(start), trust=trust, map_location="meta")["config"]["model"]
        if not trust:
            check_named_classes({"model": settings}, start)
        yield from _named_models(settings, trust)


def check_named_classes(config: Mapping[str, Any], source: object) -> None:
    """Refuse a config out of a file that names classes of other packages: building a model calls what is named.

    Args:
        config: With a model section.
        source: What to call the file in the message.

    Raises:
        Refused: Naming the class.
    """
    ours = {f"ev2_plugin.{name}" for name in SHORT_NAMES.values()}
    for _, name in _named_models({**config["model"], "finetune_config": None}, trust=False):
        if "." not in name or name in ours or _is_model_of_host(name):
            continue
        raise Refused(
            f"{source}: its config names the class {name}, which is neither ev2_plugin's nor fairchem's. Building it "
            f"would run code that the file chooses; {ADVICE}"
        )


def _is_model_of_host(name: str) -> bool:
    module, _, attribute = name.rpartition(".")
    if not module.startswith(_HOSTS_MODELS):
        return False
    try:
        found = getattr(import_module(module), attribute, None)
    except ImportError:
        return False
    return isinstance(found, type) and issubclass(found, nn.Module) and found.__module__.startswith(_HOSTS_MODELS)


def _mapping(value: object) -> Mapping[str, Any]:
    """Return `value` if it has keys; whatever else a config holds there is left for the host to judge."""
    return value if isinstance(value, Mapping) else {}


def import_class(kind: str, name: Any) -> None:
    """Import the module that defines a class, so that the host's registry finds it.

    Args:
        kind: "model", "trainer", "logger", "dataset" or "loss".
        name: A registered short name or a dotted path.

    Raises:
        ImportError: If the module cannot be imported; its own error is in the message, at every attempt.
        ValueError: If nobody registers the short name; names that are alike are suggested.
    """
    if not isinstance(name, str):
        raise ValueError(f"the {kind} must be given by its name, got {name!r}")
    registered = registry.mapping[f"{kind}_name_mapping"]
    if name in registered:
        return
    if "." in name:
        module, _, attribute = name.rpartition(".")
        try:
            found = import_module(module)
        except ImportError as error:
            raise ImportError(f"{kind} {name!r}: {module} cannot be imported: {error}") from error
        if not hasattr(found, attribute):
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
