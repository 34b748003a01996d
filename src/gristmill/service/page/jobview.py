"""One job as its page shows it: all that the templates need, from plain values. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from gristmill.api.asked import Asked
from gristmill.runtime.figures import format_rate, fraction_done, succeeded
from gristmill.runtime.journal.history import AttemptRow, JobHistory
from gristmill.runtime.views import JobView, RunningView, StageView
from gristmill.service.page.failure import Failure, failure_of, failure_of_job
from gristmill.service.page.figures import count, duration, percent, size
from gristmill.service.page.graph import Graph, graph
from gristmill.service.page.partitions import Spread, spreads
from gristmill.service.page.timeline import LEGEND, TONES, Timeline, timeline

_ESTIMATE_AFTER_SECONDS = 3.0
_ESTIMATE_AFTER_FRACTION = 0.02
_SPOKEN_STEP = 0.1
_RETRIES = ("failed", "cancelled")


@dataclass(frozen=True)
class JobValues:
    """What is known of a job at one instant.

    Attributes:
        view: how it stands.
        user: who submitted it; empty when that is not known.
        output: where its result is, or is to appear.
        submitted: seconds since the epoch; 0 when that is not known.
        now: likewise.
        history: what its facts tell.
        running: what runs.
        cut_off: attempts that a restart has cut off, as they are drawn.
        error: why there is no output, in the form of ``outcome.error_to_json``.
        deadline: when it is late.
        priority: over other jobs'.
        ended: when it had ended, as it was known before all of this was read; None if it had not. The history may be
            younger: it grows.
        asked: what was asked for.
    """

    view: JobView
    user: str
    output: str | None
    submitted: float
    now: float
    history: JobHistory | None = None
    running: Sequence[RunningView] = ()
    cut_off: Sequence[AttemptRow] = ()
    error: Mapping[str, Any] | None = None
    deadline: float | None = None
    priority: int = 0
    ended: float | None = None
    asked: Asked = field(default_factory=Asked)

    @property
    def is_over(self) -> bool:
        """Whether it has ended."""
        return self.view.state.is_final


@dataclass(frozen=True)
class Figure:
    """A number with its name."""

    label: str
    text: str
    more: str = ""
    alarm: bool = False


@dataclass(frozen=True)
class JobHead:
    """The top of the page."""

    id: str
    name: str
    state: str
    user: str
    output: str
    submitted: float
    ended: float | None
    took: str
    fraction: float
    phases: tuple[tuple[str, float], ...]
    note: str
    left: str
    late: bool
    can_cancel: bool
    can_retry: bool
    spoken: str


def head_of(values: JobValues) -> JobHead:
    """The top of the page of a job."""
    view, history = values.view, values.history
    fraction = fraction_of(view)
    ended = history.ended.at if history is not None and history.ended is not None else None
    late = values.deadline is not None and (ended or values.now) > values.deadline
    live = not values.is_over
    return JobHead(
        id=view.job,
        name=view.name,
        state=view.state.value,
        user=values.user,
        output=values.output or "",
        submitted=values.submitted,
        ended=ended,
        took=duration(view.seconds),
        fraction=fraction,
        phases=tuple(_phases(view)),
        note=_note(values),
        left=_left(fraction, view.seconds) if live else "",
        late=late,
        can_cancel=live and (history is None or history.cancelling_at is None),
        can_retry=view.state.value in _RETRIES,
        spoken=_spoken(view, fraction),
    )


def fraction_of(view: JobView) -> float:
    """How much of a job is behind, 0 to 1."""
    if succeeded(view):
        return 1.0
    parts = [fraction_done(stage) for stage in view.stages]
    return sum(parts) / len(parts) if parts else 0.0


def _phases(view: JobView) -> list[tuple[str, float]]:
    """The map side, which reads inputs, and the reduce side, which reads shuffles."""
    sides = (("map", False), ("reduce", True))
    found = []
    for name, reads in sides:
        stages = [stage for stage in view.stages if stage.reads_shuffle is reads]
        if stages:
            over = succeeded(view)
            found.append((name, sum(fraction_done(stage, over) for stage in stages) / len(stages)))
    return found


def _note(values: JobValues) -> str:
    if values.history is not None and values.history.cancelling_at is not None and not values.is_over:
        return "Is being cancelled."
    if values.is_over:
        error = values.error or {}
        return str(error.get("message", "")) if values.view.state.value == "cancelled" else ""
    return values.view.note


def _left(fraction: float, seconds: float) -> str:
    if fraction >= 1 or fraction < _ESTIMATE_AFTER_FRACTION or seconds < _ESTIMATE_AFTER_SECONDS:
        return ""
    return f"about {duration(seconds * (1 - fraction) / fraction)} left"


def _spoken(view: JobView, fraction: float) -> str:
    """What is read out when it changes: rarely, so that nobody is talked to all the time."""
    if view.state.value == "running":
        return f"Running, {percent(int(fraction / _SPOKEN_STEP) * _SPOKEN_STEP)}"
    return str(view.state.value).capitalize()


def figures_of(values: JobValues) -> list[Figure]:
    """The numbers below the top."""
    view = values.view
    seconds = view.seconds
    source = [stage for stage in view.stages if not stage.reads_shuffle]
    records = max(view.records_in, sum(stage.records_in for stage in source))
    read = max(view.bytes_in, sum(stage.bytes_in for stage in source))
    known = sum(stage.bytes_total for stage in source)
    figures = [
        Figure("Records in", count(records)),
        Figure("Read", size(read), "" if values.is_over or known <= read else f"of {size(known)}"),
        Figure("Rate", ("" if _was_begun_before(values.history) else format_rate(records, seconds)) or "–"),
        Figure("Shuffled", size(view.shuffle_bytes)),
        Figure("Records out", count(view.records_out)),
        Figure("Attempts", count(view.attempts), f"and {count(len(values.cut_off))} cut off" if values.cut_off else ""),
    ]
    if view.failed_attempts:
        figures.append(Figure("Failed attempts", count(view.failed_attempts), alarm=True))
    if view.spilled_bytes:
        figures.append(Figure("Spilled", size(view.spilled_bytes)))
    if view.bad_records:
        figures.append(Figure("Bad records", count(view.bad_records), alarm=True))
    return figures


def _was_begun_before(history: JobHistory | None) -> bool:
    """Whether some of it was done before it was tried again: then its records are not those of its time."""
    if history is None or history.begun_at is None or not history.attempts:
        return False
    span = history.attempts[0].span
    return span is not None and span.ended <= history.begun_at


def asked_of(values: JobValues) -> list[tuple[str, list[str]]]:
    """What was asked for: names, and a line for each thing."""
    asked = values.asked
    inputs = [*asked.inputs, *([f"and {count(asked.more_inputs)} more"] if asked.more_inputs else [])]
    named = (("Inputs", inputs), ("Options", _lines(asked.options)), ("Parameters", _lines(asked.params)))
    return [(name, lines) for name, lines in named if lines]


def _lines(values: Mapping[str, Any]) -> list[str]:
    return [f"{name} = {value}" for name, value in values.items()]


def counters_of(values: JobValues) -> list[tuple[str, list[tuple[str, str]]]]:
    """The job's own counters, by group."""
    groups = sorted(values.view.counters.items())
    return [(group, [(name, f"{n:,}") for name, n in sorted(names.items())]) for group, names in groups if names]


def failures_of(values: JobValues) -> tuple[Failure | None, list[Failure]]:
    """What ended the job, and what has failed besides and was tried again, the last first."""
    end = failure_of_job(values.error)
    seen: dict[tuple[object, ...], Failure] = {}
    for report in reversed(values.view.failures):
        failure = failure_of(report)
        seen.setdefault((failure.place, failure.what), failure)
    if end is not None:
        seen.pop((end.place, end.what), None)
    return end, list(seen.values())


def graph_of(values: JobValues) -> Graph:
    """Its plan."""
    history = values.history
    skipped = () if history is None else [stage.id for stage in history.stages if stage.skipped]
    parents = {} if history is None else {stage.id: stage.parents for stage in history.stages}
    view = values.view
    if skipped:
        view = replace(view, stages=tuple(stage for stage in view.stages if stage.id not in skipped))
    return graph(view, parents)


def timeline_of(values: JobValues) -> Timeline:
    """What ran where and when."""
    return timeline(attempts_of(values), values.running, begun_of(values), values.now)


def attempts_of(values: JobValues) -> tuple[AttemptRow, ...]:
    """The attempts that are over; also those that were cut off."""
    return (*(() if values.history is None else values.history.attempts), *values.cut_off)


def begun_of(values: JobValues) -> float:
    """When it began, in seconds since the epoch."""
    history = values.history
    return values.submitted if history is None or history.begun_at is None else history.begun_at


def legend_of(line: Timeline, stages: Sequence[StageView]) -> list[tuple[str, str]]:
    """The kinds of a timeline, and what each means."""
    tones: dict[str, list[str]] = {}
    for stage in stages:
        tones.setdefault(f"stage{stage.id % TONES}", []).append(stage.name)
    named = {kind: ", ".join(dict.fromkeys(names)) for kind, names in tones.items()}
    return [(kind, LEGEND.get(kind) or named.get(kind, "done")) for kind in line.kinds]


def spreads_of(values: JobValues) -> list[Spread]:
    """How evenly its shuffles are spread."""
    return [] if values.history is None else spreads(values.history.stages)


def hot_keys_of(values: JobValues) -> list[tuple[str, str]]:
    """Keys with so many rows that their task takes long."""
    found = dict(values.view.hot_keys)
    if values.history is not None:
        for stage in values.history.stages:
            for key, rows in stage.hot_keys:
                found[key] = max(found.get(key, 0), rows)
    return [(key, count(rows)) for key, rows in sorted(found.items(), key=lambda item: -item[1])[:10]]
