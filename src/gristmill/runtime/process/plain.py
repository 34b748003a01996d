"""JSON of others: of executors, in which user code lives, and of workers.

What is read here can be written anywhere: into the journal, an answer of REST, a mail. JSON can say what UTF-8 cannot,
one half of a surrogate pair: it becomes an escape.
"""

from __future__ import annotations

import json
import re
from typing import Any

from gristmill.errors import plain

_PARSER = json.JSONDecoder()
_HALF = re.compile(r"\\u[dD][89a-fA-F]")


_FILES = ("path", "staged", "final")


def read_json(text: str | bytes, *, files: bool = False) -> Any:
    """The value of a JSON text, which has nothing before it and nothing after it.

    Args:
        text: the JSON.
        files: whether what names files of this machine stays as it is: their names may hold any bytes.

    Raises:
        ValueError: it is not JSON, or nested too deep.
    """
    words = text.decode() if isinstance(text, bytes) else text
    try:
        value, end = _PARSER.raw_decode(words)  # json.loads() looks for white space around it, for as long again
        if end != len(words):
            raise ValueError("something follows the JSON")
        return value if _HALF.search(words) is None else _plain(value, _FILES if files else ())
    except RecursionError as error:
        raise ValueError("the JSON is nested too deep") from error


def _plain(value: Any, kept: tuple[str, ...]) -> Any:
    if isinstance(value, str):
        return plain(value)
    if isinstance(value, list):
        return [_plain(one, kept) for one in value]
    if isinstance(value, dict):
        return {plain(name): one if name in kept else _plain(one, kept) for name, one in value.items()}
    return value
