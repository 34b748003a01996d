"""Folders named by the values of columns, as Hive names them: ``year=2024/month=1``."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import date, datetime
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

NULL = "__HIVE_DEFAULT_PARTITION__"
"""Stands for None, and for text without a character: a folder's name has nothing else for them."""

_MAX_NAME_BYTES = 255
_ESCAPED = frozenset("\"#%'*/:=?\\\x7f{[]^")


def folder_of(names: Sequence[str], values: Sequence[Any]) -> str:
    """The folder for rows with these values.

    Raises:
        ValueError: a value has no form there.
    """
    return "/".join([_level(name, value) for name, value in zip(names, values, strict=True)])


def _level(name: str, value: Any) -> str:
    text = f"{_escaped(name)}={_text(value)}"
    if len(os.fsencode(text)) > _MAX_NAME_BYTES:
        raise ValueError(f"column {name!r} has a value that is too long for a folder's name.")
    return text


def _text(value: Any) -> str:
    if value is None or value == "" or value == b"":
        return NULL
    if isinstance(value, bytes):
        value = value.decode("utf-8", "surrogateescape")
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Enum):
        return _escaped(value.name)
    if isinstance(value, datetime):
        return _escaped(value.isoformat(" "))
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, (str, int, float, Decimal, UUID)):
        return _escaped(str(value))
    raise ValueError(f"a {type(value).__qualname__} cannot name a folder.")


def _escaped(text: str) -> str:
    if text.isalnum() and text.isascii():
        return text
    return "".join(map(_escape, text))


def _escape(char: str) -> str:
    code = ord(char)
    if char in _ESCAPED or code < 0x20:
        return f"%{code:02X}"
    if 0xD800 <= code <= 0xDFFF:
        if not 0xDC80 <= code <= 0xDCFF:
            raise ValueError(f"{char!r} is not a character.")
        return f"%{code - 0xDC00:02X}"  # a byte that surrogateescape kept
    return char
