"""What is true of every :class:`SchedulerState` between two steps. Slow, and complete: for tests and simulations."""

from __future__ import annotations

from collections import Counter

from gristmill.scheduling.order import rank_of
from gristmill.scheduling.state import (
    COMMON_SHAPE,
    FREED,
    LOST,
    NEVER,
    NO_BLOCK,
    SHARED,
    Alarm,
    Job,
    SchedulerState,
    Slot,
    Stage,
    Worker,
)
from gristmill.scheduling.transitions import TaskState


def check(state: SchedulerState) -> None:
    """Look at everything.

    Raises:
        AssertionError: something is inconsistent; the text says what.
    """
    for slot in state.slots.values():
        _check_slot(state, slot)
    for worker in state.workers.values():
        _check_worker(state, worker)
    _check_fleet(state)
    for job in state.jobs.values():
        for stage in job.stages.values():
            _check_tasks(job, stage)
            _check_attempts(state, job, stage)
            _check_blocks(state, job, stage)
            _check_lineage(job, stage)
        _check_job(state, job)
    _check_order(state)
    _check_timers(state)


def _expect(holds: bool, text: str) -> None:
    if not holds:
        raise AssertionError(text)


# Workers and slots


def _check_slot(state: SchedulerState, slot: Slot) -> None:
    name = f"slot {slot.id}"
    _expect(state.slots.get(slot.id) is slot, f"{name} is filed under another name")
    _expect(state.workers.get(slot.worker.name) is slot.worker, f"{name} is of a worker that is not known")
    _expect(slot.worker.slots.get(slot.id) is slot, f"{name} is not among its worker's")
    free, busy, leaving = slot.id in slot.worker.free, bool(slot.attempts), slot.leaves_by is not None
    _expect(free + busy + leaving == 1, f"{name} is not in one state: {free=} {busy=} {leaving=}")
    _expect((slot.shape is None) == free, f"{name} holds {slot.shape}, {free=}")
    _expect(len(slot.attempts) <= slot.depth, f"{name} has {len(slot.attempts)} attempts, and takes {slot.depth}")
    _expect(len({attempt.id.job for attempt in slot.attempts}) <= 1, f"{name} has attempts of several jobs")
    for attempt in slot.attempts:
        _expect(attempt.slot is slot, f"{name} has {attempt.id}, which is elsewhere")
        job = state.jobs.get(attempt.id.job)
        assert job is not None, f"{name} runs {attempt.id} of a job that is over"
        stage = job.stages[attempt.id.stage]
        known = attempt in (stage.running.get(attempt.id.index), stage.copies.get(attempt.id.index))
        _expect(known, f"{name} runs {attempt.id}, which its stage does not know")
        _expect(slot.shape == job.shape, f"{name} runs {attempt.id} and holds {slot.shape}")


def _check_worker(state: SchedulerState, worker: Worker) -> None:
    name = f"worker {worker.name}"
    _expect(state.workers.get(worker.name) is worker, f"{name} is filed under another name")
    held = [slot.shape for slot in worker.slots.values() if slot.shape is not None]
    _expect(worker.used == len(held), f"{name}: {worker.used} slots are counted as used, {len(held)} are")
    cpus, memory = sum(shape.cpus for shape in held), sum(shape.memory_bytes for shape in held)
    _expect(abs(worker.cpus_used - cpus) < 1e-6, f"{name}: {worker.cpus_used} CPUs are counted, {cpus} are used")
    _expect(worker.memory_used == memory, f"{name}: {worker.memory_used} bytes are counted, {memory} are used")
    limit = worker.most_slots if worker.cpus is None else worker.cpus
    _expect(cpus <= limit + 1e-6, f"{name}: {cpus} CPUs are used of {limit}")
    if worker.memory_bytes is not None:
        _expect(memory <= worker.memory_bytes, f"{name}: {memory} bytes are used of {worker.memory_bytes}")
    takes = {shape for shape in state.offers if worker.takes(shape)}
    _expect(worker.offered == takes, f"{name} is offered for {worker.offered} and takes {takes}")
    for shape, offer in state.offers.items():
        listed = {slot_id for slot_id in worker.slots if slot_id in offer.slots}
        expected = set(worker.free) if shape in takes else set()
        _expect(listed == expected, f"{name}: slots {listed} are offered for {shape}, of {expected}")
    _expect(worker.serving == (worker.in_service and bool(worker.slots)), f"{name}: serving is {worker.serving}")
    resting = state.resting.get(worker.name) is worker
    _expect(resting == (worker.rest_until is not None), f"{name}: rests until {worker.rest_until}, {resting=}")
    _expect(not (resting and worker.probing), f"{name} rests and is being tried")
    _expect(worker.name not in state.dropped, f"{name} was dropped, and is there")


def _check_fleet(state: SchedulerState) -> None:
    owned = sum(len(worker.slots) for worker in state.workers.values())
    _expect(owned == len(state.slots), f"workers have {owned} slots of {len(state.slots)}")
    serving = sum(worker.serving for worker in state.workers.values())
    _expect(state.serving == serving, f"{serving} workers serve, {state.serving} are counted")
    _expect(state.resting.keys() <= state.workers.keys(), "a worker that is gone rests")
    hosts = Counter(w.host for w in state.workers.values() if w.host and not w.draining)
    _expect(state.hosts == dict(hosts), f"hosts are {dict(hosts)}, counted as {state.hosts}")
    for shape, offer in state.offers.items():
        _expect(offer.slots.keys() <= state.slots.keys(), f"a slot that is gone is offered for {shape}")
        logged = {slot.id for _, slot in offer.log}
        _expect(offer.slots.keys() <= logged, f"slots of {shape} are not in the log")
        jobs = sum(job.shape == shape for job in state.jobs.values())
        _expect(offer.jobs == jobs, f"{jobs} jobs are of {shape}, {offer.jobs} are counted")
        _expect(bool(jobs) or shape == COMMON_SHAPE, f"no job is of {shape}")
        if offer.reserved is not None:
            _expect(offer.reserved.reserved_for == shape, f"{offer.reserved.name} is not reserved for {shape}")
            _expect(offer.reserved.serving, f"{offer.reserved.name} is reserved and does not serve")
    reserved = [worker for worker in state.workers.values() if worker.reserved_for is not None]
    _expect(all(state.offers[w.reserved_for].reserved is w for w in reserved if w.reserved_for), "wrongly reserved")
    copies = sum(len(stage.copies) for job in state.jobs.values() for stage in job.stages.values())
    _expect(state.copies == copies, f"{copies} copies run, {state.copies} are counted")
    _expect(not state.due, "jobs are left to be looked at")


# Jobs, stages and tasks


def _check_tasks(job: Job, stage: Stage) -> None:
    name = f"{job.id} stage {stage.id}"
    counts = Counter(stage.states)
    _expect(stage.counts == [counts[s] for s in TaskState], f"{name}: counts {stage.counts} of states {dict(counts)}")
    _expect(counts[TaskState.READY] == 0, f"{name}: a state is stored as READY; it must be WAITING")
    waiting = [index for index, s in enumerate(stage.states) if s == TaskState.WAITING]
    fresh = [index for index in range(stage.cursor, stage.tasks) if stage.is_fresh(index)]
    queued = sorted([*stage.requeued, *fresh])
    _expect(queued == waiting, f"{name}: tasks {queued} are queued, {waiting} wait")
    _expect(stage.requeued_at.keys() <= set(stage.requeued), f"{name}: {stage.requeued_at} are said to wait")
    gone = {index for index, s in enumerate(stage.states) if s == TaskState.GONE}
    _expect(stage.gone == gone, f"{name}: tasks {stage.gone} are listed as gone, {gone} are")
    over = {index for index, s in enumerate(stage.states) if s in (TaskState.DONE, TaskState.GONE)}
    for index in stage.troubles:
        _expect(index not in over, f"{name}: task {index} is in trouble after all")
        _expect(stage.numbers[index] > 0, f"{name}: task {index} is in trouble and was never launched")
    _expect(not stage.stale & over, f"{name}: tasks {stage.stale & over} are done with data that has changed")


def _check_attempts(state: SchedulerState, job: Job, stage: Stage) -> None:
    name = f"{job.id} stage {stage.id}"
    running = {index for index, s in enumerate(stage.states) if s == TaskState.RUNNING}
    _expect(stage.running.keys() == running, f"{name}: tasks {set(stage.running)} have slots, {running} run")
    _expect(stage.copies.keys() <= running, f"{name}: tasks {set(stage.copies)} have copies, {running} run")
    for index, attempt in [*stage.running.items(), *stage.copies.items()]:
        _expect(attempt.id.task == job.task(stage, index), f"{name}: {attempt.id} is filed as task {index}")
        _expect(state.slots.get(attempt.slot.id) is attempt.slot, f"{name}: {attempt.id} is in a slot that is gone")
        _expect(attempt in attempt.slot.attempts, f"{name}: {attempt.id} is not in its slot")
        _expect(attempt.id.number <= stage.numbers[index], f"{name}: {attempt.id} has a number that was not given")
    for index, copy in stage.copies.items():
        _expect(copy.id.number != stage.running[index].id.number, f"{name}: task {index} has one attempt twice")


def _check_blocks(state: SchedulerState, job: Job, stage: Stage) -> None:
    name = f"{job.id} stage {stage.id}"
    workers = {worker.number for worker in state.workers.values()} | {SHARED}
    for index, maker in enumerate(stage.makers):
        match TaskState(stage.states[index]):
            case TaskState.DONE:
                allowed = maker in workers or maker == NO_BLOCK or (maker == FREED and stage.freed)
            case TaskState.GONE:
                allowed = maker == LOST
            case _:  # it has yet to run: never done before, or only because its block was lost
                allowed = maker in (NEVER, LOST)
        _expect(allowed, f"{name}: task {index} is {stage.state_of(index).name} and its maker is {maker}")
        if maker >= SHARED:
            _expect(index in stage.blocks_on.get(maker, ()), f"{name}: block {index} is not listed at worker {maker}")
    living = sum(maker >= SHARED for maker in stage.makers)
    _expect(stage.kept == living, f"{name}: {stage.kept} blocks are counted, {living} live")
    if stage.freed:
        _expect(living == 0 and stage.whole, f"{name}: freed, with {living} living blocks, whole: {stage.whole}")
        unsettled = [child.id for child in stage.children if not child.settled]
        _expect(not unsettled, f"{name}: freed, and stages {unsettled} may need it again")
    elif stage.whole and stage.children and all(child.settled for child in stage.children):
        _expect(living == 0, f"{name}: nothing can need its {living} blocks again, and they are kept")


def _check_lineage(job: Job, stage: Stage) -> None:
    name = f"{job.id} stage {stage.id}"
    for parent in stage.parents:
        _expect(job.stages.get(parent.id) is parent, f"{name}: parent {parent.id} is not of the job")
        _expect(stage in parent.children, f"{name}: not among the children of parent {parent.id}")
        _expect(parent.depth < stage.depth, f"{name}: not deeper than parent {parent.id}")
    held = job.held is not None
    blocked = sum(not parent.available for parent in stage.parents) + held + stage.awaits_plan
    _expect(stage.blocked == blocked, f"{name}: blocked by {blocked} parents, {stage.blocked} are counted")
    _expect(not stage.awaits_plan or not any(stage.numbers), f"{name}: awaits its plan, and tasks of it were launched")
    _expect(len(stage.reads) in (0, stage.tasks), f"{name}: {stage.tasks} tasks read {len(stage.reads)} ranges")
    done = stage.counts[TaskState.DONE] == stage.tasks
    _expect(stage.available == (stage.reported and done), f"{name}: available is {stage.available} by mistake")
    if stage.done and stage.tasks:
        _expect(stage.reported, f"{name}: whole, and was not reported")
    if stage.gone:
        _expect(not stage.needed, f"{name}: tasks {stage.gone} are gone and needed, and do not run again")
    if not stage.tasks and stage.open:
        _expect(stage.reported, f"{name}: has no tasks and no parent to wait for, and is not whole")


def _check_job(state: SchedulerState, job: Job) -> None:
    stages = job.stages.values()
    slots = sum(bool(slot.attempts) and slot.attempts[0].id.job == job.id for slot in state.slots.values())
    _expect(job.slots == slots, f"{job.id}: has {slots} slots, {job.slots} are counted")
    bad = sum(sum(stage.bad_records.values()) for stage in stages)
    _expect(job.bad_records == bad, f"{job.id}: {bad} bad records, {job.bad_records} are counted")
    _expect(bad <= job.max_bad_records, f"{job.id}: goes on with {bad} bad records of {job.max_bad_records}")
    finals = [stage for stage in stages if stage.final]
    over = bool(finals) and all(stage.whole for stage in finals) and not any(stage.stale for stage in stages)
    _expect(not over, f"{job.id}: its output is whole, and it goes on")
    ready = sorted((-s.depth, s.id) for s in stages if s.open and s.counts[TaskState.WAITING])
    _expect(job.ready_stages == ready, f"{job.id}: stages {ready} are ready, {job.ready_stages} are listed")
    _expect({s.id for s in stages if s.listed} == {s for _, s in ready}, f"{job.id}: a stage's listed is wrong")
    _expect(job.rank == (rank_of(job) if ready else None), f"{job.id}: its rank {job.rank} is not what it should be")


def _check_order(state: SchedulerState) -> None:
    for shape, offer in state.offers.items():
        ranks = sorted(job.rank for job in state.jobs.values() if job.rank is not None and job.shape == shape)
        _expect(offer.ready == ranks, f"jobs are ready as {ranks}, listed as {offer.ready}")
        if offer.slots:
            for rank in ranks:
                job = state.jobs[rank[-1]]
                idle = [stage for _, stage in job.ready_stages if not _may_wait(state, job, job.stages[stage])]
                _expect(not idle, f"slots {list(offer.slots)} are free while stages {idle} of {job.id} are ready")


def _may_wait(state: SchedulerState, job: Job, stage: Stage) -> bool:
    """Whether the stage's ready tasks may leave slots free for now: they wait for a better place, and not for long."""
    if stage.places is None or not stage.places.waits or stage.requeued or stage.look_at is None:
        return False
    return stage.look_at <= state.now + job.locality_seconds


def _check_timers(state: SchedulerState) -> None:
    set_for = {(alarm, target, when) for when, _, alarm, target in state.timers}
    for slot in state.slots.values():
        if slot.leaves_by is not None:
            _expect((Alarm.LEAVES, slot.id, slot.leaves_by) in set_for, f"slot {slot.id} leaves, and has no timer")
        if len(slot.attempts) > 1 and not slot.doubtful:
            _expect((Alarm.STALL, slot.id, slot.stall_at) in set_for, f"tasks wait in slot {slot.id} without a timer")
    for worker in state.workers.values():
        if worker.rest_until is not None:
            timer = (Alarm.PROBE, worker.name, worker.rest_until)
            _expect(timer in set_for, f"worker {worker.name} rests without a timer")
        if worker.lost_seconds is not None:
            entry = (worker.watch_at, worker.number, worker.name)
            _expect(entry in state.watch, f"worker {worker.name} is not watched")
    targets = {target for alarm, target, _ in set_for if alarm is Alarm.RESTED}
    for job in state.jobs.values():
        if job.slots and job.speculation is not None:
            _expect((Alarm.SPECULATE, job.id, job.speculate_at) in set_for, f"{job.id}: no look at its stragglers")
        for stage in job.stages.values():
            if stage.look_at is not None:
                _expect((Alarm.LOOK, (job.id, stage.id), stage.look_at) in set_for, f"{job.id} waits without a timer")
            for index, stored in enumerate(stage.states):
                if stored == TaskState.BACKING_OFF:
                    last = (job.id, stage.id, index, stage.numbers[index])
                    _expect(last in targets, f"{job.id} stage {stage.id}: task {index} backs off without a timer")
    times = [state.timers[0][0]] if state.timers else []
    times += [state.watch[0][0]] if state.watch else []
    earliest = min(times, default=None)
    _expect(state.wake_at == earliest, f"the earliest timer is at {earliest}, and {state.wake_at} was asked for")
