"""Numbers and times as the page shows them. Pure."""

from __future__ import annotations

from datetime import UTC, datetime

from gristmill.config import format_duration, format_size
from gristmill.runtime.figures import format_count, format_rate

__all__ = ["count", "duration", "iso", "percent", "rate", "share", "short_path", "size", "utc"]

_PATH_CHARACTERS = 64


def count(n: int | None) -> str:
    """``1234`` as ``1,234``; a dash when it is not known."""
    return "–" if n is None else format_count(n)


def size(size_bytes: float | None) -> str:
    """``1536`` as ``1.5 KiB``; a dash when it is not known."""
    return "–" if size_bytes is None else format_size(size_bytes)


def duration(seconds: float | None) -> str:
    """``75.3`` as ``1m 15s``; a dash when it is not known."""
    return "–" if seconds is None else format_duration(max(0.0, seconds))


def rate(records: int, seconds: float) -> str:
    """Records per second; a dash when it is too early to tell."""
    return format_rate(records, seconds) or "–"


def percent(fraction: float) -> str:
    """``0.634`` as ``63 %``: rounded down, so that 100 % is all."""
    return f"{int(max(0.0, min(1.0, fraction)) * 100 + 1e-9)} %"


def share(part: float | None, whole: float | None) -> float | None:
    """A part of a whole, 0 to 1; None when either is not known."""
    return None if part is None or not whole else max(0.0, min(1.0, part / whole))


def iso(seconds: float) -> str:
    """Seconds since the epoch, as ``<time datetime>`` takes them."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def utc(seconds: float, now: float) -> str:
    """Seconds since the epoch for people: the time alone if it is of the same day as now."""
    at, today = datetime.fromtimestamp(seconds, UTC), datetime.fromtimestamp(now, UTC)
    return at.strftime("%H:%M:%S UTC" if at.date() == today.date() else "%Y-%m-%d %H:%M UTC")


def short_path(path: str) -> str:
    """The end of a long path, which tells more than its beginning."""
    return path if len(path) <= _PATH_CHARACTERS else f"…{path[-_PATH_CHARACTERS + 1 :]}"
