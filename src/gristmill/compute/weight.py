"""How much memory Python values take, about: whoever holds them must know when to let go."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from sys import getsizeof
from typing import Any

_SAMPLE = 16


def weight(value: Any, depth: int = 3) -> int:
    """About how many bytes a value takes in Python. The first items of a container stand for all of them."""
    size = getsizeof(value, 64)
    kind = type(value)
    if kind in (str, int, float, bytes, bool) or value is None or depth == 0:
        return size
    if isinstance(value, dict):
        parts: Sequence[Any] = [part for item in islice(value.items(), _SAMPLE) for part in item]
        total = 2 * len(value)
    elif isinstance(value, (tuple, list, set, frozenset)):
        parts = list(islice(value, _SAMPLE))
        total = len(value)
    else:
        parts = list(islice(getattr(value, "__dict__", {}).values(), _SAMPLE))
        total = len(parts)
    if not parts:
        return size
    return size + total * sum(weight(part, depth - 1) for part in parts) // len(parts)
