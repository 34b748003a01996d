"""What is wrong with a field, in words for whoever has filled it in. Pure."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Any

_CHARACTERS = 100  # of a name that others are compared with
_WORDS = {
    "missing": "It is missing.",
    "int_parsing": "It must be a whole number.",
    "int_type": "It must be a whole number.",
    "int_from_float": "It must be a whole number.",
    "float_parsing": "It must be a number.",
    "float_type": "It must be a number.",
    "bool_parsing": "It must be true or false.",
    "bool_type": "It must be true or false.",
    "string_type": "It must be text.",
    "string_too_short": "It is empty.",
    "list_type": "It must be a list.",
    "dict_type": "It must be an object.",
}
_BEGINNINGS = {
    "Input should be ": "It must be ",
    "String should have ": "It must have ",
    "List should have ": "It must have ",
    "Dictionary should have ": "It must have ",
    "String should match ": "It must match ",
}


def why(error: Mapping[str, Any], known: Mapping[str, Sequence[str]]) -> str:
    """Why a field is refused.

    Args:
        error: as pydantic describes it.
        known: the fields that there are, by where they may stand; empty: above all others.
    """
    kind, text = str(error["type"]), str(error["msg"])
    if kind == "extra_forbidden":
        *places, name = (str(part)[:_CHARACTERS] for part in error["loc"])
        near = difflib.get_close_matches(name, known.get(".".join(places), ()), 1)
        if near == [name]:
            return "It belongs into options."
        return f"There is no such field. Did you mean {near[0]}?" if near else "There is no such field."
    if kind in _WORDS:
        return _WORDS[kind]
    for before, after in _BEGINNINGS.items():
        if text.startswith(before):
            return f"{after}{text.removeprefix(before)}."
    return text
