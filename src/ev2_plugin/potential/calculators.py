"""ASE calculators by name, with their keywords as JSON."""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping
from typing import Any

from ase.calculators.calculator import BaseCalculator

SHORT_NAMES = {"emt": "ase.calculators.emt.EMT"}


def build_calculator(name: str, keywords: Mapping[str, Any]) -> BaseCalculator:
    """Make a calculator.

    Args:
        name: One of `SHORT_NAMES`, or `package.module.Class`; a colon before the class will do too.
        keywords: Of its constructor.

    Raises:
        ValueError: If there is no such class, it is no calculator of ASE, or it does not take the keywords.
    """
    module, _, attribute = SHORT_NAMES.get(name, name).replace(":", ".").rpartition(".")
    if not (module and attribute):
        raise ValueError(
            f"calculator {name!r}: choose {', '.join(SHORT_NAMES)}, or package.module.Class of one of ASE's"
        )
    try:
        made = getattr(importlib.import_module(module), attribute)(**keywords)
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        raise ValueError(f"calculator {name!r} with keywords {dict(keywords)}: {error}") from error
    if not isinstance(made, BaseCalculator):
        raise ValueError(f"calculator {name!r} makes a {type(made).__name__}, which is no calculator of ASE")
    return made


def parse_keywords(text: str | None) -> dict[str, Any]:
    """Read a calculator's keywords.

    Raises:
        ValueError: If the text is no JSON object.
    """
    try:
        keywords = json.loads(text) if text else {}
    except json.JSONDecodeError as error:
        raise ValueError(f"keywords {text!r} are no JSON: {error}") from None
    if not isinstance(keywords, dict):
        raise ValueError(f'keywords {text!r}: should be a JSON object like {{"asap_cutoff": true}}')
    return keywords
