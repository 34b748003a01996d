"""What a job's progress looks like: views in, text out. Pure; ``display`` puts it on the screen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePath

from gristmill.config import format_duration, format_size
from gristmill.runtime.figures import finished, format_count, format_rate, fraction_done, succeeded
from gristmill.runtime.views import JobView, StageView

# An estimate of the time left is a guess before this much of the time and of the work is behind.
_ESTIMATE_AFTER_SECONDS = 3.0
_ESTIMATE_AFTER_FRACTION = 0.02


@dataclass(frozen=True)
class Bar:
    """One line of the display."""

    name: str
    fraction: float  # 0 to 1
    tasks: str
    records: str
    rate: str
    size: str
    left: str  # the time left, when it can be guessed
    state: str  # waiting, running or done


@dataclass(frozen=True)
class Clock:
    """When each stage was first seen at work, and first seen done, in seconds of the job."""

    began: Mapping[int, float] = field(default_factory=dict)
    ended: Mapping[int, float] = field(default_factory=dict)

    def after(self, view: JobView) -> Clock:
        """The clock once this view has been seen."""
        began, ended = dict(self.began), dict(self.ended)
        for stage in view.stages:
            if stage.running or stage.done:
                began.setdefault(stage.id, view.seconds)
            if stage.tasks and stage.done >= stage.tasks:
                ended.setdefault(stage.id, view.seconds)
            else:
                ended.pop(stage.id, None)  # a lost block takes a stage back to work
        return Clock(began, ended)

    def seconds_of(self, stage: StageView, view: JobView) -> float:
        """How long the stage has been at work."""
        if stage.id not in self.began:
            return 0.0
        return self.ended.get(stage.id, view.seconds) - self.began[stage.id]


def bars(view: JobView, clock: Clock) -> list[Bar]:
    """The lines for a job: one for each stage, and one for each shuffle between two."""
    lines: list[Bar] = []
    previous: StageView | None = None
    for stage in view.stages:
        if stage.reads_shuffle and previous is not None:
            lines.append(_shuffle_bar(view, stage, previous))
        lines.append(_stage_bar(view, stage, clock))
        previous = stage
    return lines


def _stage_bar(view: JobView, stage: StageView, clock: Clock) -> Bar:
    fraction = fraction_done(stage, over=succeeded(view))
    seconds = clock.seconds_of(stage, view)
    whole = finished(stage, succeeded(view))
    return Bar(
        name=stage.name,
        fraction=fraction,
        tasks=f"{stage.done}/{stage.tasks}",
        records=f"{format_count(stage.records_in)} records" if stage.records_in else "",
        rate=format_rate(stage.records_in, seconds),
        size=_size_text(stage.bytes_in, stage.bytes_total, whole),
        left=_time_left(fraction, seconds),
        state="done" if whole else "running" if stage.running or stage.done else "waiting",
    )


def _shuffle_bar(view: JobView, reader: StageView, maker: StageView) -> Bar:
    """What the makers have put into blocks; the reader's own bar shows how much of that is read."""
    whole = finished(maker, succeeded(view))
    written = reader.bytes_total if whole and reader.bytes_total else _shuffled_to(view, reader)
    return Bar(
        name="shuffle",
        fraction=1.0 if whole else maker.done / maker.tasks if maker.tasks else 0.0,
        tasks=f"{maker.done}/{maker.tasks}",
        records="",
        rate="",
        size=format_size(written) if maker.done else "",
        left="",
        state="done" if whole else "running" if maker.done else "waiting",
    )


def _shuffled_to(view: JobView, reader: StageView) -> int:
    """Bytes of the shuffle before ``reader``: the job's total less what other shuffles are known to hold."""
    others = sum(stage.bytes_total for stage in view.stages if stage.reads_shuffle and stage.id != reader.id)
    return max(0, view.shuffle_bytes - others)


def _size_text(now: int, total: int, finished: bool) -> str:
    if finished or not total:
        return format_size(now) if now else ""
    return f"{format_size(now)} of {format_size(total)}"


def _time_left(fraction: float, seconds: float) -> str:
    if fraction >= 1 or fraction < _ESTIMATE_AFTER_FRACTION or seconds < _ESTIMATE_AFTER_SECONDS:
        return ""
    return f"about {format_duration(seconds * (1 - fraction) / fraction)} left"


def trouble(view: JobView) -> str:
    """One line on what keeps a job from going on, else on its last failed attempt; empty when there is none."""
    if view.note and not view.state.is_final:
        return view.note
    if not view.failed_attempts or not view.failures or view.state.value != "running":
        return ""
    last = view.failures[-1]
    where = f" at {PurePath(last.frames[-1].file).name}:{last.frames[-1].line}" if last.frames else ""
    times = "1 attempt has failed" if view.failed_attempts == 1 else f"{view.failed_attempts} attempts have failed"
    return f"{times} and will be tried again; the last: {_first_line(last.message).rstrip('.')}{where}"


def _first_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[0] if lines else ""


def plain_line(view: JobView, clock: Clock) -> str:
    """The whole state in one line, for logs."""
    parts = []
    for stage in view.stages:
        text = f"{stage.name} {stage.done}/{stage.tasks}"
        if stage.running and not finished(stage, succeeded(view)):
            size = _size_text(stage.bytes_in, stage.bytes_total, False)
            rate = format_rate(stage.records_in, clock.seconds_of(stage, view))
            text += f" ({', '.join(filter(None, (size, format_count(stage.records_in) + ' records', rate)))})"
        parts.append(text)
    how = f"{view.name}, {format_duration(view.seconds)}: {', '.join(parts) or view.state.value}"
    return "; ".join(filter(None, (how, trouble(view))))


_NOTES_SHOWN = 5


@dataclass(frozen=True)
class SummaryLine:
    """A label and what stands beside it."""

    label: str
    text: str
    alarm: bool = False


def summary_title(view: JobView) -> str:
    """The first line of the closing summary."""
    end = {"succeeded": "Done"}.get(view.state.value, view.state.value.capitalize())
    moved = f": {_records(view.records_in)} in, {view.records_out:,} out" if succeeded(view) else ""
    return f"{end} in {format_duration(view.seconds)}{moved}"


def summary_lines(view: JobView, output: str | None = None) -> list[SummaryLine]:
    """The rest of the closing summary: what an operator asks first."""
    lines: list[SummaryLine] = []
    if output:
        lines.append(SummaryLine("output", output))
    if view.resumed_after_seconds:
        before = format_duration(view.resumed_after_seconds)
        lines.append(SummaryLine("resumed", f"the time is this run's; the job was first started {before} before it"))
    if view.bytes_in:
        lines.append(SummaryLine("input", format_size(view.bytes_in) + _speed(view)))
    if view.stages:  # else it never began
        lines.append(SummaryLine("tasks", _tasks_text(view), alarm=view.failed_attempts > 0))
    if view.shuffle_bytes:
        spilled = f", and {format_size(view.spilled_bytes)} spilled to disk" if view.spilled_bytes else ""
        lines.append(SummaryLine("shuffle", format_size(view.shuffle_bytes) + spilled))
    if view.bad_records:
        where = f" in {output.rstrip('/')}/_bad_records/" if output else ""
        were = "was" if view.bad_records == 1 else "were"
        text = f"{_records(view.bad_records)} {were} set aside{where}"
        lines.append(SummaryLine("bad records", text, alarm=True))
    if view.hot_keys:
        lines.append(SummaryLine("hot keys", ", ".join(f"{key} {rows:,} rows" for key, rows in view.hot_keys)))
    lines.extend(SummaryLine("adapted", note) for note in view.adaptations[:_NOTES_SHOWN])
    if len(view.adaptations) > _NOTES_SHOWN:
        lines.append(SummaryLine("adapted", f"… and {len(view.adaptations) - _NOTES_SHOWN:,} more"))
    lines.extend(
        SummaryLine(f"{group}.{name}", f"{n:,}")
        for group, names in sorted(view.counters.items())
        for name, n in sorted(names.items())
    )
    return lines


def _records(count: int) -> str:
    return "1 record" if count == 1 else f"{count:,} records"


def _speed(view: JobView) -> str:
    """Bytes per second, for a job that ran long enough for that to mean something."""
    whole = view.seconds >= 1 and not view.resumed_after_seconds  # else some of it was read by an earlier run
    return f", {format_size(view.bytes_in / view.seconds)}/s" if whole else ""


def _tasks_text(view: JobView) -> str:
    tasks = ", ".join(f"{stage.tasks} {stage.name}" for stage in view.stages)
    if view.failed_attempts:
        failed = "one of which" if view.failed_attempts == 1 else f"{view.failed_attempts:,} of which"
        return f"{tasks}; {view.attempts:,} attempts, {failed} failed"
    return tasks
