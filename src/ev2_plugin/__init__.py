"""EquiformerV2 (arXiv:2306.12059) as a plugin for fairchem-core 1.10.

Configs name the classes below by dotted path, for example `model: {name: ev2_plugin.EquiformerV2}`. They
are imported on first use, so that `import ev2_plugin` costs nothing and needs neither torch nor fairchem.
"""

from importlib import import_module

__version__ = "0.2.0"

_MODULE_OF = {
    "Calculator": "ev2_plugin.integration.calculator",
    "EquiformerV2": "ev2_plugin.integration.backbone",
    "EquiformerV2Backbone": "ev2_plugin.integration.backbone",
    "EnergyHead": "ev2_plugin.integration.heads",
    "ForceHead": "ev2_plugin.integration.heads",
    "StressHead": "ev2_plugin.integration.heads",
    "LocalLogger": "ev2_plugin.integration.local_logger",
    "VectorHead": "ev2_plugin.integration.heads",
    "Trainer": "ev2_plugin.integration.trainer",
    "ModelConfig": "ev2_plugin.model.config",
    "load": "ev2_plugin.integration.loaded_model",
}

__all__ = [
    "Calculator",
    "EnergyHead",
    "EquiformerV2",
    "EquiformerV2Backbone",
    "ForceHead",
    "LocalLogger",
    "ModelConfig",
    "StressHead",
    "Trainer",
    "VectorHead",
    "__version__",
    "load",
]


def __getattr__(name: str) -> object:
    """Import a public name when it is first asked for.

    Raises:
        AttributeError: If the package has no such name.
        ImportError: If its module cannot be imported; the message carries the cause.
    """
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'ev2_plugin' has no attribute {name!r}; it has {', '.join(__all__)}")
    try:
        value = getattr(import_module(_MODULE_OF[name]), name)
    except AttributeError as error:
        # fairchem's registry takes an AttributeError for "no such class" and hides what went wrong.
        raise ImportError(f"cannot import ev2_plugin.{name} from {_MODULE_OF[name]}: {error}") from error
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))
