"""Callbacks that parse what click has no type for: sizes, durations and KEY=VALUE."""

from __future__ import annotations

import click

from gristmill.config import JobOptions, parse_duration, parse_size
from gristmill.errors import UsageError


def size_bytes(ctx: click.Context, param: click.Parameter, value: str | None) -> int | None:
    """``64MiB`` → bytes."""
    try:
        return None if value is None else parse_size(value)
    except UsageError as error:
        raise click.BadParameter(str(error), ctx, param) from error


def size_or_none(ctx: click.Context, param: click.Parameter, value: str) -> int | None:
    """``64MiB`` → bytes; ``none`` → None."""
    return None if value.lower() == "none" else size_bytes(ctx, param, value)


def place(ctx: click.Context, param: click.Parameter, value: str) -> str:
    """Where a job is to run."""
    try:
        return JobOptions(on=value).on
    except UsageError as error:
        raise click.BadParameter(str(error), ctx, param) from error


def duration_seconds(ctx: click.Context, param: click.Parameter, value: str | None) -> float | None:
    """``10s`` → seconds."""
    try:
        return None if value is None else parse_duration(value)
    except UsageError as error:
        raise click.BadParameter(str(error), ctx, param) from error


def key_value_pairs(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    """``KEY=VALUE``, any number of times; the last one of a key wins."""
    pairs = {}
    for text in values:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise click.BadParameter(f"{text!r} is not KEY=VALUE.", ctx, param)
        pairs[key] = value
    return pairs
