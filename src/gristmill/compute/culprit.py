"""Finds the record, and the ``yield``, that gave what cannot be taken: no pair, a key or value of a refused type.

Pairs are taken from a mapper many at a time, so when a bad one is met the mapper is records ahead. Only then is the
block mapped once more, one pair at a time, to say which record it was.
"""

from __future__ import annotations

import linecache
from collections.abc import Callable, Sequence
from dataclasses import replace
from types import GeneratorType
from typing import Any

from gristmill.compute.guard import cut, in_step, locate, misuse
from gristmill.compute.mapping import always_iterable
from gristmill.errors import FailureReport, Frame, KeyTypeRefused, TaskError, UserCodeError
from gristmill.plan.functions import ExchangeFunctions
from gristmill.records.columns import encode_values
from gristmill.records.keys import check_key

_PAIRS_ADVICE = "Make pairs of the elements first: .key_by(function), or .map(lambda x: (x, 1))."
_OF_A_FOLD = ("create", "merge_value", "merge_combiners")
_SEVERAL_FUNCTIONS = ("combine_by_key", "aggregate_by_key")


class NotAPair(UserCodeError):
    """Something that is not (key, value) was to be grouped.

    Attributes:
        element: what it is.
    """

    def __init__(self, report: FailureReport | str, element: Any) -> None:
        super().__init__(report)
        self.element = element


def no_pair(name: str, *element: Any) -> NotAPair:
    """The failure of a dataset's method that was to take pairs; ``element`` is what is none, if it is known."""
    what = f"this element is {_cut(cut(element[0]))}" if element else "there is an element that is none"
    report = FailureReport(
        error="UserCodeError",
        message=f"{name}() takes (key, value) pairs, and {what}.",
        record=cut(element[0]) if element else "",
        function=name,
        advice=_PAIRS_ADVICE,
    )
    return NotAPair(report, element[0] if element else None)


def in_exchange(error: TaskError, step: ExchangeFunctions) -> TaskError:
    """A failure of what brings a dataset's pairs together, in the words of those who write datasets.

    Args:
        error: the failure; its report is changed.
        step: the exchange.
    """
    report = error.report
    role = report.function
    if isinstance(error, NotAPair):
        report = no_pair(step.name, error.element).report
    elif role == "partitioner" and not report.exception:
        report = replace(report, advice="The function must return a whole number for every key.")
    details = dict(report.details)
    if report.record and role in (*_OF_A_FOLD, "combiner", "partitioner"):
        details["unit"] = "key"
    if role in _OF_A_FOLD and step.name in _SEVERAL_FUNCTIONS:
        details["role"] = role
    error.report = replace(report, details=details)
    return in_step(error, step.name, step.where)


def check_pair(pair: Any, function: Any, role: str, *, shuffled: bool) -> None:
    """Refuse what is not (key, value), or has a key that cannot be shuffled.

    Raises:
        NotAPair: it is none.
        KeyTypeRefused: its key has no order and stable hash. Only if it is to be ``shuffled``.
    """
    try:
        key, _ = pair
    except (TypeError, ValueError) as error:
        message = f"A {role} must yield pairs (key, value); this one yielded {_cut(cut(pair))}."
        raise NotAPair(misuse(function, role, message, "Write `yield key, value`.").report, pair) from error
    if not shuffled:
        return
    check_key(key)
    try:
        hash(key)
    except TypeError as error:
        message = f"A key of type {type(key).__qualname__} cannot be hashed: {_cut(cut(key))}"
        raise KeyTypeRefused(FailureReport(error="KeyTypeRefused", message=message)) from error


def encode_or_refuse(values: Sequence[Any], share: bool = True) -> Any:
    """What ``encode_values`` makes of values.

    Raises:
        UserCodeError: one of them cannot be pickled; it says of which type it is.
    """
    try:
        return encode_values(values, share)
    except MemoryError:
        raise
    except Exception:  # whatever a value's own class raises when it is pickled
        for value in values:
            _check_value(value)
        raise


def _check_value(value: Any) -> None:
    try:
        encode_values([value])
    except Exception as error:  # likewise
        kind = type(value)
        name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
        message = f"A record of type {name} cannot be stored or sent: {type(error).__qualname__}: {_cut(str(error))}"
        advice = "Records must be picklable; keep only plain values of it, or make it anew where it is used."
        raise locate(misuse(None, "", message, advice), record=value, source="") from error


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
