"""A config as the model section of a YAML file."""

from dataclasses import MISSING, fields
from typing import Any

from ev2_plugin.model.config import ModelConfig


def settings_of(config: ModelConfig) -> dict[str, Any]:
    """The model section that `parse_model_settings` reads back to the same config, defaults left out."""
    return {
        field.name: getattr(config, field.name)
        for field in fields(config)
        if field.default is MISSING or getattr(config, field.name) != field.default
    }
