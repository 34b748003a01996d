"""Finds the record, and the ``yield``, that gave something which is not a pair, or a key of a refused type.

Pairs are taken from a mapper many at a time, so when a bad one is met the mapper is records ahead. Only then is the
block mapped once more, one pair at a time, to say which record it was.
"""

from __future__ import annotations

import linecache
from collections.abc import Callable, Sequence
from types import GeneratorType
from typing import Any

from gristmill.compute.guard import misuse
from gristmill.compute.mapping import always_iterable
from gristmill.errors import FailureReport, Frame, KeyTypeRefused, TaskError
from gristmill.records.keys import check_key


def check_pair(pair: Any, function: Any, role: str, *, shuffled: bool) -> None:
    """Refuse what is not (key, value), or has a key that cannot be shuffled.

    Raises:
        UserCodeError: it is not a pair.
        KeyTypeRefused: its key has no order and stable hash. Only if it is to be ``shuffled``.
    """
    try:
        key, _ = pair
    except (TypeError, ValueError) as error:
        message = f"A {role} must yield pairs (key, value); this one yielded {_cut(repr(pair))}."
        raise misuse(function, role, message, "Write `yield key, value`.") from error
    if not shuffled:
        return
    check_key(key)
    try:
        hash(key)
    except TypeError as error:
        message = f"A key of type {type(key).__qualname__} cannot be hashed: {_cut(repr(key))}"
        raise KeyTypeRefused(FailureReport(error="KeyTypeRefused", message=message)) from error


def find_culprit(
    mapper: Callable[..., Any], key: Any, values: Sequence[Any], *, shuffled: bool
) -> tuple[int, TaskError, Frame | None] | None:
    """The first of ``values`` for which the mapper gives a bad pair, what is wrong, and where it was yielded.

    Returns:
        None if there is none this time, or if the mapper raises first.
    """
    call = always_iterable(mapper, "mapper")
    for index, value in enumerate(values):
        made: Any = None
        try:
            made = call(key, value)
            for pair in made:
                check_pair(pair, mapper, "mapper", shuffled=shuffled)
        except TaskError as error:
            return index, error, _at_yield(made)
        except Exception:  # whatever user code raises: the first error is the one to report
            return None
    return None


def _at_yield(made: Any) -> Frame | None:
    if not isinstance(made, GeneratorType) or made.gi_frame is None:
        return None
    code, line = made.gi_code, made.gi_frame.f_lineno
    return Frame(code.co_filename, line, code.co_name, linecache.getline(code.co_filename, line).strip())


def _cut(text: str) -> str:
    return text if len(text) <= 200 else text[:199] + "…"
