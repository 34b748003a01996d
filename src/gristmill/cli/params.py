"""Types of options that click does not have: sizes, durations and KEY=VALUE."""

from __future__ import annotations

import click

from gristmill.config import parse_duration, parse_size
from gristmill.errors import UsageError


class SizeType(click.ParamType):
    """``64MiB`` → bytes."""

    name = "size"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Parse, or fail naming the option."""
        try:
            return parse_size(value if isinstance(value, int) else str(value))
        except UsageError as error:
            self.fail(str(error), param, ctx)


class DurationType(click.ParamType):
    """``10s`` → seconds."""

    name = "duration"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Parse, or fail naming the option."""
        try:
            return parse_duration(value if isinstance(value, (int, float)) else str(value))
        except UsageError as error:
            self.fail(str(error), param, ctx)


class PairType(click.ParamType):
    """``KEY=VALUE`` → (KEY, VALUE)."""

    name = "key=value"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, str]:
        """Split at the first ``=``, or fail naming the option."""
        if isinstance(value, tuple):
            return value
        key, equals, rest = str(value).partition("=")
        if not equals or not key:
            self.fail(f"{value!r} is not KEY=VALUE.", param, ctx)
        return key, rest


SIZE = SizeType()
DURATION = DurationType()
PAIR = PairType()
