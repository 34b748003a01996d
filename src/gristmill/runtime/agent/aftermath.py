"""When an executor is gone: what it leaves is cleared away, and every attempt that was in its slot is answered."""

from __future__ import annotations

from collections.abc import Iterator

from gristmill.errors import FailureReport
from gristmill.runtime.agent.slots import Run, Slot
from gristmill.runtime.contracts import AttemptFailed
from gristmill.runtime.executor.attempts import environment_of, remove_scratch
from gristmill.runtime.executor.logs import crash_frames, log_path, log_tail, name_spool, remove_spools
from gristmill.runtime.process.limits import Limits
from gristmill.runtime.process.processes import ProcessEnd
from gristmill.runtime.process.watch import Death, Ending, death_report, not_begun


def clear_away(slot: Slot) -> None:
    """Remove what an executor that is gone had for itself. What it wrote last is the log of the attempt that ran."""
    if slot.run is not None:
        remove_scratch(environment_of(slot.run.job, slot.run.spec))
        name_spool(slot.pid, slot.run.job, slot.run.spec)
    for known in slot.jobs.values():
        remove_spools(slot.pid, known.folders)


def last_answers(slot: Slot, end: ProcessEnd, oom: bool, limits: Limits, now: float) -> Iterator[AttemptFailed]:
    """What is to be said of the attempts in a slot: the one that ran is to blame, those behind it have not begun.

    Args:
        slot: its executor is gone, and was cleared away.
        end: how it went.
        oom: the kernel's out-of-memory killer has struck lately.
        limits: of an executor.
        now: the time.
    """
    for run in slot.queue:
        if run.cancelled and run is slot.run:
            continue  # nobody waits for an answer
        if run is slot.run and slot.ending is not Ending.CANCELLED:
            report = _blame(slot, run, end, oom, limits, now)
        else:
            # Also one that was recalled: it is counted until it is answered. Or it began when an attempt before it, for
            # whose sake the process was ended, was done after all.
            report = not_begun(run.spec, "waited for an executor that ended")
        yield AttemptFailed(run.spec.attempt, report, slot_leaves=True)


def _blame(slot: Slot, run: Run, end: ProcessEnd, oom: bool, limits: Limits, now: float) -> FailureReport:
    tail = log_tail(log_path(run.job, run.spec))
    death = Death(
        end=end,
        ending=slot.ending,
        oom=oom,
        seconds=now - run.started,
        peak_bytes=run.peak_bytes or end.peak_bytes,
        idle_bytes=slot.idle_bytes,
        log_tail=tail,
        frames=crash_frames(tail),
        processes=run.processes,
        max_processes=limits.processes,
        complaint=slot.complaint,
    )
    return death_report(run.job, run.spec, death)
