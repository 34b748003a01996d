"""How far a job is, and large numbers, for people: what bars and pages show. Pure."""

from __future__ import annotations

from gristmill.runtime.views import JobView, StageView


def fraction_done(stage: StageView, over: bool = False) -> float:
    """How much of a stage is behind: by bytes where they are known, else by tasks."""
    if finished(stage, over):
        return 1.0
    if not stage.tasks:
        return 0.0
    by_tasks = stage.done / stage.tasks
    if stage.bytes_total:
        # Bytes may be off by what compression hides: never full before the last task is.
        return min(0.99, max(by_tasks, stage.bytes_in / stage.bytes_total))
    return by_tasks


def finished(stage: StageView, over: bool) -> bool:
    """A stage without tasks (of an empty input) is finished with its job."""
    return stage.done >= stage.tasks if stage.tasks else over


def succeeded(view: JobView) -> bool:
    """Whether all of it is done."""
    return view.state.value == "succeeded"


def format_count(n: int) -> str:
    """``1234`` as ``1,234``, ``12345678`` as ``12.3 M``: for people."""
    if n < 100_000:
        return f"{n:,}"
    value = float(n)
    for unit in ("k", "M", "G"):
        value /= 1000
        if value < 999.5:
            return f"{_three_digits(value)} {unit}"
    return f"{_three_digits(value / 1000)} T"


def _three_digits(value: float) -> str:
    return f"{value:.2f}" if value < 9.995 else f"{value:.1f}" if value < 99.95 else f"{value:.0f}"


def format_rate(records: int, seconds: float) -> str:
    """Records per second; empty when it is too early to tell."""
    if not records or seconds < 0.05:
        return ""
    return f"{format_count(round(records / seconds))}/s"
