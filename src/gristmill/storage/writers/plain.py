"""Python values as JSON, and the types that formats without them show as text."""

from __future__ import annotations

import json
from dataclasses import fields, is_dataclass
from datetime import date, datetime, time
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID


def plain(value: Any) -> Any:
    """A stand-in for a value of a type that JSON lacks.

    bytes are decoded as UTF-8 with surrogateescape, an Enum is its name, dates and times are ISO 8601, Decimal and
    UUID are text, a dataclass is a dict of its fields.

    Raises:
        TypeError: there is none.
    """
    if isinstance(value, bytes):
        return value.decode("utf-8", "surrogateescape")
    if isinstance(value, Enum):
        return value.name
    if isinstance(value, (datetime, date, time)):
        return value.isoformat()
    if isinstance(value, (Decimal, UUID)):
        return str(value)
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in fields(value)}
    kind = type(value)
    raise TypeError(f"a {kind.__qualname__} has no form there.")


to_json = json.JSONEncoder(ensure_ascii=False, default=plain).encode
"""A value as JSON text. Not always UTF-8: what surrogateescape kept stays in it."""

to_ascii_json = json.JSONEncoder(ensure_ascii=True, default=plain).encode
"""A value as JSON text in ASCII; what surrogateescape kept is escaped (``\\udcff``)."""
