"""Looking at a server's jobs: how they stand, what became of their tasks, what these printed.

All calls may block for a moment, on files or the journal, or for the coordinator: they are made from threads of their
own, never from the event loop.
"""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from gristmill.api.asked import Asked
from gristmill.api.messages import JobStatus
from gristmill.config import MIB, format_size
from gristmill.errors import GristmillError, ServerUnreachable
from gristmill.runtime.coordinator.coordinator import Coordinator
from gristmill.runtime.coordinator.registry import KnownJob, QueuedJob
from gristmill.runtime.files.joblogs import LogInfo, LogKeeper, list_logs, read_log
from gristmill.runtime.journal.facts import JobAccepted, JobRequested
from gristmill.runtime.journal.history import AttemptRow, JobHistory
from gristmill.runtime.journal.journal import Journal
from gristmill.runtime.journal.summaries import JobState, JobSummary
from gristmill.runtime.outcome import error_to_json
from gristmill.runtime.views import RunningView, WorkerView
from gristmill.service.drivers import is_loader, loader_name
from gristmill.service.looking import models, shown
from gristmill.service.looking.cutoff import CutOffs, attempts_over
from gristmill.service.looking.history import Histories

_SETTLE_SECONDS = 1.0
_FIRST_FACTS = 20  # of a job: how it began is among them
_REMEMBERED = 1000
_SHOWN_BYTES = 256 * 1024  # of one attempt's log, from its end
_MAX_ROWS = 1000
_LOG_NAME = re.compile(r"(.+)-s(\d+)-t(\d+)-a(\d+)(?:-e(\d+))?")
_LEAST_DISK_BYTES = 64 * MIB


class JobLookup:
    """What the REST interface and the page ask.

    Args:
        coordinator: runs the jobs.
        data_dir: the server's own.
        logs: keeps what attempts print.
        journal: where all jobs are noted.

    Attributes:
        histories: what became of jobs, attempt by attempt.
        data_dir: the server's own.
    """

    def __init__(self, coordinator: Coordinator, data_dir: Path, logs: LogKeeper, journal: Journal) -> None:
        self.histories = Histories(journal)
        self._coordinator = coordinator
        self.data_dir = data_dir
        self._logs = logs
        self._journal = journal
        self._cut_offs = CutOffs()
        self._asked: dict[str, Asked] = {}

    def status(self, job: str) -> JobStatus | None:
        """How a job stands; None if there is no such job."""
        with self.while_it_lives():
            known = self._coordinator.find(job)
            return None if known is None else self._status(known)

    def detail(self, job: str) -> JobStatus | None:
        """As :meth:`status`, with what only the journal knows: whose it is, and when it ended."""
        status = self.status(job)
        if status is None or (summary := self._journal.summary(job)) is None:
            return status
        return replace(
            status,
            user=summary.user,
            priority=summary.priority,
            deadline=summary.deadline,
            late=summary.late,
            ended=summary.ended if status.is_over else None,
            begun=summary.begun,
            **self._asked_for(job).to_json(),
        )

    def _asked_for(self, job: str) -> Asked:
        """What was asked for: what does not change is read once."""
        if (known := self._asked.get(job)) is not None:
            return known
        requested = Asked()
        for _, fact in self._journal.numbered(job, most=_FIRST_FACTS):
            if isinstance(fact, JobAccepted):
                self._asked[job] = found = Asked.from_json(fact.prepared.get("asked", {}))
                for old in list(self._asked)[:-_REMEMBERED]:
                    self._asked.pop(old, None)
                return found
            if isinstance(fact, JobRequested):
                requested = Asked.of_wish(fact.request.get("wish", {}))
        return requested

    def ended(self, job: str) -> float | None:
        """When a job ended, in seconds since the epoch; None if it has not. Costs little."""
        summary = self._journal.summary(job)
        return None if summary is None else summary.ended

    def result_place(self, job: str) -> str | None:
        """Where the output of a job is, with all that it takes to read it; None if it has none of its own.

        That may hold secrets: it is for nobody's eyes.
        """
        history = self.history(job)
        if history is None or history.accepted is None or history.output is None:
            return None
        return str(history.accepted.prepared.get("place") or history.output)

    def page(
        self,
        state: str | None = None,
        user: str | None = None,
        name: str | None = None,
        before: str | None = None,
        limit: int = 50,
        since: float | None = None,
    ) -> models.JobPage:
        """Jobs, the newest first; those that only load the code of others are left out.

        Args:
            state: only those in this state.
            user: only this user's.
            name: only those with this in their names.
            before: only those that come after this one in the list.
            limit: at most so many.
            since: only those that were submitted at this time or later, in seconds since the epoch.
        """
        states = () if state is None else (JobState(state),)
        found: list[JobSummary] = []
        while len(found) <= limit:
            some = self._journal.page_of_jobs(
                states=states, user=user, name=name, since=since, before=before, limit=limit + 1
            )
            found += [one for one in some if not is_loader(one.name, one.driver)]
            if len(some) <= limit:
                break
            before = some[-1].job
        rows = [self._row(one) for one in found[:limit]]
        return models.JobPage(jobs=rows, next=rows[-1].id if len(found) > limit else None)

    def _row(self, summary: JobSummary) -> models.JobRow:
        """A job in a list; of one that is not over, also how far it is."""
        more: dict[str, Any] = {"percent": 100.0 if summary.state is JobState.SUCCEEDED else 0.0}
        known = None if summary.state.is_final else self._coordinator.find(summary.job)
        if known is not None:
            view = known.view()
            more = {"percent": shown.percent(shown.fraction(view)), "note": view.note}
        seconds = summary.seconds  # as its own page has them
        if seconds is None:
            seconds = 0.0 if summary.begun is None else max(0.0, (summary.ended or time.time()) - summary.begun)
        return models.JobRow(
            id=summary.job,
            name=summary.name,
            user=summary.user,
            state=summary.state.value,
            output=summary.output,
            submitted=summary.submitted,
            begun=summary.begun,
            ended=summary.ended,
            seconds=round(seconds, 3),
            priority=summary.priority,
            late=summary.late,
            error=summary.error,
            **more,
        )

    def all(self) -> list[JobStatus]:
        """Every job that is known without reading, the newest first."""
        with self.while_it_lives():
            found = map(self._status, self._coordinator.jobs())
            return sorted(found, key=lambda status: status.submitted, reverse=True)

    def history(self, job: str) -> JobHistory | None:
        """What became of a job, attempt by attempt."""
        return self.histories.of(job)

    def running(self, job: str) -> list[RunningView]:
        """The attempts of a job that run now."""
        return self._coordinator.look(job)

    def tasks(
        self, job: str, stage: int | None = None, state: str | None = None, after: int = 0, limit: int = 100
    ) -> models.TaskPage | None:
        """The tasks of a job; None if there is no such job.

        Args:
            job: the job.
            stage: only those of this stage.
            state: only those in this state.
            after: leave so many out.
            limit: at most so many.
        """
        status = self.status(job)
        if status is None:
            return None
        history, running = self.history(job), [] if status.is_over else self.running(job)
        found = shown.tasks_of(status.view.stages, history, running, status.is_over, (stage, state))
        some = found[after : after + min(limit, _MAX_ROWS)]
        rows = [models.TaskRow(**shown.task_row(*one, history, running)) for one in some]
        behind = after + len(some)
        return models.TaskPage(tasks=rows, total=len(found), next=behind if behind < len(found) else None)

    def attempts_over(self, history: JobHistory | None, stage: int, index: int) -> list[AttemptRow]:
        """The attempts at a task that are over; also those that a restart has cut off, if they had printed anything."""
        if history is None:
            return []
        logs = [info.attempt for info in self.log_list(history.job)] if history.taken_up else ()
        return attempts_over(history, stage, index, logs)

    def cut_off(self, history: JobHistory | None) -> Sequence[AttemptRow]:
        """The attempts of a job that restarts have cut off, if they had printed anything: to be drawn among others."""
        if history is None or not history.taken_up:
            return ()
        job = history.job  # the page asks, and waits for nothing
        return self._cut_offs.of(
            history, lambda: [info.attempt for info in self.log_list(job, settle=False)], time.monotonic()
        )

    def attempts(self, job: str, stage: int, index: int) -> models.Attempts | None:
        """The attempts at a task; None if there is no such task."""
        status = self.status(job)
        if status is None:
            return None
        stages = {one.id: one for one in status.view.stages}
        if stage not in stages or index >= stages[stage].tasks:
            return None
        history = self.history(job)
        rows = [shown.attempt_row(job, one) for one in self.attempts_over(history, stage, index)]
        if not status.is_over:
            epoch = 0 if history is None else len(history.taken_up)
            now = [one for one in self.running(job) if (one.stage, one.index) == (stage, index)]
            over = {(row["number"], row["epoch"]) for row in rows}
            rows += [shown.running_row(job, one, epoch) for one in now if (one.number, epoch) not in over]
        return models.Attempts(attempts=[models.AttemptRow(**row) for row in rows])

    @contextmanager
    def while_it_lives(self) -> Iterator[None]:
        """If the coordinator has ended, this server is about to: the next one will know.

        Raises:
            ServerUnreachable: instead of what has ended it.
        """
        try:
            yield
        except Exception as error:
            if self._coordinator.crash is None or error.__cause__ is not self._coordinator.crash:
                raise
            raise ServerUnreachable(f"The server is about to end: {error}") from error

    def _status(self, known: KnownJob) -> JobStatus:
        outcome = known.wait(0.0)
        view = known.view() if outcome is None else outcome.view
        error = None if outcome is None or outcome.error is None else error_to_json(outcome.error)
        place = known.before if isinstance(known, QueuedJob) else None
        return JobStatus(view, known.output, known.format, known.submitted, error, queue_place=place)

    # What attempts print

    def logs(self, job: str) -> Iterator[tuple[str, str]]:
        """The end of what each attempt of a job printed: of those that are over, and of those that run."""
        infos = self.log_list(job)
        for info in infos:
            data = self.log(job, info.attempt, max(0, info.end - _SHOWN_BYTES), _SHOWN_BYTES)[0]
            yield info.attempt, data.decode(errors="backslashreplace")
        known = None if infos else self._coordinator.find(job)
        if known is not None:  # they could not be kept, or were pruned
            tails = {str(report.details.get("task", "a task")): report.log_tail for report in known.view().failures}
            yield from sorted((task, tail) for task, tail in tails.items() if tail)

    def log_list(self, job: str, *, settle: bool = True) -> Sequence[LogInfo]:
        """The logs of a job, by attempt; without ``settle`` what has just come may be missing."""
        if settle:
            self._logs.settle(_SETTLE_SECONDS)
        found: dict[str, LogInfo] = {}
        for one in filter(None, [self._loader_of(job), job]):
            for folder in self._log_folders(one):
                for info in list_logs(folder):
                    if info.attempt not in found or found[info.attempt].end < info.end:
                        found[info.attempt] = info
        return [found[name] for name in sorted(found, key=log_order)]

    def log(self, job: str, attempt: str, after: int = 0, limit: int = 256 * 1024) -> tuple[bytes, int]:
        """A part of an attempt's log, and where the next one begins; see :func:`joblogs.read_log`."""
        if attempt.partition("-s")[0] != job and attempt.partition("-s")[0] != (job := self._loader_of(job)):
            return b"", after
        for folder in self._log_folders(job):
            data, behind = read_log(folder, attempt, after, limit)
            if data:
                return data, behind
        return b"", after

    def log_part(self, job: str, attempt: str, after: int, limit: int) -> models.LogPart:
        """A part of an attempt's log as text; a character is not cut in two, unless nothing follows."""
        over = not self._runs(job, attempt)  # before the log is read: what comes last is seen
        self._logs.settle(_SETTLE_SECONDS)
        data, behind = self.log(job, attempt, after, limit)
        whole = _whole(data) if behind > after and not (over and behind == after + len(data) < limit) else len(data)
        text = data[:whole].decode(errors="backslashreplace")
        return models.LogPart(
            attempt=attempt, text=text, after=after, next=behind - (len(data) - whole), over=over and not data
        )

    def log_ends(self, job: str, task: str | None, limit: int) -> models.Logs:
        """The end of each log of a job, or of one task of it, as far as ``limit`` goes; with 0 only their sizes."""
        mark = "-s{}-t{:05d}-a".format(*shown.task_id(task)) if task is not None else ""
        if limit == 0:
            sizes = ((info.attempt, info.end) for info in self.log_list(job) if mark in info.attempt)
            return models.Logs(logs=[models.Log(attempt=name, text="", size_bytes=end) for name, end in sizes])
        found: list[models.Log] = []
        left_out, left = 0, limit
        for attempt, text in self.logs(job):
            if mark not in attempt:
                continue
            if left <= 0:
                left_out += 1
                continue
            left -= len(text)
            found.append(models.Log(attempt=attempt, text=text, size_bytes=len(text)))
        return models.Logs(logs=found, left_out=left_out)

    def _runs(self, job: str, attempt: str) -> bool:
        """Whether an attempt may print more."""
        status = self.status(job)
        if status is None or status.is_over:
            return False
        history = self.history(job)
        return history is None or all(one.log_name(job) != attempt for one in history.attempts)

    def _loader_of(self, job: str) -> str:
        """The job that has loaded the code of another one last; empty if none has. Its log is part of the other's."""
        history = self.history(job)
        if history is None or not isinstance(history.first, JobRequested):
            return ""
        found = self._journal.page_of_jobs(name=loader_name(job), since=history.first.at, limit=1)
        return found[0].job if found and found[0].driver else ""

    def _log_folders(self, job: str) -> list[Path]:
        """Where logs of a job are: the server keeps all, and its own worker has the newest of those that run."""
        return [folder / "jobs" / job for folder in (self.data_dir, self.data_dir / "worker")]

    # Workers

    def workers(self) -> list[WorkerView]:
        """The workers that are here."""
        return self._coordinator.workers()

    # The server itself

    def troubles(self) -> list[str]:
        """Why no job can be taken in; empty if one can."""
        found = []
        if self._journal.failure is not None:
            found.append(str(self._journal.failure))
        if self._coordinator.crash is not None:
            found.append(f"The coordinator has ended: {self._coordinator.crash}")
        else:
            try:
                self._coordinator.workers()
            except GristmillError as error:
                found.append(str(error))
        try:
            free = shutil.disk_usage(self.data_dir).free
        except OSError as error:
            found.append(f"The data directory {self.data_dir} cannot be seen: {error.strerror}.")
        else:
            if free < _LEAST_DISK_BYTES:
                found.append(f"The disk of {self.data_dir} is full: {format_size(free)} are left.")
        return found


def log_order(attempt: str) -> tuple[str, tuple[int, ...]]:
    """Sorts logs by their tasks, and those of one as they came: by epoch, then by number."""
    if (match := _LOG_NAME.fullmatch(attempt)) is None:
        return attempt, ()
    stage, task, number, epoch = (int(n or 0) for n in match.groups()[1:])
    return match[1], (stage, task, epoch, number)


def _whole(data: bytes) -> int:
    """How many bytes of this are whole characters of UTF-8; all, if it does not end within one."""
    for back in range(1, min(4, len(data)) + 1):
        byte = data[-back]
        if byte >= 0xC0:
            wanted = 2 if byte < 0xE0 else 3 if byte < 0xF0 else 4
            return len(data) - back if wanted > back and len(data) > back else len(data)
        if byte < 0x80:
            break
    return len(data)
