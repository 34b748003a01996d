"""What became of jobs: their histories, kept up with the journal, and their facts as events for others to read.

There is one way from the journal to people: facts are read by number and folded. The page, the REST interface, traces
and exports all go it, for jobs of long ago as for those that run.
"""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from collections.abc import Iterator
from typing import Any

from gristmill.runtime.journal import facts as kinds
from gristmill.runtime.journal.facts import Fact, JobAccepted, JobRequested
from gristmill.runtime.journal.history import JobHistory, attempt_name
from gristmill.runtime.journal.journal import Journal
from gristmill.runtime.outcome import error_to_json

_MOST_ATTEMPTS = 300_000  # about half a kilobyte each
_MOST_JOBS = 200
_LINES_AT_ONCE = 500
_AT_ONCE = 5000  # facts are larger than what is kept of them


class _Held:
    """The history of one job, and how far the journal was read for it."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.history: JobHistory | None = None
        self.number = -1

    def add(self, numbered: list[tuple[int, Fact]]) -> None:
        for number, fact in numbered:
            self.number = number
            if self.history is not None:
                self.history.add(fact)
            elif isinstance(fact, JobAccepted | JobRequested):
                self.history = JobHistory(fact)


class Histories:
    """The histories of a journal's jobs. Any thread may call, but not an event loop: the journal is a file.

    Args:
        journal: where the facts are.
        most: about how many attempts are held, over all jobs; those of the job that was asked for last always are.

    Attributes:
        journal: likewise.
    """

    def __init__(self, journal: Journal, most: int = _MOST_ATTEMPTS) -> None:
        self.journal = journal
        self._most = most
        self._lock = threading.Lock()
        self._held: OrderedDict[str, _Held] = OrderedDict()

    def of(self, job: str) -> JobHistory | None:
        """A job as its facts tell of it, at most some milliseconds late; None if there is no such job.

        It is the same object every time as long as it is held, and grows: see ``JobHistory``.

        Raises:
            JournalFailed: the journal cannot be read.
        """
        with self._lock:
            held = self._held.setdefault(job, _Held())
            self._held.move_to_end(job)
        with held.lock:
            while some := self.journal.numbered(job, held.number, _AT_ONCE):
                held.add(some)
                if len(some) < _AT_ONCE:
                    break
        with self._lock:
            if held.history is None:
                self._held.pop(job, None)
            self._shrink()
        return held.history

    def events(self, job: str, after: int = -1, most: int | None = None) -> list[tuple[int, Fact]]:
        """The facts of a job that come after a number, with their numbers.

        Args:
            job: whose.
            after: the last number that is known; -1: from the beginning.
            most: about how many; None: all.

        Raises:
            JournalFailed: the journal cannot be read.
        """
        return self.journal.numbered(job, after, most)

    def forget(self, job: str) -> None:
        """It is remembered no more."""
        with self._lock:
            self._held.pop(job, None)

    def _shrink(self) -> None:
        attempts = sum(len(held.history.attempts) for held in self._held.values() if held.history is not None)
        while len(self._held) > 1 and (attempts > self._most or len(self._held) > _MOST_JOBS):
            _, oldest = self._held.popitem(last=False)
            attempts -= len(oldest.history.attempts) if oldest.history is not None else 0


def event_json(number: int, fact: Fact) -> dict[str, Any]:
    """A fact as others read it: in exports and in the REST interface's events. The names are kept stable.

    What opens anything (tickets, keys, signatures), and code, is not in it.

    Args:
        number: the fact's.
        fact: the fact.

    Returns:
        ``number``, ``kind``, ``job`` (empty for facts about workers), ``at`` in seconds since the epoch where that is
        known, and what else belongs to its kind.
    """
    event: dict[str, Any] = {"number": number, "kind": fact.kind, "job": fact.job}
    match fact:
        case kinds.TaskDone(_, _, _, _, _, result, span):
            at = None if span is None else span.ended
            made = {name: getattr(result, name) for name in _RESULT}
            bad = None if result.last_bad is None else result.last_bad.to_json()
            shuffle = None if result.block is None else result.block.size_bytes
            return {
                **event,
                "at": at,
                **_attempt(fact, span),
                **made,
                "shuffle_bytes": shuffle,
                "last_bad": bad,
                "counters": {group: dict(counts) for group, counts in result.counters.items()},
                "hot_keys": [list(pair) for pair in result.hot_keys],
                "files": [{"name": part.final, "rows": part.rows, "bytes": part.size_bytes} for part in result.parts],
            }
        case kinds.AttemptOver(_, _, _, _, _, how, span, report):
            error = None if report is None else report.to_json()
            return {**event, "at": span.ended, **_attempt(fact, span), "how": how, "error": error}
        case JobAccepted():
            return {**event, "at": fact.at, **_accepted(fact)}
        case kinds.JobEnded(_, at, outcome):
            error = None if outcome.error is None else error_to_json(outcome.error)
            view = outcome.view
            totals = {name: getattr(view, name) for name in _TOTALS}
            counters = {group: dict(counts) for group, counts in view.counters.items()}
            return {**event, "at": at, "state": view.state.value, **totals, "counters": counters, "error": error}
        case JobRequested():
            wanted = {name: getattr(fact, name) for name in ("name", "user", "output", "priority", "deadline_seconds")}
            return {**event, "at": fact.at, **wanted}
        case kinds.JobTakenUp(_, epoch, at, _, queued):
            return {**event, "at": at, "epoch": epoch, "queued": queued}
        case kinds.StageReplanned(_, stage, decision, parents):
            changed = {str(id): list(some) for id, some in parents}
            return {**event, "stage": stage, "notes": list(decision.notes), "parents": changed}
        case kinds.JobCommitting(_, at, parts):
            return {**event, "at": at, "files": len(parts), "bytes": sum(part.size_bytes for part in parts)}
        case kinds.WorkerJoined(_, at, worker, host, rack, cpus, memory):
            what = {"worker": worker, "host": host, "rack": rack, "cpus": cpus, "memory_bytes": memory}
            return {**event, "at": at, **what}
        case kinds.WorkerGone(_, at, worker, reason):
            return {**event, "at": at, "worker": worker, "reason": reason}
        case _:
            return {**event, "at": getattr(fact, "at", None)}


def event_lines(journal: Journal, job: str | None, after: int = -1, limit: int | None = None) -> Iterator[str]:
    """Facts as lines of JSON: of one job, or all that are remembered.

    Args:
        journal: where they are.
        job: whose; None: of all, those about workers too.
        after: what comes after this number.
        limit: so many at most.

    Raises:
        JournalFailed: the journal cannot be read.
    """
    while some := journal.numbered(job, after, _LINES_AT_ONCE)[:limit]:
        after = some[-1][0]
        yield "".join(f"{json.dumps(event_json(number, fact))}\n" for number, fact in some)
        if limit is not None:
            limit -= len(some)


_RESULT = ("seconds", "records_in", "bytes_in", "records_out", "bytes_out", "spilled_bytes", "bad_records")
_TOTALS = (
    "seconds", "attempts", "failed_attempts", "records_in", "records_out", "bytes_in", "shuffle_bytes",
    "spilled_bytes", "bad_records",
)  # fmt: skip


def _attempt(fact: kinds.TaskDone | kinds.AttemptOver, span: kinds.Span | None) -> dict[str, Any]:
    """Which attempt it was, and where and when it ran."""
    where = {} if span is None else span._asdict()
    return {
        "task": f"{fact.stage}-{fact.index}",
        "attempt": attempt_name(fact.job, fact.stage, fact.index, fact.number, fact.epoch),
        "stage": fact.stage,
        "index": fact.index,
        "try": fact.number,
        "epoch": fact.epoch,
        "worker": "" if span is None else span.slot.rpartition("-")[0],
        **where,
    }


def _accepted(fact: JobAccepted) -> dict[str, Any]:
    """What was asked for."""
    prepared = fact.prepared
    names = [str(stage.get("name", "")) for stage in prepared.get("plan", ())]
    stages = zip(names, fact.parents, strict=False)
    return {
        "name": fact.name,
        "user": fact.user,
        "output": prepared.get("output_path"),
        "priority": prepared.get("priority", 0),
        "deadline_seconds": fact.deadline_seconds,
        "queued": fact.queued,
        "session": prepared.get("spec", {}).get("session", ""),
        "stages": [{"id": id, "name": name, "parents": list(some)} for id, (name, some) in enumerate(stages)],
    }
