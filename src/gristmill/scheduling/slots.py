"""Slots and the workers that have them: who is free, what is used, and what can be offered to tasks of which shape.

A free slot stands in the offer of every shape that its worker takes now. So a search for a slot never passes over one
that is no use, however many workers are full, suspect, resting or on their way out.
"""

from __future__ import annotations

from gristmill.scheduling.commands import Cancel, Command
from gristmill.scheduling.order import refresh_job, refresh_stage
from gristmill.scheduling.state import (
    COMMON_SHAPE,
    Alarm,
    Attempt,
    Job,
    Offer,
    SchedulerState,
    Shape,
    Slot,
    Stage,
    Worker,
)
from gristmill.scheduling.transitions import Cause

LEAVE_SECONDS = 10.0
"""A slot that is to leave and has not left by then counts as free: no slot is waited for without end."""

_LOG_SLACK = 64


def add_worker(state: SchedulerState, name: str) -> Worker:
    """Make a worker known. Its number is its own for good."""
    state.worker_count += 1
    worker = state.workers[name] = Worker(name, state.worker_count, heard_at=state.now)
    return worker


def add_slot(state: SchedulerState, worker: Worker, name: str, depth: int) -> None:
    """Make a slot known, and free."""
    slot = state.slots[name] = worker.slots[name] = Slot(name, worker, max(1, depth))
    if len(worker.slots) > worker.most_slots:
        worker.most_slots = len(worker.slots)
        forget_hopeless(state)
    free_slot(state, slot)


def forget_hopeless(state: SchedulerState) -> None:
    """There is more than there was: what fitted nowhere may fit now."""
    for offer in state.offers.values():
        offer.hopeless = False


def remove_slot(state: SchedulerState, slot: Slot) -> None:
    """Forget the slot. Its attempts are for the caller."""
    worker = slot.worker
    _release(slot)
    _withdraw(state, slot)
    del state.slots[slot.id]
    del worker.slots[slot.id]
    refresh_worker(state, worker)


def free_slot(state: SchedulerState, slot: Slot) -> None:
    """Offer the slot, which has no attempt, for work."""
    slot.leaves_by = None
    slot.doubtful = False
    slot.offered_at = state.now
    _release(slot)
    worker = slot.worker
    worker.free[slot.id] = slot
    for shape in worker.offered:
        _offer(state, state.offers[shape], slot)
    refresh_worker(state, worker)


def expect_leave(state: SchedulerState, slot: Slot) -> None:
    """Offer the slot, which has no attempt, no more, unless it is still there after a while.

    Until then it holds what its last attempt took of the worker: that may still be about to end.
    """
    slot.leaves_by = state.now + LEAVE_SECONDS
    state.set_timer(slot.leaves_by, Alarm.LEAVES, slot.id)


def put(state: SchedulerState, job: Job, slot: Slot, attempt: Attempt) -> None:
    """Put an attempt into a slot: a free one, or behind others of the same job."""
    worker = slot.worker
    if slot.shape is None:
        _withdraw(state, slot)
        slot.shape = job.shape
        worker.used += 1
        worker.cpus_used += job.shape.cpus
        worker.memory_used += job.shape.memory_bytes
        job.slots += 1
        unreserve(state, state.offers[job.shape])
        refresh_worker(state, worker)
    slot.attempts.append(attempt)


def take_out(state: SchedulerState, job: Job, slot: Slot, attempt: Attempt) -> None:
    """Take an attempt out of its slot. What becomes of a slot that is left without any is for the caller."""
    if slot.attempts[0] is attempt:
        slot.attempts.popleft()
        if slot.attempts:
            slot.attempts[0].began_at = state.now
    else:
        slot.attempts.remove(attempt)
    if not slot.attempts:
        job.slots -= 1
        refresh_job(state, job)


def stop(state: SchedulerState, job: Job, stage: Stage, attempt: Attempt) -> Attempt | None:
    """The attempt is over. Returns the other attempt at its task, if one goes on."""
    index = attempt.id.index
    other = stage.copies.pop(index, None)
    if other is attempt:
        other = stage.running[index]
    elif other is not None:
        stage.running[index] = other
    else:
        del stage.running[index]
    if other is not None:
        state.copies -= 1
    take_out(state, job, attempt.slot, attempt)
    return other


def give_back(state: SchedulerState, job: Job, stage: Stage, attempt: Attempt) -> None:
    """An attempt is over that did nothing wrong, and most likely never began: its task is ready again."""
    if stop(state, job, stage, attempt) is None:
        stage.requeue(attempt.id.index, Cause.RETURNED, attempt.ready_at)
        refresh_stage(state, job, stage)


def cancel(state: SchedulerState, job: Job, stage: Stage, attempt: Attempt, out: list[Command]) -> None:
    """End an attempt that is not wanted any more. What becomes of its task is for the caller."""
    slot = attempt.slot
    waits = slot.attempts[0] is not attempt
    stop(state, job, stage, attempt)
    if slot.id not in state.slots:
        return  # its worker was just lost
    out.append(Cancel(attempt.id, slot.id, recalled=waits))
    if not slot.attempts:
        expect_leave(state, slot)
    elif not waits:
        slot.doubtful = True


def refresh_worker(state: SchedulerState, worker: Worker) -> None:
    """Offer the worker's free slots for the shapes that it takes as it now stands, and for no others."""
    serving = worker.in_service and bool(worker.slots)
    if serving != worker.serving:
        worker.serving = serving
        state.serving += 1 if serving else -1
    if worker.reserved_for is not None and not serving:
        _end_reservation(state.offers[worker.reserved_for])
    for shape, offer in state.offers.items():
        takes = worker.takes(shape)
        if takes == (shape in worker.offered):
            continue
        if takes:
            worker.offered.add(shape)
            for slot in worker.free.values():
                _offer(state, offer, slot)
        else:
            worker.offered.discard(shape)
            for slot_id in worker.free:
                del offer.slots[slot_id]


def add_shape(state: SchedulerState, shape: Shape) -> None:
    """A job with this shape is there."""
    offer = state.offers.get(shape)
    if offer is None:
        offer = state.offers[shape] = Offer()
        for worker in state.workers.values():
            refresh_worker(state, worker)
    offer.jobs += 1


def drop_shape(state: SchedulerState, shape: Shape) -> None:
    """A job with this shape is over."""
    offer = state.offers[shape]
    offer.jobs -= 1
    if offer.jobs == 0:
        unreserve(state, offer)
        if shape != COMMON_SHAPE:
            del state.offers[shape]
            for worker in state.workers.values():
                worker.offered.discard(shape)


def reserve(state: SchedulerState, shape: Shape) -> None:
    """Keep a worker for tasks of this shape: it is their turn, and smaller ones would take every place first.

    The worker with the most CPUs to spare among those that could hold such a task. None if there is none.
    """
    offer = state.offers[shape]
    if offer.reserved is not None or offer.hopeless:
        return
    best: Worker | None = None
    possible = False
    for worker in state.workers.values():
        if worker.holds(shape):
            possible = True
            if worker.serving and worker.reserved_for is None and (best is None or _spare(worker) > _spare(best)):
                best = worker
    offer.hopeless = not possible
    if best is not None:
        best.reserved_for, offer.reserved = shape, best
        refresh_worker(state, best)


def unreserve(state: SchedulerState, offer: Offer) -> None:
    """End an offer's reservation, if it has one."""
    if (worker := offer.reserved) is not None:
        _end_reservation(offer)
        refresh_worker(state, worker)


def _end_reservation(offer: Offer) -> None:
    assert offer.reserved is not None
    offer.reserved.reserved_for = None
    offer.reserved = None


def _spare(worker: Worker) -> float:
    return (worker.most_slots if worker.cpus is None else worker.cpus) - worker.cpus_used


def _offer(state: SchedulerState, offer: Offer, slot: Slot) -> None:
    offer.slots[slot.id] = slot
    offer.log.append((state.tick(), slot))
    if len(offer.log) > 2 * len(offer.slots) + _LOG_SLACK:
        last = {slot.id: sequence for sequence, slot in offer.log}
        offer.log = [
            (sequence, slot) for sequence, slot in offer.log if slot.id in offer.slots and last[slot.id] == sequence
        ]


def _withdraw(state: SchedulerState, slot: Slot) -> None:
    """Take the slot out of all offers, if it is free."""
    worker = slot.worker
    if worker.free.pop(slot.id, None) is not None:
        for shape in worker.offered:
            del state.offers[shape].slots[slot.id]


def _release(slot: Slot) -> None:
    """Give back what the slot holds of its worker."""
    if slot.shape is None:
        return
    worker = slot.worker
    worker.used -= 1
    worker.cpus_used = worker.cpus_used - slot.shape.cpus if worker.used else 0.0
    worker.memory_used -= slot.shape.memory_bytes
    slot.shape = None
