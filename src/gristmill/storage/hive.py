"""Folders named ``year=2024/month=01``: columns of the files below them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from urllib.parse import unquote

NULL = "__HIVE_DEFAULT_PARTITION__"
"""The name of None."""

_INTEGER = re.compile(r"-?[0-9]+")
_INT64 = 1 << 63

Value = str | int | None


def columns_of(folders: Iterable[str]) -> dict[str, str | None]:
    """What the folders on the way to a file say, outermost first. An inner one wins over an outer one."""
    found: dict[str, str | None] = {}
    for folder in folders:
        name, equals, text = folder.partition("=")
        if equals and name:
            found[_unescaped(name)] = None if text == NULL else _unescaped(text)
    return found


def typed(files: Sequence[Mapping[str, str | None]]) -> list[dict[str, Value]]:
    """The columns of many files: a column of which all values are integers is one of integers."""
    values: dict[str, set[str]] = {}
    for columns in files:
        for name, text in columns.items():
            known = values.setdefault(name, set())
            if text is not None:
                known.add(text)
    integers = {name for name, texts in values.items() if texts and all(map(_is_integer, texts))}
    return [
        {name: int(text) if text is not None and name in integers else text for name, text in columns.items()}
        for columns in files
    ]


def _is_integer(text: str) -> bool:
    return _INTEGER.fullmatch(text) is not None and len(text) <= 20 and -_INT64 <= int(text) < _INT64


def _unescaped(text: str) -> str:
    return unquote(text, errors="surrogateescape") if "%" in text else text
