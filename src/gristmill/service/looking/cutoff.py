"""Attempts that a restart of the server has cut off. Launches are not journalled: only their logs tell of them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace

from gristmill.errors import FailureReport
from gristmill.runtime.journal.facts import Span
from gristmill.runtime.journal.history import AttemptRow, JobHistory

CUT_OFF = "cut off"
"""Stands for the worker of those that were: where they ran is not known."""

_MESSAGE = "It was cut off when the server, or its job, was started again: how it ended was never heard."
_FRESH_SECONDS = 10.0
_REMEMBERED = 100
_LOG = r"-s(\d+)-t(\d+)-a(\d+)(?:-e(\d+))?"


def attempts_over(history: JobHistory, stage: int, index: int, logs: Iterable[str]) -> list[AttemptRow]:
    """The attempts at a task that are over: those that facts tell of, and those that were cut off and had printed.

    Where and when the latter ran is not known.

    Args:
        history: of the job.
        stage: the task's.
        index: its own.
        logs: the names of the job's logs. They are looked at only if the job was taken up.
    """
    found = history.attempts_of(stage, index)
    if not history.taken_up:
        return found
    mark = f"{history.job}-s{stage}-t{index:05d}-a"
    found += cut_off(history, (name for name in logs if name.startswith(mark)))
    return sorted(found, key=lambda row: row.epoch)


def cut_off(history: JobHistory, logs: Iterable[str]) -> Iterator[AttemptRow]:
    """The attempts that were cut off, and have logs of these names."""
    if not history.taken_up:
        return
    wanted = re.compile(re.escape(history.job) + _LOG)
    for match in filter(None, map(wanted.fullmatch, logs)):
        stage, index, number, epoch = (int(n or 0) for n in match.groups())
        known = ((row.number, row.epoch) for row in history.attempts_of(stage, index))
        if epoch < len(history.taken_up) and (number, epoch) not in known:
            report = FailureReport("ExecutorDied", _MESSAGE)
            yield AttemptRow(stage, index, number, epoch, "lost", None, report=report)


def drawn(history: JobHistory, rows: Sequence[AttemptRow]) -> list[AttemptRow]:
    """These attempts with a place in a picture: a lane each, from the first instant at which they can have begun until
    the restart.

    They began after the job had (or was taken up before), after the earlier attempts at their task, and after all that
    their stage reads was done.
    """
    done: dict[int, list[float]] = {}
    for row in history.attempts if rows else ():
        if row.state == "done" and row.span is not None:
            done.setdefault(row.stage, []).append(row.span.ended)
    found = []
    for number, row in enumerate(rows):
        ended = history.taken_up[row.epoch]
        begun = history.taken_up[row.epoch - 1] if row.epoch else history.begun_at or history.submitted_at
        parents = history.stages[row.stage].parents if row.stage < len(history.stages) else ()
        earlier = [at for parent in parents for at in done.get(parent, ())]
        earlier += [one.span.ended for one in history.attempts_of(row.stage, row.index) if one.span is not None]
        begun = max([begun, *(at for at in earlier if at <= ended)])
        begun = min(begun, ended)  # a clock that was set back
        found.append(replace(row, span=Span(f"{CUT_OFF}-{number + 1}", begun, begun, ended)))
    return found


class CutOffs:
    """Those of jobs that are looked at again and again: logs are many, and after a restart hardly any come late."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[int, float, Sequence[AttemptRow]]] = {}

    def of(self, history: JobHistory, logs: Callable[[], Iterable[str]], now: float) -> Sequence[AttemptRow]:
        """Those of a job, :func:`drawn`. Any thread may call.

        Args:
            history: of the job.
            logs: lists the names of its logs.
            now: seconds, monotonic.
        """
        known = self._known.get(history.job)
        if known is None or known[0] != len(history.taken_up) or now - known[1] > _FRESH_SECONDS:
            rows = list(cut_off(history, logs()))
            known = self._known[history.job] = len(history.taken_up), now, drawn(history, rows)
            for old in list(self._known)[:-_REMEMBERED]:
                self._known.pop(old, None)
        return known[2]
