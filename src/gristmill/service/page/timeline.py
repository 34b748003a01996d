"""The timeline of a job: a lane for each place where attempts ran, and in it what ran when. Pure.

A few hundred attempts are drawn one by one. Of more, only what covers each of a thousand columns is told, as one path
for each kind: how much a browser gets and draws does not grow with the number of tasks.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from statistics import median
from typing import NamedTuple

from gristmill.runtime.journal.history import AttemptRow
from gristmill.runtime.views import RunningView
from gristmill.service.looking.cutoff import CUT_OFF
from gristmill.service.page.figures import duration

COLUMNS = 1000
TONES = 4
"""Stages take turns with so many tones."""

_ALONE = 400  # attempts that are drawn one by one
_LANES = 160
_GAP = 0.7  # columns between two attempts, so that both are seen
_SLOW = 2.0  # times the median of its stage: a straggler
_SLOW_SECONDS = 1.0
_SLOWEST_SHOWN = 5

# What is seen where several attempts share a column: the last of these that is among them.
_KINDS = (*(f"stage{tone}" for tone in range(TONES)), "void", "cut", "backup", "running", "slow", "lost", "failed")
_RANK = {kind: rank for rank, kind in enumerate(_KINDS)}
LEGEND = {
    "running": "runs",
    "slow": "runs much longer than others",
    "backup": "second attempt that won",
    "void": "was not needed, or cancelled",
    "failed": "failed",
    "lost": "lost with its worker",
    "cut": "cut off by a restart; began at some time in it",
}


class Bar(NamedTuple):
    """One attempt. Times are seconds since the epoch."""

    slot: str
    began: float
    ended: float
    kind: str
    stage: int
    place: int  # among the tasks of its stage
    number: int


@dataclass(frozen=True)
class Mark:
    """An attempt that is drawn alone, in columns and pixels."""

    x: float
    y: int
    width: float
    kind: str
    task: str
    title: str


@dataclass(frozen=True)
class Straggler:
    """A task that takes, or took, much longer than others of its stage."""

    task: str
    seconds: float
    usual_seconds: float
    slot: str
    running: bool
    backup: str  # where a second attempt runs; empty: there is none


@dataclass(frozen=True)
class Timeline:
    """What is drawn.

    Attributes:
        seconds: from the left to the right.
        lanes: the name of each, from the top.
        lane_pixels: the height of one.
        ticks: where a time is written, in columns, and the time.
        marks: attempts drawn alone; empty when there are too many.
        paths: else what covers what, by kind.
        kinds: that are to be seen, for the legend.
        hidden_lanes: how many lanes there are besides.
        attempts: how many are shown.
    """

    seconds: float
    lanes: tuple[str, ...] = ()
    lane_pixels: int = 18
    ticks: tuple[tuple[float, str], ...] = ()
    marks: tuple[Mark, ...] = ()
    paths: tuple[tuple[str, str], ...] = ()
    kinds: tuple[str, ...] = ()
    hidden_lanes: int = 0
    attempts: int = 0
    stragglers: tuple[Straggler, ...] = ()

    @property
    def pixels(self) -> int:
        """The height of all lanes."""
        return len(self.lanes) * self.lane_pixels


def timeline(attempts: Sequence[AttemptRow], running: Sequence[RunningView], begun: float, now: float) -> Timeline:
    """What happened from ``begun`` until ``now``, or until the job was over.

    Args:
        attempts: those that are over.
        running: those that run.
        begun: when the job began, in seconds since the epoch.
        now: likewise.
    """
    usual = usual_seconds(attempts)
    bars = bars_of(attempts, running, usual, now)
    if not bars:
        return Timeline(max(0.0, now - begun))
    start, end = bounds(bars, bool(running), begun, now)
    seconds = max(end - start, 0.001)
    lanes, lane_of = _lanes(bars)
    shown = [bar for bar in bars if lane_of[bar.slot] < _LANES]
    lanes, hidden = lanes[:_LANES], max(0, len(lanes) - _LANES)
    pixels = 18 if len(lanes) <= 16 else 10 if len(lanes) <= 48 else 5
    scale = COLUMNS / seconds
    marks, paths = [], []
    if len(shown) <= _ALONE:
        marks = [_mark(bar, lane_of[bar.slot] * pixels, start, scale) for bar in shown]
    else:
        paths = _paths(shown, lane_of, pixels, start, scale)
    present = {bar.kind for bar in shown}
    return Timeline(
        seconds,
        tuple(lanes),
        pixels,
        tuple((at * scale, _clock(at)) for at in ticks(seconds)),
        tuple(marks),
        tuple(paths),
        tuple(kind for kind in _KINDS if kind in present),
        hidden,
        len(bars),
        tuple(_stragglers(attempts, running, usual, now)),
    )


def bounds(bars: Sequence[Bar], runs: bool, begun: float, now: float) -> tuple[float, float]:
    """Where a timeline begins and ends."""
    start, end = min(begun, min(bar.began for bar in bars)), max(bar.ended for bar in bars)
    return start, max(now, end) if runs else end


def usual_seconds(attempts: Iterable[AttemptRow]) -> dict[int, float]:
    """The median of what finished attempts took, by stage."""
    found: dict[int, list[float]] = {}
    for row in attempts:
        if row.state == "done" and row.span is not None:
            found.setdefault(row.stage, []).append(row.span.ended - row.span.began)
    return {stage: median(some) for stage, some in found.items()}


def is_slow(seconds: float, usual: float | None) -> bool:
    """Whether an attempt takes much longer than is usual in its stage."""
    return usual is not None and seconds > _SLOW_SECONDS and seconds > _SLOW * usual


def bars_of(
    attempts: Iterable[AttemptRow], running: Iterable[RunningView], usual: Mapping[int, float], now: float
) -> list[Bar]:
    """All attempts of which it is known where they ran."""
    bars = [
        Bar(row.span.slot, row.span.began, max(row.span.ended, row.span.began), _kind(row), *_task(row))
        for row in attempts
        if row.span is not None and (row.state != "cancelled" or row.span.ended > row.span.began)
    ]
    for view in running:
        slow = is_slow(now - view.began, usual.get(view.stage))
        bars.append(Bar(view.slot, view.began, max(now, view.began), "slow" if slow else "running", *_task(view)))
    return bars


def _task(row: AttemptRow | RunningView) -> tuple[int, int, int]:
    return row.stage, row.index, row.number


def _kind(row: AttemptRow) -> str:
    if row.state == "done":
        assert row.span is not None
        return "backup" if row.span.speculative else f"stage{row.stage % TONES}"
    if row.span is not None and worker_of(row.span.slot) == CUT_OFF:
        return "cut"
    return row.state if row.state in ("failed", "lost") else "void"


def _lanes(bars: Sequence[Bar]) -> tuple[list[str], dict[str, int]]:
    """A lane for each slot; but one that came after another of its worker had gone takes that one's."""
    spans: dict[str, tuple[float, float]] = {}
    for bar in bars:
        first, last = spans.get(bar.slot, (bar.began, bar.ended))
        spans[bar.slot] = min(first, bar.began), max(last, bar.ended)
    ends: dict[str, list[float]] = {}  # of the lanes of each worker
    place: dict[str, tuple[str, int]] = {}
    for slot, (first, last) in sorted(spans.items(), key=lambda item: (item[1][0], _natural(item[0]))):
        worker = worker_of(slot)
        lanes = ends.setdefault(worker, [])
        free = next((number for number, end in enumerate(lanes) if end <= first), len(lanes))
        lanes[free : free + 1] = [last]
        place[slot] = worker, free
    names = [(worker, number) for worker in sorted(ends, key=_natural) for number in range(len(ends[worker]))]
    at = {name: lane for lane, name in enumerate(names)}
    return [f"{worker} · {number + 1}" for worker, number in names], {slot: at[where] for slot, where in place.items()}


def worker_of(slot: str) -> str:
    """The worker of a slot: slots are named after their workers."""
    return slot.rpartition("-")[0] or slot


def _natural(name: str) -> tuple[str, int, str]:
    """``w2`` before ``w10``."""
    head = name.rstrip("0123456789")
    return head, int(name[len(head) :] or 0), name


def _mark(bar: Bar, y: int, start: float, scale: float) -> Mark:
    x = (bar.began - start) * scale
    width = max((bar.ended - bar.began) * scale - _GAP, 0.8)
    task = f"{bar.stage}-{bar.place}"
    words = LEGEND.get(bar.kind, "done")
    title = f"Task {task}, attempt {bar.number}: {words}"
    if bar.kind != "cut":
        title += f", {duration(bar.ended - bar.began)} on {worker_of(bar.slot)}"
    return Mark(round(x, 1), y, round(width, 1), bar.kind, task, title)


def _paths(
    bars: Iterable[Bar], lane_of: Mapping[str, int], pixels: int, start: float, scale: float
) -> list[tuple[str, str]]:
    columns: dict[int, bytearray] = {}  # of each lane: one more than the rank of what covers it
    for bar in bars:
        lane = columns.setdefault(lane_of[bar.slot], bytearray(COLUMNS + 1))
        first = int((bar.began - start) * scale)
        last = min(max(ceil((bar.ended - start) * scale), first + 1), COLUMNS + 1)
        rank = _RANK[bar.kind] + 1
        if last - first == 1:
            if lane[first] < rank:
                lane[first] = rank
        else:
            lane[first:last] = bytes(max(rank, one) for one in lane[first:last])
    found: dict[str, list[str]] = {}
    height = max(2, pixels - 2)
    for number, lane in sorted(columns.items()):
        y = number * pixels + (pixels - height) // 2
        for rank, first, last in _runs(lane):
            found.setdefault(_KINDS[rank - 1], []).append(f"M{first} {y}h{last - first}v{height}h-{last - first}z")
    return [(kind, "".join(found[kind])) for kind in _KINDS if kind in found]


def _runs(lane: bytearray) -> Iterable[tuple[int, int, int]]:
    """Where the same covers neighbouring columns: what, from, to."""
    first = 0
    for at in range(1, len(lane) + 1):
        if at == len(lane) or lane[at] != lane[first]:
            if lane[first]:
                yield lane[first], first, at
            first = at


def ticks(seconds: float) -> list[float]:
    """Where times are written: four to eight of them, at round ones."""
    for step in (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 21600, 43200, 86400):
        if seconds / step <= 8:
            break
    else:
        step = seconds / 8
    return [step * number for number in range(int(seconds / step) + 1)]


def _clock(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:g} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def _stragglers(
    attempts: Sequence[AttemptRow], running: Sequence[RunningView], usual: Mapping[int, float], now: float
) -> list[Straggler]:
    """The slowest, those that run first."""
    found = []
    for view in running:
        seconds = now - view.began
        if not view.speculative and is_slow(seconds, usual.get(view.stage)):
            others = [one for one in running if _task(one)[:2] == _task(view)[:2] and one is not view]
            backup = worker_of(others[0].slot) if others else ""
            found.append(_straggler(view, view.slot, seconds, usual[view.stage], True, backup))
    for row in attempts:
        if row.state == "done" and row.span is not None:
            seconds = row.span.ended - row.span.began
            if is_slow(seconds, usual.get(row.stage)):
                found.append(_straggler(row, row.span.slot, seconds, usual[row.stage], False, ""))
    return sorted(found, key=lambda one: (not one.running, -one.seconds))[:_SLOWEST_SHOWN]


def _straggler(
    row: AttemptRow | RunningView, slot: str, seconds: float, usual: float, running: bool, backup: str
) -> Straggler:
    return Straggler(f"{row.stage}-{row.index}", seconds, usual, worker_of(slot), running, backup)


def task_at(
    attempts: Sequence[AttemptRow], running: Sequence[RunningView], begun: float, now: float, lane: int, at: float
) -> str:
    """The task that is drawn at a place of :func:`timeline`, or nearest to it; empty if there is none.

    Args:
        attempts: as there.
        running: as there.
        begun: as there.
        now: as there.
        lane: counted from the top.
        at: from the left, 0 to 1.
    """
    bars = bars_of(attempts, running, {}, now)
    if not bars:
        return ""
    _, lane_of = _lanes(bars)
    begun, end = bounds(bars, bool(running), begun, now)
    when = begun + at * (end - begun)
    here = [bar for bar in bars if lane_of[bar.slot] == lane]
    if not here:
        return ""
    nearest = min(here, key=lambda bar: max(bar.began - when, when - bar.ended, 0.0))
    return f"{nearest.stage}-{nearest.place}"
