"""The type of a dataset's elements for people, as far as it is known without computing anything."""

from __future__ import annotations

import inspect
from typing import Any

_SHOWN_CHARS = 80


def kind_of_element(element: Any) -> str:
    """``int``, ``tuple[str, int]``: what an element is."""
    if type(element) is tuple and 0 < len(element) <= 8:
        return _cut(f"tuple[{', '.join(map(kind_of_element, element))}]")
    return type(element).__qualname__


def kind_of_result(function: Any) -> str:
    """What a function says that it returns; empty if it does not."""
    if inspect.isclass(function):
        return function.__qualname__
    annotation = getattr(function, "__annotations__", {}).get("return", "")
    if isinstance(annotation, type) and not hasattr(annotation, "__args__"):
        return annotation.__qualname__
    return _cut("None" if annotation is None else str(annotation).replace("typing.", ""))


def _cut(text: str) -> str:
    return text if len(text) <= _SHOWN_CHARS else text[: _SHOWN_CHARS - 1] + "…"
