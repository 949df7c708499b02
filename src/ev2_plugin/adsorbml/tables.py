"""Tables of a campaign: CSV with a header, one record per line."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from dataclasses import astuple, fields
from math import isfinite
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

from ev2_plugin.adsorbml.records import RankedConfiguration, RelaxedConfiguration, SinglePoint, Target
from ev2_plugin.storage.safe_pickle import reading

Record = TypeVar("Record", RelaxedConfiguration, RankedConfiguration, SinglePoint, Target)

_BOOLEANS = {"true": True, "false": False}


def write_table(path: Path, records: Iterable[Record], kind: type[Record]) -> None:
    """Write records; the file appears when it is complete.

    Args:
        path: CSV file to write or replace.
        records: One line each, in this order. Numbers are written such that they are read back exactly.
        kind: Class of the records, whose fields are the columns.

    Raises:
        ValueError: If a number is not finite, or two records are of the same system and configuration.
    """
    scratch = path.with_name(f"{path.name}.part")
    names = [field.name for field in fields(kind)]
    seen: set[tuple[str, str]] = set()
    try:
        with scratch.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(names)
            for record in records:
                _note(seen, record, f"{path.name}")
                writer.writerow([_text(name, value) for name, value in zip(names, astuple(record), strict=True)])
        scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)


def read_table(path: Path, kind: type[Record]) -> list[Record]:
    """Read the records of a table, in its order.

    Args:
        path: CSV file; its columns may stand in any order, and there may be more than those of `kind`.
        kind: Class of the records.

    Raises:
        ValueError: If a column is missing, a field is not what it should be, or two lines are of the same system and
            configuration; with file and line.
    """
    types = get_type_hints(kind)
    records: list[Record] = []
    seen: set[tuple[str, str]] = set()
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file, strict=True)
        with reading(path):
            columns = reader.fieldnames or ()
        missing = [name for name in types if name not in columns]
        if missing:
            raise ValueError(f"{path}: there are no columns {', '.join(missing)}; it should have {', '.join(types)}")
        try:
            for row in reader:
                record = kind(**{name: _value(name, row[name], wanted) for name, wanted in types.items()})
                _note(seen, record, "the table")
                records.append(record)
        except (ValueError, csv.Error) as error:
            raise ValueError(f"{path}, line {reader.line_num}: {error}") from error
    return records


def _note(seen: set[tuple[str, str]], record: Record, where: str) -> None:
    key = (record.system, record.config)
    if key in seen:
        raise ValueError(f"system {key[0]!r} has configuration {key[1]!r} twice in {where}")
    seen.add(key)


def _text(name: str, value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and not isfinite(value):
        raise ValueError(f"{name} is {value}: a table holds finite numbers only")
    return str(value)


def _value(name: str, text: str | None, wanted: Any) -> Any:
    if text is None:
        raise ValueError(f"there is no field for {name}: the line is too short")
    if wanted == (float | None):
        return None if text == "" else _finite(name, text)
    if wanted is float:
        return _finite(name, text)
    if wanted is bool:
        if text.lower() not in _BOOLEANS:
            raise ValueError(f"{name} is {text!r}; it should be true or false")
        return _BOOLEANS[text.lower()]
    if wanted is int:
        return _count(name, text)
    if not text:
        raise ValueError(f"{name} is empty")
    return text


def _finite(name: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not isfinite(value):
        raise ValueError(f"{name} is {text!r}; it should be a finite number")
    return value


def _count(name: str, text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise ValueError(f"{name} is {text!r}; it should be a whole number, 0 or more")
    return int(text)
