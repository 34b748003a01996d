"""Filters: which records a condition keeps, and which files and row groups hold none of these for sure.

``==``, ``!=`` and ``in`` are Python's; ``<``, ``<=``, ``>`` and ``>=`` hold for no None. A text in a filter is compared
with a date, time, decimal, number or bytes as what it writes down, and a number with a text that writes down one.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from decimal import Decimal, InvalidOperation
from typing import Any
from uuid import UUID

from gristmill.errors import UsageError

Test = Callable[[Any], bool]
Plain = str | int | float | bool | None

_ORDERS: dict[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip
OPERATORS = ("==", "!=", *_ORDERS, "in")
_EXACT = (int, date)  # types whose bounds are values that are there, and that have no NaN; bool is an int


class NotComparable(Exception):
    """A condition asks for an order between what has none."""


@dataclass(frozen=True)
class Condition:
    """``column op value``.

    Raises:
        UsageError: there is no such operator, or its value is none that it can take.
    """

    column: str
    op: str
    value: Plain | tuple[Plain, ...]

    def __post_init__(self) -> None:
        if self.op not in OPERATORS:
            raise UsageError(f"{self.op!r} is not an operator of a filter; there are: {', '.join(OPERATORS)}.")
        values = self.value if isinstance(self.value, tuple) else (self.value,)
        if isinstance(self.value, tuple) != (self.op == "in"):
            raise UsageError(f"{self} makes no sense: `in` takes a list of values, all others take one.")
        if self.op in _ORDERS and self.value is None:
            raise UsageError(f"{self} makes no sense: None is in no order.")
        if not all(value is None or isinstance(value, (str, int, float)) for value in values):
            raise UsageError(f"{self} makes no sense: filters compare with texts, numbers, True, False and None.")

    def __str__(self) -> str:
        value = list(self.value) if isinstance(self.value, tuple) else self.value
        return f"{self.column} {self.op} {value!r}"

    def test(self) -> Test:
        """Tells whether the condition holds for a value of its column. It may raise :class:`NotComparable`."""
        if self.op == "!=":
            same = _equal_to(self.value)
            return lambda found: not same(found)
        if self.op == "in":
            assert isinstance(self.value, tuple)
            tests = [_equal_to(value) for value in self.value]
            return lambda found: any(test(found) for test in tests)
        if self.op == "==":
            return _equal_to(self.value)
        return self._ordered(_ORDERS[self.op])

    def may_hold(self, low: Any, high: Any, nulls: int | None, rows: int) -> bool:
        """Whether it may hold for a value of a group of rows. In doubt it may.

        Args:
            low: no value is smaller. None: it is not known, or there are none but None.
            high: no value is larger.
            nulls: how many are None; None: not known.
            rows: how many there are.
        """
        if nulls is not None and nulls == rows:
            return self.test()(None)
        if low is None or high is None or low != low or high != high:
            return True
        if self.op == "in":
            assert isinstance(self.value, tuple)
            return any(Condition(self.column, "==", value).may_hold(low, high, nulls, rows) for value in self.value)
        if self.value is None:
            return self.op != "==" or nulls != 0
        if isinstance(low, str) and not isinstance(self.value, str):
            return True  # texts that write down numbers are in another order than these
        try:
            value = alike(self.value, low)
            if self.op == "!=":
                return not (isinstance(low, _EXACT) and nulls == 0 and low == high == value)
            if self.op in ("<", "<="):
                return _ORDERS[self.op](low, value)
            if self.op in (">", ">="):
                return _ORDERS[self.op](high, value)
            return bool(low <= value <= high)
        except (TypeError, ValueError):
            return True

    def _ordered(self, order: Callable[[Any, Any], bool]) -> Test:
        value = self.value

        def test(found: Any) -> bool:
            if found is None:
                return False
            try:
                if isinstance(found, str) and not isinstance(value, str):
                    number = _number(found)
                    return number is not None and order(number, value)
                return order(found, value if type(found) is type(value) else alike(value, found))
            except (TypeError, ValueError):
                message = f"holds {type(found).__qualname__}, which the filter {self} cannot compare"
                raise NotComparable(message) from None

        return test


def alike(value: Any, found: Any) -> Any:
    """A filter's value as one of the kind of ``found``, if a text writes one down; else as it is.

    Raises:
        ValueError: it does not.
    """
    if not isinstance(value, str) or isinstance(found, str):
        return value
    if isinstance(found, datetime):
        moment = datetime.fromisoformat(value)
        if found.tzinfo is None:
            return moment.astimezone(UTC).replace(tzinfo=None) if moment.tzinfo else moment
        return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    if isinstance(found, (date, time)):
        return type(found).fromisoformat(value)
    if isinstance(found, Decimal):
        try:
            return Decimal(value)
        except InvalidOperation as error:
            raise ValueError(value) from error
    if isinstance(found, UUID):
        return UUID(value)
    if isinstance(found, bytes):
        return value.encode("utf-8", "surrogateescape")
    if isinstance(found, (int, float)) and not isinstance(found, bool):
        number = _number(value)
        if number is None:
            raise ValueError(value)
        return number
    return value


def groups_that_may_hold(
    conditions: Sequence[Condition], bounds: Callable[[int, str], tuple[Any, Any, int | None, int] | None], groups: int
) -> list[int]:
    """The groups of rows that may hold records that all conditions keep.

    Args:
        conditions: the filter.
        bounds: tells of a group and a column what :meth:`Condition.may_hold` needs; None: nothing is known.
        groups: how many there are.
    """

    def may_hold(group: int) -> bool:
        for condition in conditions:
            known = bounds(group, condition.column)
            if known is not None and not condition.may_hold(*known):
                return False
        return True

    return [group for group in range(groups) if may_hold(group)]


def _equal_to(value: Any) -> Test:
    def test(found: Any) -> bool:
        if found is None or value is None:
            return found is value
        if isinstance(found, str) and isinstance(value, (int, float)):
            if isinstance(value, bool):
                return found.lower() == str(value).lower()
            return _number(found) == value
        try:
            return bool(found == (value if type(found) is type(value) else alike(value, found)))
        except ValueError:
            return False

    return test


def _number(text: str) -> int | float | None:
    try:
        return int(text)
    except ValueError:
        try:
            return float(text)
        except ValueError:
            return None
