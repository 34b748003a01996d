"""Jobs, tasks and attempts as the REST interface tells of them: from values to answers. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from gristmill.api.messages import JobStatus
from gristmill.errors import FailureReport, JobFailed
from gristmill.runtime.figures import fraction_done, succeeded
from gristmill.runtime.journal.history import AttemptRow as AttemptFacts
from gristmill.runtime.journal.history import JobHistory, attempt_name
from gristmill.runtime.outcome import error_from_json
from gristmill.runtime.views import JobView, RunningView, StageView

_ESTIMATE_AFTER_SECONDS = 3.0
_ESTIMATE_AFTER_FRACTION = 0.02
_RATE_AFTER_SECONDS = 0.05


def detail_of(status: JobStatus) -> dict[str, Any]:
    """A job, as ``GET /jobs/{id}`` tells of it; :class:`models.JobDetail` says what is in it."""
    view = status.view
    share = fraction(view)
    running = view.state.value == "running"
    timed = view.seconds if view.seconds > _RATE_AFTER_SECONDS else 0.0
    return {
        **status.to_json(),
        "note": view.note,
        "percent": percent(share),
        "map": phase(view, reads_shuffle=False),
        "reduce": phase(view, reads_shuffle=True),
        "records_in": view.records_in,
        "records_out": view.records_out,
        "bytes_in": view.bytes_in,
        "shuffle_bytes": view.shuffle_bytes,
        "records_per_second": round(_now(view, "records_in") / timed, 1) if timed else 0.0,
        "bytes_per_second": round(_now(view, "bytes_in") / timed, 1) if timed else 0.0,
        "seconds": round(view.seconds, 3),
        "seconds_left": seconds_left(share, view.seconds) if running else None,
        "counters": {group: dict(names) for group, names in view.counters.items()},
        "error": None if status.error is None else error_of(status.error),
    }


def fraction(view: JobView) -> float:
    """How much of a job is behind, 0 to 1: each stage with tasks counts the same."""
    if succeeded(view):
        return 1.0
    shares = [fraction_done(stage) for stage in view.stages]
    return sum(shares) / len(shares) if shares else 0.0


def percent(share: float) -> float:
    """A share as a figure of 0 to 100."""
    return round(100 * min(max(share, 0.0), 1.0), 1)


def seconds_left(share: float, seconds: float) -> float | None:
    """How long the rest will take, if it goes on as it went; None while that is a guess."""
    if share >= 1 or share < _ESTIMATE_AFTER_FRACTION or seconds < _ESTIMATE_AFTER_SECONDS:
        return None
    return round(seconds * (1 - share) / share, 1)


def phase(view: JobView, *, reads_shuffle: bool) -> dict[str, Any]:
    """The map side of a job, or its reduce side."""
    stages = [stage for stage in view.stages if stage.reads_shuffle is reads_shuffle]
    over = succeeded(view)
    weights = [max(stage.tasks, 1) for stage in stages]
    done = sum(weight * fraction_done(stage, over) for weight, stage in zip(weights, stages, strict=True))
    return {
        "tasks": sum(stage.tasks for stage in stages),
        "done": sum(stage.done for stage in stages),
        "running": sum(stage.running for stage in stages),
        "percent": percent(done / sum(weights)) if stages else percent(float(over)),
    }


def _now(view: JobView, name: str) -> int:
    """Records or bytes of the input that were read, those of attempts that run among them."""
    return sum(getattr(stage, name) for stage in view.stages if not stage.reads_shuffle)


def error_of(error: Mapping[str, Any]) -> dict[str, Any]:
    """Why a job has no output, with the user's own line first."""
    found = error_from_json(error)
    report = found.report if isinstance(found, JobFailed) else None
    return {**error, "failure": None if report is None else failure_of(report)}


def failure_of(report: FailureReport) -> dict[str, Any]:
    """Why an attempt failed."""
    return {
        "error": report.error,
        "exception": report.exception,
        "message": report.what,
        "frames": [vars(frame) for frame in reversed(report.frames)],
        "record": report.record or None,
        "details": dict(report.details),
    }


def tasks_of(
    stages: Sequence[StageView],
    history: JobHistory | None,
    running: Iterable[RunningView],
    over: bool,
    wanted: tuple[int | None, str | None] = (None, None),
) -> list[tuple[StageView, int, str]]:
    """The tasks of a job, in order: stage, index and state.

    Args:
        stages: as the job's view has them.
        history: what became of attempts; None: nothing is known of them.
        running: attempts that run now.
        over: the job has ended.
        wanted: only those of this stage, and in this state.
    """
    now = {(one.stage, one.index) for one in running}
    stage_wanted, state_wanted = wanted
    done = {stage.id: stage.done for stage in history.stages} if history is not None else {}
    found = []
    for stage in stages:
        if stage_wanted not in (None, stage.id):
            continue
        finished = done.get(stage.id, set())
        for index in range(stage.tasks):
            if (stage.id, index) in now:
                state = "running"
            elif index in finished:
                state = "done"
            elif over and history is not None and history.attempts_of(stage.id, index):
                state = "failed"
            else:
                state = "waiting"
            if state_wanted in (None, state):
                found.append((stage, index, state))
    return found


def task_row(
    stage: StageView, index: int, state: str, history: JobHistory | None, running: Iterable[RunningView]
) -> dict[str, Any]:
    """A task, with its last attempt."""
    before = history.attempts_of(stage.id, index) if history is not None else []
    now = [one for one in running if (one.stage, one.index) == (stage.id, index)]
    row: dict[str, Any] = {
        "id": f"{stage.id}-{index}",
        "stage": stage.id,
        "index": index,
        "stage_name": stage.name,
        "state": state,
        "attempts": len(before) + len(now),
    }
    counts = next((one for one in reversed(before) if one.state == "done"), before[-1] if before else None)
    if now:
        last = now[-1]
        row |= {"worker": _worker_of(last.slot), "began": last.began or None}
        row |= {"records_in": last.records_in, "bytes_in": last.bytes_in}
    elif counts is not None:
        row |= {"worker": counts.worker, "records_in": counts.records_in, "bytes_in": counts.bytes_in}
        row |= {"records_out": counts.records_out, "bytes_out": counts.bytes_out}
        if counts.span is not None:
            row |= {"began": counts.span.began, "ended": counts.span.ended}
    return row


def attempt_row(job: str, facts: AttemptFacts) -> dict[str, Any]:
    """An attempt that is over."""
    span = facts.span
    row: dict[str, Any] = {
        "name": facts.log_name(job),
        "task": f"{facts.stage}-{facts.index}",
        "number": facts.number,
        "epoch": facts.epoch,
        "state": facts.state,
        "worker": facts.worker,
        "failure": None if facts.report is None else failure_of(facts.report),
    }
    if span is not None:
        row |= {"slot": span.slot, "launched": span.launched, "began": span.began, "ended": span.ended}
        row["speculative"] = span.speculative
    figures = ("seconds", "records_in", "bytes_in", "records_out", "bytes_out", "spilled_bytes", "bad_records")
    row |= {name: getattr(facts, name) for name in figures}
    if not facts.seconds and span is not None:  # only who has finished has measured it
        row["seconds"] = round(max(0.0, span.ended - span.began), 6)
    return row


def running_row(job: str, one: RunningView, epoch: int) -> dict[str, Any]:
    """An attempt that runs now."""
    name = attempt_name(job, one.stage, one.index, one.number)
    return {
        "name": f"{name}-e{epoch}" if epoch else name,
        "task": f"{one.stage}-{one.index}",
        "number": one.number,
        "epoch": epoch,
        "state": "running",
        "speculative": one.speculative,
        "worker": _worker_of(one.slot),
        "slot": one.slot,
        "launched": one.launched or None,
        "began": one.began or None,
        "records_in": one.records_in,
        "bytes_in": one.bytes_in,
    }


def task_id(name: str) -> tuple[int, int]:
    """Stage and index of ``0-17``."""
    stage, _, index = name.partition("-")
    return int(stage), int(index)


def _worker_of(slot: str) -> str:
    return slot.rpartition("-")[0]
