"""Alarms: what the scheduler does when a time has come, and when it wants to be woken next."""

from __future__ import annotations

import heapq

from gristmill.scheduling.breaker import probe
from gristmill.scheduling.commands import Command, WakeAt
from gristmill.scheduling.events import AttemptId
from gristmill.scheduling.launching import call_back_stalled
from gristmill.scheduling.liveness import next_look
from gristmill.scheduling.order import refresh_stage
from gristmill.scheduling.slots import free_slot
from gristmill.scheduling.state import Alarm, Job, SchedulerState, Slot, Stage, Timer, Worker
from gristmill.scheduling.transitions import Cause, TaskState


def fire_timers(state: SchedulerState, now: float, out: list[Command]) -> None:
    """Do what was to be done by now."""
    while state.timers and state.timers[0][0] <= now:
        timer = heapq.heappop(state.timers)
        match timer[2], _target(state, timer):
            case Alarm.RESTED, (Job() as job, Stage() as stage, AttemptId() as attempt):
                stage.requeue(attempt.index, Cause.RESTED, now)
                refresh_stage(state, job, stage)
            case Alarm.LEAVES, Slot() as slot:
                free_slot(state, slot)
            case Alarm.STALL, Slot() as slot:
                call_back_stalled(state, slot, now, out)
            case Alarm.PROBE, Worker() as worker:
                probe(state, worker)
            case Alarm.LOOK, Stage() as stage:
                stage.look_at = None  # whoever launches now looks for itself
            case Alarm.SPECULATE, Job() as job:
                job.speculate_at = None
                state.due.append(job.id)


def ask_to_wake(state: SchedulerState, out: list[Command]) -> None:
    """Say when the next alarm goes off, if that has changed."""
    while state.timers and _target(state, state.timers[0]) is None:
        heapq.heappop(state.timers)
    earliest = state.timers[0][0] if state.timers else None
    look = next_look(state)
    if look is not None and (earliest is None or look < earliest):
        earliest = look
    if earliest is not None and earliest != state.wake_at:
        out.append(WakeAt(earliest))
    state.wake_at = earliest


def _target(state: SchedulerState, timer: Timer) -> object | None:
    """What a timer was set for, if it still means anything."""
    when, _, alarm, target = timer
    match alarm, target:  # the commonest first: one is looked at in each step
        case Alarm.SPECULATE, str() as name:
            job = state.jobs.get(name)
            return job if job is not None and job.speculate_at == when else None
        case Alarm.STALL, str() as name:
            slot = state.slots.get(name)
            return slot if slot is not None and slot.stall_at == when else None
        case Alarm.RESTED, AttemptId() as attempt:
            job = state.jobs.get(attempt.job)
            if job is not None:
                stage = job.stages[attempt.stage]  # job ids are never used again: it is the stage it was set for
                if stage.states[attempt.index] == TaskState.BACKING_OFF:
                    return (job, stage, attempt) if stage.numbers[attempt.index] == attempt.number else None
        case Alarm.LEAVES, str() as name:
            slot = state.slots.get(name)
            return slot if slot is not None and slot.leaves_by == when else None
        case Alarm.PROBE, str() as name:
            worker = state.workers.get(name)
            return worker if worker is not None and worker.rest_until == when else None
        case Alarm.LOOK, (str() as name, int() as stage_id):
            job = state.jobs.get(name)
            found = job.stages.get(stage_id) if job is not None else None
            return found if found is not None and found.look_at == when else None
    return None
