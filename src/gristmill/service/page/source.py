"""What the pages ask of the server, as values. All calls may block for a moment: they are made from threads."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from gristmill.api.asked import Asked
from gristmill.runtime.files.joblogs import LogInfo
from gristmill.runtime.journal.history import AttemptRow
from gristmill.runtime.views import RunningView, WorkerView
from gristmill.service.page import render
from gristmill.service.page.failure import Failure, failure_of
from gristmill.service.page.jobview import JobValues, attempts_of, begun_of, head_of
from gristmill.service.page.listing import OVER, JobFilter
from gristmill.service.page.live import Look
from gristmill.service.page.recent import Recent
from gristmill.service.page.tasks import TaskFilter, TaskPage, TaskRow, task_page
from gristmill.service.page.timeline import task_at
from gristmill.service.submission.jobs import JobService

_FRESH_SECONDS = 0.4
_LOG_BYTES = 128 * 1024  # of an attempt's log, from its end
_FOLLOW_BYTES = 256 * 1024
_LOGS_SHOWN = 30
_LINE_BYTES = 400
_LINE_CHARACTERS = 160
_ATTEMPT = re.compile(r".+-s(\d+)-t(\d+)-a(\d+)(?:-e(\d+))?")


@dataclass(frozen=True)
class AttemptPart:
    """An attempt, on the page of its task."""

    number: int
    epoch: int
    state: str
    slot: str
    began: float
    seconds: float
    waited: float
    speculative: bool
    failure: Failure | None
    log: str  # the attempt's name; empty: it has none
    text: str
    after: int


@dataclass(frozen=True)
class LogPart:
    """A log in a list of them."""

    attempt: str
    task: str
    number: int
    epoch: int
    size: int
    last: str


class Source:
    """The server, as its pages see it."""

    def __init__(self, jobs: JobService) -> None:
        self._jobs = jobs
        self._values: Recent[str, JobValues] = Recent(_FRESH_SECONDS)
        self._tables: Recent[tuple[str, TaskFilter], str] = Recent(_FRESH_SECONDS)

    def job(self, id: str) -> JobValues | None:
        """A job, as it is or was a moment ago; None if there is no such job."""
        return self._values.get(id, lambda: self._job(id))

    def changed(self, id: str) -> None:
        """Somebody did something with a job just now."""
        self._values.forget(id)

    def _job(self, id: str) -> JobValues | None:
        ended = self._jobs.ended(id)  # before all else: what is younger than this is found to have moved
        status = self._jobs.detail(id)
        if status is None:
            return None
        history = self._jobs.history(id)
        return JobValues(
            status.view,
            status.user or ("" if history is None else history.user),
            status.output,
            status.submitted,
            time.time(),
            history,
            () if status.is_over else self._jobs.running(id),
            self._jobs.cut_off(history),
            status.error,
            status.deadline,
            ended=ended,
            asked=Asked(tuple(status.inputs), status.more_inputs, status.options, status.params),
        )

    def look_at_job(self, id: str) -> Look:
        """A job's page, as it looks now. One that can be tried again is watched for that when it is over."""
        values = self.job(id)
        if values is None:
            return Look({}, over=True)
        head = head_of(values)
        moved = [(stage.done, stage.running) for stage in values.view.stages], values.view.attempts
        state = head.state, head.can_cancel, head.can_retry
        over = values.is_over and not head.can_retry
        rests = values.is_over and values.ended is not None
        still = (lambda: self._jobs.ended(id) == values.ended) if rests else None
        return Look(render.job_parts(values), {"tasks": moved, "state": state}, over, still)

    def tasks(self, values: JobValues, wanted: TaskFilter) -> TaskPage:
        """Some of its tasks."""
        return task_page(values.view.stages, values.history, values.running, wanted, values.now)

    def table(self, id: str, wanted: TaskFilter) -> str | None:
        """Some of its tasks as a table, the same for all who ask within a moment; None if there is no such job."""

        def made() -> str | None:
            values = self.job(id)
            return None if values is None else render.render("job/tasks.html", id=id, tasks=self.tasks(values, wanted))

        return self._tables.get((id, wanted), made)

    def at(self, values: JobValues, lane: int, at: float) -> str:
        """The task at a place of the timeline."""
        return task_at(attempts_of(values), values.running, begun_of(values), values.now, lane, at)

    def task(self, values: JobValues, stage: int, index: int) -> tuple[TaskRow, list[AttemptPart]] | None:
        """A task and its attempts, the newest last; None if there is no such task."""
        stages = [one for one in values.view.stages if one.id == stage and index < one.tasks]
        if not stages:
            return None
        page = task_page(stages, values.history, values.running, TaskFilter(stage, index=index), values.now)
        id = values.view.job
        over = self._jobs.attempts_over(values.history, stage, index)
        epoch = 0 if values.history is None else len(values.history.taken_up)
        logs = {info.attempt: info for info in self._jobs.log_list(id)}
        found = [self._over(id, row, logs) for row in over]
        known = {(one.number, one.epoch) for one in found}
        for view in values.running:
            if (view.stage, view.index) == (stage, index) and (view.number, epoch) not in known:
                found.append(self._running(id, view, epoch, logs, values.now))
        return page.rows[0], found

    def _over(self, job: str, row: AttemptRow, logs: dict[str, LogInfo]) -> AttemptPart:
        name = row.log_name(job)
        text, after = self._end_of(job, logs.get(name))
        span = row.span
        return AttemptPart(
            row.number,
            row.epoch,
            row.state,
            span.slot if span else "",
            span.began if span else 0.0,
            span.ended - span.began if span else row.seconds,
            span.began - span.launched if span and span.began - span.launched > 1 else 0.0,
            span.speculative if span else False,
            None if row.report is None else failure_of(row.report),
            name if text else "",
            text,
            after,
        )

    def _running(self, job: str, view: RunningView, epoch: int, logs: dict[str, LogInfo], now: float) -> AttemptPart:
        name = AttemptRow(view.stage, view.index, view.number, epoch, "running", None).log_name(job)
        text, after = self._end_of(job, logs.get(name))
        seconds = max(0.0, now - view.began)
        return AttemptPart(
            view.number,
            epoch,
            "running",
            view.slot,
            view.began,
            seconds,
            0.0,
            view.speculative,
            None,
            name,
            text,
            after,
        )

    def _end_of(self, job: str, info: LogInfo | None) -> tuple[str, int]:
        if info is None:
            return "", 0
        data, after = self._jobs.log(job, info.attempt, max(0, info.end - _LOG_BYTES), _LOG_BYTES)
        return data.decode(errors="backslashreplace"), after

    def follow(self, job: str, attempt: str, after: int) -> tuple[str, int, bool]:
        """What an attempt has printed since; where to go on; and whether it still runs."""
        match = _ATTEMPT.fullmatch(attempt)
        if match is None or not attempt.startswith(f"{job}-"):
            return "", after, False
        stage, index, number = map(int, match.groups()[:3])
        status = self._jobs.status(job)
        running = [] if status is None or status.is_over else self._jobs.running(job)
        runs = any((one.stage, one.index, one.number) == (stage, index, number) for one in running)
        data, behind = self._jobs.log(job, attempt, after, _FOLLOW_BYTES)
        return data.decode(errors="backslashreplace"), behind, runs

    def logs(self, job: str) -> tuple[list[LogPart], int]:
        """The logs of a job, and how many more there are."""
        infos = [info for info in self._jobs.log_list(job) if info.end]
        found = []
        for info in infos[:_LOGS_SHOWN]:
            if (match := _ATTEMPT.fullmatch(info.attempt)) is not None:
                data = self._jobs.log(job, info.attempt, max(0, info.end - _LINE_BYTES), _LINE_BYTES)[0]
                lines = data.decode(errors="replace").strip().splitlines()
                last = lines[-1][:_LINE_CHARACTERS] if lines else ""
                task = f"{int(match[1])}-{int(match[2])}"
                found.append(LogPart(info.attempt, task, int(match[3]), int(match[4] or 0), info.end, last))
        return found, max(0, len(infos) - _LOGS_SHOWN)

    # All jobs

    def rows(self, wanted: JobFilter, past: bool) -> str:
        """Jobs as a table."""
        found = self._jobs.page(**wanted.arguments())
        shown = [row for row in found.jobs if row.state in OVER or not past]
        older = wanted.query(before=found.next) if found.next else ""
        path = "/history" if past else "/"
        return render.render("rows.html", jobs=shown, wanted=wanted, past=past, older=older, path=path)

    def look_at_jobs(self, wanted: JobFilter) -> Look:
        """The list of jobs, as it looks now."""
        return Look({"rows": self.rows(wanted, past=False), "fleet": self._fleet(self._jobs.workers())})

    def look_at_workers(self) -> Look:
        """The workers, as they look now."""
        workers = sorted(self._jobs.workers(), key=lambda one: one.worker)
        shown = render.render("workerrows.html", workers=workers)
        return Look({"workers": shown, "fleet": self._fleet(workers)})

    def _fleet(self, known: Sequence[WorkerView]) -> str:
        workers = [one for one in known if one.state != "gone"]
        figures: dict[str, Any] = {
            "busy": sum(one.busy for one in workers),
            "slots": sum(one.slots for one in workers),
        }
        return render.render("fleet.html", workers=workers, **figures)
