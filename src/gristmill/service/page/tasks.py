"""The tasks of a job as a table: filtered, sorted, one page at a time. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlencode

from gristmill.runtime.journal.history import AttemptRow, JobHistory
from gristmill.runtime.views import RunningView, StageView
from gristmill.service.page.timeline import is_slow, usual_seconds, worker_of

PAGE = 25
STATES = ("running", "waiting", "done", "retried", "slow")
SORTS = ("index", "slowest", "largest")


@dataclass(frozen=True)
class TaskFilter:
    """Which tasks, in which order.

    Attributes:
        stage: of this stage alone; None: of all.
        state: one of ``STATES``; empty: all. ``retried``: more than one attempt has ended.
        sort: one of ``SORTS``.
        page: from 1.
        index: this task of the stage alone.
    """

    stage: int | None = None
    state: str = ""
    sort: str = "index"
    page: int = 1
    index: int | None = None

    def query(self, **changes: object) -> str:
        """As the query of an URL, with some of it changed."""
        values = {"stage": self.stage, "state": self.state, "sort": self.sort, "page": self.page, **changes}
        return urlencode({name: str(value) for name, value in values.items() if value not in (None, "", "index", 1)})


@dataclass(frozen=True)
class TaskRow:
    """One task. What is not known is None."""

    stage: int
    index: int
    stage_name: str
    state: str
    attempts: int
    failed: int
    worker: str
    began: float | None
    seconds: float | None
    slow: bool
    records_in: int | None
    bytes_in: int | None
    records_out: int | None
    fraction: float

    @property
    def id(self) -> str:
        """As in URLs."""
        return f"{self.stage}-{self.index}"


@dataclass(frozen=True)
class TaskPage:
    """Some tasks.

    Attributes:
        rows: those of this page.
        total: how many the filter lets through.
        first: the number of the first row, from 1.
        pages: how many pages there are.
    """

    filter: TaskFilter
    rows: tuple[TaskRow, ...]
    total: int
    first: int
    pages: int
    stages: tuple[tuple[int, str], ...]


def task_page(
    stages: Sequence[StageView],
    history: JobHistory | None,
    running: Sequence[RunningView],
    wanted: TaskFilter,
    now: float,
) -> TaskPage:
    """The tasks that a filter lets through."""
    live: dict[tuple[int, int], list[RunningView]] = {}
    for view in running:
        live.setdefault((view.stage, view.index), []).append(view)
    usual = usual_seconds(history.attempts) if history is not None else {}
    chosen = [stage for stage in stages if wanted.stage is None or stage.id == wanted.stage]
    if wanted.index is not None:
        rows, total, page, pages = [_row(chosen[0], wanted.index, history, live, usual, now)], 1, 1, 1
    elif not wanted.state and wanted.sort == "index":  # the usual case: only what is shown is made
        total = sum(stage.tasks for stage in chosen)
        page, pages = _page(wanted.page, total)
        places = _places(chosen, (page - 1) * PAGE, PAGE)
        rows = [_row(stage, index, history, live, usual, now) for stage, index in places]
    else:
        places = _places(chosen, 0, sum(stage.tasks for stage in chosen))
        all_rows = (_row(stage, index, history, live, usual, now) for stage, index in places)
        found = [row for row in all_rows if _matches(row, wanted.state)]
        if wanted.sort == "slowest":
            found.sort(key=lambda row: -(row.seconds or 0.0))
        elif wanted.sort == "largest":
            found.sort(key=lambda row: -(row.bytes_in or 0))
        total = len(found)
        page, pages = _page(wanted.page, total)
        rows = found[(page - 1) * PAGE : page * PAGE]
    used = TaskFilter(wanted.stage, wanted.state, wanted.sort, page)
    names = tuple((stage.id, stage.name) for stage in stages)
    return TaskPage(used, tuple(rows), total, (page - 1) * PAGE + 1 if total else 0, pages, names)


def _page(wanted: int, total: int) -> tuple[int, int]:
    pages = max(1, -(-total // PAGE))
    return max(1, min(wanted, pages)), pages


def _places(stages: Sequence[StageView], skip: int, limit: int) -> Iterator[tuple[StageView, int]]:
    for stage in stages:
        first = min(skip, stage.tasks)
        skip -= first
        some = min(limit, stage.tasks - first)
        limit -= some
        for index in range(first, first + some):
            yield stage, index


def _matches(row: TaskRow, state: str) -> bool:
    match state:
        case "retried":
            return row.attempts > 1
        case "slow":
            return row.slow
        case "":
            return True
        case _:
            return row.state == state


def _row(
    stage: StageView,
    index: int,
    history: JobHistory | None,
    live: Mapping[tuple[int, int], Sequence[RunningView]],
    usual: Mapping[int, float],
    now: float,
) -> TaskRow:
    over = [] if history is None else history.attempts_of(stage.id, index)
    runs = live.get((stage.id, index), ())
    done = _counted(over)
    last = done or (over[-1] if over else None)
    state = "running" if runs else "done" if done else last.state if last else "waiting"
    failed = sum(row.state == "failed" for row in over)
    began: float | None = None
    seconds: float | None = None
    worker = ""
    if runs:
        began, worker = runs[0].began, worker_of(runs[0].slot)
        seconds = max(0.0, now - began)
    elif last is not None:
        worker, seconds = last.worker, last.seconds or None
        if last.span is not None:
            began, seconds = last.span.began, last.span.ended - last.span.began
    return TaskRow(
        stage.id,
        index,
        stage.name,
        state,
        len(over) + len(runs),
        failed,
        worker,
        began,
        seconds,
        seconds is not None and is_slow(seconds, usual.get(stage.id)),
        runs[0].records_in if runs else done.records_in if done else None,
        runs[0].bytes_in if runs else done.bytes_in if done else None,
        done.records_out if done and not runs else None,
        runs[0].fraction if runs else 1.0 if done else 0.0,
    )


def _counted(rows: Sequence[AttemptRow]) -> AttemptRow | None:
    return next((row for row in reversed(rows) if row.state == "done"), None)
