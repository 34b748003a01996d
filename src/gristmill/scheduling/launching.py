"""Which ready task starts now: launches into free slots, and ahead of time into busy ones while tasks are short.

A slot that takes several attempts at a time gets more than one only while the stage's tasks are so short that the way
to the slot costs more than they do, and no more than :data:`AHEAD_SECONDS` of work. What waits in a slot behind an
attempt that takes longer than :data:`STALL_SECONDS` is called back, and goes to whoever is free.
"""

from __future__ import annotations

from gristmill.scheduling.breaker import try_longest_resting
from gristmill.scheduling.commands import Cancel, Command, Launch
from gristmill.scheduling.events import AttemptId, SpeculationPolicy
from gristmill.scheduling.order import fair_order, first_in_turn, rank_of, refresh_job, refresh_stage
from gristmill.scheduling.places import find_place, local_task
from gristmill.scheduling.slots import give_back, put, reserve, unreserve
from gristmill.scheduling.state import Alarm, Attempt, Job, SchedulerState, Shape, Slot, Stage
from gristmill.scheduling.transitions import Cause, TaskState

SHORT_SECONDS = 0.02
"""Tasks of a stage whose mean is below this are short."""

AHEAD_SECONDS = 0.075
"""How much work a slot may hold when tasks are short."""

STALL_SECONDS = 0.25
"""How long an attempt may run while others wait behind it in its slot."""

_SPEAKS_SECONDS = 0.02  # and it may have said all that it has to say at a time
_SAMPLES = 2  # finished attempts without which nothing is known of a stage
_LOOK_LEAST, _LOOK_MOST = 0.05, 1.0  # seconds between two looks at a job's stragglers


def launch_ready(state: SchedulerState, now: float, out: list[Command]) -> None:
    """Launch until no slot is free for a task that is ready, or those that are free wait for a better task.

    Within a job the deepest stage goes first: so later stages finish first and free what they read.
    """
    if state.resting and not state.serving and first_in_turn(state) is not None:
        try_longest_resting(state)
    if len(state.offers) > 1:
        for offer in state.offers.values():
            if offer.reserved is not None and not offer.ready:
                unreserve(state, offer)
    used: list[Slot] = []
    while (slot := _launch_one(state, now, out)) is not None:
        if slot.depth > 1:
            used.append(slot)
    for slot in used:
        send_ahead(state, slot, now, out)
    if len(state.offers) > 1 and (rank := first_in_turn(state)) is not None:
        shape = state.jobs[rank[-1]].shape
        if not state.offers[shape].slots and _is_contested(state, shape):
            reserve(state, shape)


def _is_contested(state: SchedulerState, shape: Shape) -> bool:
    """Whether smaller tasks would take what comes free, so that those of this shape would never find enough at once."""
    return any(
        offer.ready and (other.cpus < shape.cpus or other.memory_bytes < shape.memory_bytes)
        for other, offer in state.offers.items()
    )


def _launch_one(state: SchedulerState, now: float, out: list[Command]) -> Slot | None:
    for rank in fair_order(state):
        job = state.jobs[rank[-1]]
        for _, stage_id in job.ready_stages:
            stage = job.stages[stage_id]
            place = find_place(state, job, stage)
            if place is not None:
                launch(state, job, stage, place.index, place.slot, now, out)
                return place.slot
    return None


def launch(
    state: SchedulerState, job: Job, stage: Stage, index: int, slot: Slot, now: float, out: list[Command]
) -> None:
    """Start an attempt at a ready task in a slot that may take it."""
    stage.move(index, Cause.LAUNCHED)
    was_free = slot.shape is None
    ready_at = stage.ready_since(index)
    attempt = stage.running[index] = new_attempt(state, job, stage, index, slot, now, ready_at)
    refresh_stage(state, job, stage)
    if was_free:  # the job has one more
        refresh_job(state, job)
    out.append(Launch(attempt.id, slot.id, False, now - ready_at))


def new_attempt(
    state: SchedulerState, job: Job, stage: Stage, index: int, slot: Slot, now: float, ready_at: float
) -> Attempt:
    """Take a number for an attempt, and put it into its slot."""
    number = stage.numbers[index] = stage.numbers[index] + 1
    attempt = Attempt(AttemptId(job.id, stage.id, index, number), slot, now, now, state.tick(), ready_at)
    put(state, job, slot, attempt)
    if job.speculation is not None and job.speculate_at is None:
        look_later(state, job, job.speculation)
    return attempt


def look_later(state: SchedulerState, job: Job, policy: SpeculationPolicy) -> None:
    """Set the alarm for the next look at the job's stragglers."""
    job.speculate_at = state.now + min(_LOOK_MOST, max(_LOOK_LEAST, policy.floor_seconds / 4))
    state.set_timer(job.speculate_at, Alarm.SPECULATE, job.id)


def send_ahead(state: SchedulerState, slot: Slot, now: float, out: list[Command]) -> None:
    """Fill up a busy slot, if tasks are short and it is its job's turn. Free slots come first."""
    if not slot.attempts or len(slot.attempts) >= slot.depth or slot.doubtful:
        return
    first = slot.attempts[0].id
    job = state.jobs[first.job]
    offer = state.offers[job.shape]
    if offer.slots or not job.ready_stages or not slot.worker.in_service or slot.worker.probing:
        return
    if offer.ready[0] != job.rank and offer.ready[0] < rank_of(job, job.slots - 1):
        return  # when it comes free, the slot is another job's
    stage = job.stages[job.ready_stages[0][-1]]
    if stage.finished < _SAMPLES or stage.mean_seconds > SHORT_SECONDS:
        return
    if first.index in job.stages[first.stage].troubles:
        return  # it may take the process along
    share = stage.counts[TaskState.WAITING] // job.slots + 1  # near the end of a stage, something for all slots
    hold = min(slot.depth, int(AHEAD_SECONDS / max(stage.mean_seconds, 1e-6)), share)
    if len(slot.attempts) > hold // 2:
        return  # rather many at once, later
    while len(slot.attempts) < hold and (index := _next_ahead(stage, slot)) is not None:
        launch(state, job, stage, index, slot, now, out)
    if len(slot.attempts) > 1 and slot.stall_at is None:
        slot.stall_at = now + STALL_SECONDS
        state.set_timer(slot.stall_at, Alarm.STALL, slot.id)


def _next_ahead(stage: Stage, slot: Slot) -> int | None:
    """A task to wait in this slot: one that has its place here or nowhere, and never failed."""
    if not stage.counts[TaskState.WAITING]:
        return None
    if stage.requeued:
        return None  # it has waited long enough: it gets the next free slot
    if (index := local_task(stage, slot.worker)) is not None:
        return index
    return stage.next_fresh() if stage.places is None or not stage.places.waits else None


def call_back_stalled(state: SchedulerState, slot: Slot, now: float, out: list[Command]) -> None:
    """The slot's STALL timer went off: free what waits behind an attempt that has become long.

    While nothing at all is heard of a worker, it may be the way to it that takes long, and while it speaks, what it
    says next may be of this slot: nothing is known of the attempt then.
    """
    slot.stall_at = None
    if len(slot.attempts) < 2:
        return
    began_at, worker = slot.attempts[0].began_at, slot.worker
    due = began_at + STALL_SECONDS
    if worker.lost_seconds is not None and worker.heard_at <= began_at:
        due = max(due, now + STALL_SECONDS)
    elif worker.heard_at == now > began_at:
        due = max(due, now + _SPEAKS_SECONDS)
    if now < due:
        slot.stall_at = due
        state.set_timer(due, Alarm.STALL, slot.id)
        return
    job = state.jobs[slot.attempts[0].id.job]
    for attempt in list(slot.attempts)[1:]:
        stage = job.stages[attempt.id.stage]
        out.append(Cancel(attempt.id, slot.id, recalled=True))
        give_back(state, job, stage, attempt)
