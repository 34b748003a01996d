"""Attempts that a restart of the server has cut off. Launches are not journalled: only their logs tell of them."""

from __future__ import annotations

import re
from collections.abc import Iterable

from gristmill.errors import FailureReport
from gristmill.runtime.journal.history import AttemptRow, JobHistory

_MESSAGE = "It was cut off when the server, or its job, was started again: how it ended was never heard."


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
    known = {(row.number, row.epoch) for row in found}
    wanted = re.compile(rf"{re.escape(history.job)}-s{stage}-t{index:05d}-a(\d+)(?:-e(\d+))?")
    for match in filter(None, map(wanted.fullmatch, logs)):
        number, epoch = int(match[1]), int(match[2] or 0)
        if (number, epoch) not in known and epoch < len(history.taken_up):
            report = FailureReport("ExecutorDied", _MESSAGE)
            found.append(AttemptRow(stage, index, number, epoch, "lost", None, report=report))
    return sorted(found, key=lambda row: row.epoch)
