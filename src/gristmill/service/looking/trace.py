"""One job as a trace: Chrome's trace-event JSON, which Perfetto (ui.perfetto.dev) and chrome://tracing open.

A worker is a process, an executor's slot a thread, and an attempt a slice in it. The stages are slices of a process of
their own, above; under them run counters of the attempts that ran at each instant, by stage. What went wrong is marked.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from gristmill.runtime.journal.history import AttemptRow, JobHistory
from gristmill.runtime.views import RunningView
from gristmill.service.looking.cutoff import CUT_OFF

_JOB = 1  # the process that stands for the job
_COUNTED_STAGES = 20  # further ones have no counter of their own

_AT_ONCE = 500  # events

Event = dict[str, Any]


def trace_of(
    history: JobHistory,
    running: Sequence[RunningView] = (),
    now: float | None = None,
    cut_off: Sequence[AttemptRow] = (),
) -> dict[str, Any]:
    """A job as a trace, for ``json.dumps``.

    Args:
        history: of the job.
        running: what runs of it now.
        now: seconds since the epoch; None: nothing runs.
        cut_off: attempts that a restart has cut off, as they are drawn.

    Returns:
        The trace. Its times are microseconds since the job was submitted.
    """
    places = _Places(history)
    events = [
        *_job_slices(history, now),
        *(event for row in history.attempts for event in _attempt(row, history, places)),
        *(event for row in cut_off for event in _attempt(row, history, places)),
        *(_running(one, history, places, now) for one in running if now is not None),
        *_counters(history, running, now),
    ]
    events.sort(key=lambda event: event["ts"])
    about = {"job": history.job, "name": history.name, "user": history.user, "submitted_at": history.submitted_at}
    return {"displayTimeUnit": "ms", "otherData": about, "traceEvents": [*places.names(), *events]}


def trace_text(trace: dict[str, Any]) -> Iterator[str]:
    """A trace as JSON, in pieces: a long text at once would keep all other threads waiting."""
    events = trace["traceEvents"]
    head = json.dumps({name: value for name, value in trace.items() if name != "traceEvents"})
    yield f'{head[:-1]}, "traceEvents": ['
    for begin in range(0, len(events), _AT_ONCE):
        some = json.dumps(events[begin : begin + _AT_ONCE])
        yield (",\n" if begin else "") + some[1:-1]
    yield "]}\n"


class _Places:
    """The numbers of workers and slots: trace events name no others."""

    def __init__(self, history: JobHistory) -> None:
        self._history = history
        self._workers: dict[str, int] = {}
        self._slots: dict[str, int] = {}

    def of(self, slot: str) -> dict[str, int]:
        """Where a slot's events go."""
        worker = slot.rpartition("-")[0]
        pid = self._workers.setdefault(worker, _JOB + 1 + len(self._workers))
        return {"pid": pid, "tid": self._slots.setdefault(slot, 1 + len(self._slots))}

    def names(self) -> Iterator[Event]:
        """What these are called."""
        yield _meta("process_name", {"pid": _JOB}, name=f"Job {self._history.job}: {self._history.name}")
        yield _meta("process_sort_index", {"pid": _JOB}, sort_index=0)
        yield _meta("thread_name", {"pid": _JOB, "tid": 0}, name="job")
        for stage in self._history.stages:
            yield _meta("thread_name", {"pid": _JOB, "tid": stage.id + 1}, name=f"{stage.id} {stage.name}")
        for worker, pid in self._workers.items():
            name = "Cut off by a restart" if worker == CUT_OFF else f"Worker {worker}" if worker else "Executors"
            yield _meta("process_name", {"pid": pid}, name=name)
            yield _meta("process_sort_index", {"pid": pid}, sort_index=pid)
        for slot in self._slots:
            yield _meta("thread_name", self.of(slot), name=f"Slot {slot.rpartition('-')[2]}")


def _meta(kind: str, place: dict[str, int], **args: Any) -> Event:
    return {"ph": "M", "name": kind, "ts": 0, "pid": place["pid"], "tid": place.get("tid", 0), "args": args}


def _micros(history: JobHistory, at: float) -> int:
    return max(0, round((at - history.submitted_at) * 1e6))


def _slice(history: JobHistory, began: float, ended: float, **what: Any) -> Event:
    begin = _micros(history, began)
    return {"ph": "X", "ts": begin, "dur": max(1, _micros(history, ended) - begin), **what}


def _mark(history: JobHistory, at: float, name: str, **args: Any) -> Event:
    return {
        "ph": "i", "s": "p", "ts": _micros(history, at), "pid": _JOB, "tid": 0, "name": name, "cat": "job",
        "args": args,
    }  # fmt: skip


def _job_slices(history: JobHistory, now: float | None) -> Iterator[Event]:
    """The job's own life, and each stage from its first attempt to its last."""
    last = max((row.span.ended for row in history.attempts if row.span is not None), default=history.submitted_at)
    end = history.ended.at if history.ended is not None else now or last
    place = {"pid": _JOB, "tid": 0, "cat": "job"}
    if history.begun_at is None or history.begun_at > history.submitted_at:
        waited = end if history.begun_at is None else history.begun_at
        yield _slice(history, history.submitted_at, waited, name="waiting for its turn", **place)
    if history.begun_at is not None:
        state = "running" if history.ended is None else history.ended.outcome.view.state.value
        yield _slice(history, history.begun_at, end, name=history.name, args={"state": state}, **place)
    if history.committing_at is not None and history.committing_at <= end:
        yield _slice(history, history.committing_at, end, name="putting the output in place", **place)
    for at in history.taken_up:
        yield _mark(history, at, "taken up")
    if history.late_at is not None:
        yield _mark(history, history.late_at, "deadline")
    if history.cancelling_at is not None:
        yield _mark(history, history.cancelling_at, "cancelled")
    if history.ended is not None and history.ended.outcome.error is not None:
        yield _mark(history, history.ended.at, "failed", error=str(history.ended.outcome.error))
    spans: dict[int, list[float]] = {}
    for row in history.attempts:
        if row.span is not None:
            known = spans.setdefault(row.stage, [row.span.began, row.span.ended])
            known[0], known[1] = min(known[0], row.span.began), max(known[1], row.span.ended)
    for id, (began, ended) in sorted(spans.items()):
        stage = history.stages[id] if id < len(history.stages) else None
        args = {} if stage is None else {"tasks_done": len(stage.done), "parents": list(stage.parents)}
        name = f"stage {id}" if stage is None else f"{id} {stage.name}"
        yield _slice(history, began, ended, name=name, cat="stage", pid=_JOB, tid=id + 1, args=args)


def _name(stage: int, index: int, history: JobHistory) -> str:
    name = history.stages[stage].name if stage < len(history.stages) else f"stage {stage}"
    return f"{name} {index}"


def _attempt(row: AttemptRow, history: JobHistory, places: _Places) -> Iterator[Event]:
    """An attempt's slice; if it failed or was lost, with a mark at its end."""
    if (span := row.span) is None:
        return  # a journal of an earlier version does not know where and when
    args: dict[str, Any] = {
        "task": f"{row.stage}-{row.index}",
        "attempt": row.log_name(history.job),
        "state": row.state,
        "speculative": span.speculative,
        "waited_seconds": round(span.waited_seconds, 6),
    }
    if row.state == "done":
        args |= {name: getattr(row, name) for name in _MADE}
    if row.report is not None:
        args |= {"error": row.report.error, "message": row.report.what}
    place = places.of(span.slot)
    if row.worker == CUT_OFF:
        args["cut_off"] = "by a restart; when it began, and where it ran, is not known"
    category = f"attempt,{row.state}" + (",speculative" if span.speculative else "")
    colour = {"cname": _COLOURS[row.state]} if row.state in _COLOURS else {}
    name = _name(row.stage, row.index, history)
    yield _slice(history, span.began, span.ended, name=name, cat=category, args=args, **place, **colour)
    if row.state in ("failed", "lost"):
        error = "lost" if row.report is None else row.report.error
        yield {
            "ph": "i", "s": "t", "ts": _micros(history, span.ended), **place, "name": f"{row.state}: {error}",
            "cat": "failure", "args": {key: args[key] for key in ("task", "attempt")},
        }  # fmt: skip


_MADE = ("seconds", "records_in", "bytes_in", "records_out", "bytes_out", "spilled_bytes", "bad_records")
_COLOURS = {"failed": "terrible", "lost": "terrible", "cancelled": "grey", "superseded": "grey"}  # Chrome's own names


def _running(one: RunningView, history: JobHistory, places: _Places, now: float) -> Event:
    args = {"task": f"{one.stage}-{one.index}", "state": "running", "speculative": one.speculative}
    name = _name(one.stage, one.index, history)
    place = places.of(one.slot)
    return _slice(history, min(one.began, now), now, name=name, cat="attempt,running", args=args, **place)


def _counters(history: JobHistory, running: Sequence[RunningView], now: float | None) -> Iterator[Event]:
    """How many attempts ran at each instant, by stage."""
    changes: dict[int, dict[int, int]] = {}
    spans = [(row.stage, row.span.began, row.span.ended) for row in history.attempts if row.span is not None]
    spans += [(one.stage, one.began, now) for one in running if now is not None]
    for stage, began, ended in spans:
        by_time = changes.setdefault(stage, {})
        for at, change in ((_micros(history, began), 1), (_micros(history, ended), -1)):
            by_time[at] = by_time.get(at, 0) + change
    for stage in sorted(changes)[:_COUNTED_STAGES]:
        count, name = 0, f"running, stage {stage}"
        for at, change in sorted(changes[stage].items()):
            if change:
                count += change
                yield {"ph": "C", "ts": at, "pid": _JOB, "tid": 0, "name": name, "args": {"attempts": count}}
