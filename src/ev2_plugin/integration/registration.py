"""Short names of the plugin's classes in fairchem's registry.

Dotted paths (`ev2_plugin.EquiformerV2`) need no registration. Short names do, in every process that builds a
model: the plugin's launcher registers them, and in a plain `fairchem` run the host's own hook does
(`fairchem/experimental/ev2_plugin/register.py` in the wheel).
"""

from fairchem.core.common.registry import registry

import ev2_plugin

SHORT_NAMES = {
    ("model", "ev2"): "EquiformerV2",
    ("model", "ev2_backbone"): "EquiformerV2Backbone",
    ("model", "ev2_energy_head"): "EnergyHead",
    ("model", "ev2_force_head"): "ForceHead",
    ("model", "ev2_stress_head"): "StressHead",
    ("model", "ev2_vector_head"): "VectorHead",
    ("trainer", "ev2"): "Trainer",
    ("logger", "local"): "LocalLogger",
}
"""Class of the plugin by the host's kind of class and the short name."""


def register() -> None:
    """Put the plugin's models, heads, trainer and logger into fairchem's registry; a second call changes nothing.

    Raises:
        ImportError: If a module of the plugin cannot be imported, with its own message.
        ValueError: If one of the names already belongs to a class of another package.
    """
    for (kind, short_name), class_name in SHORT_NAMES.items():
        ours = getattr(ev2_plugin, class_name)
        present = registry.mapping[f"{kind}_name_mapping"].get(short_name, ours)
        if present is not ours:
            raise ValueError(
                f"fairchem's registry already has a {kind} {short_name!r}: "
                f"{present.__module__}.{present.__qualname__}; name ours by its path, ev2_plugin.{class_name}"
            )
        getattr(registry, f"register_{kind}")(short_name)(ours)
