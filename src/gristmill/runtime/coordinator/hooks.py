"""Whom a coordinator tells of its jobs, beside those who ask."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gristmill.runtime.coordinator.jobs import PreparedJob
    from gristmill.runtime.coordinator.registry import EndedJob, RunningJob
    from gristmill.runtime.journal.facts import JobRequested
    from gristmill.runtime.outcome import Outcome


@dataclass
class Hooks:
    """Set before the coordinator starts, or soon after. None is called in its loop; what they raise is logged.

    Attributes:
        on_turn: the turn of a job has come whose code is to be loaded: with what was requested, and the blobs that came
            with it. Whoever does that calls ``Coordinator.fulfil`` or ``refuse``, now or later. Called in a thread of
            its own. If it raises, the job is refused; but ``ServerUnreachable`` leaves it to the next server.
        check: sees that a job that was read back may begin, or go on; if it raises a ``GristmillError``, the job
            fails with that.
        on_begun: a job that has waited begins.
        on_ended: a job is over, with how it ended and what is known of it.
        on_late: a job has outlived its deadline, and goes on. Once for each time that it is tried.
    """

    on_turn: Callable[[JobRequested, Mapping[str, bytes]], None] | None = None
    check: Callable[[PreparedJob], None] = lambda _prepared: None
    on_begun: Callable[[RunningJob], None] = lambda _running: None
    on_ended: Callable[[str, Outcome, EndedJob], None] = lambda _job, _outcome, _ended: None
    on_late: Callable[[str], None] = lambda _job: None
