"""What is true of every :class:`SchedulerState` between two steps. Slow, and complete: for tests and simulations."""

from __future__ import annotations

from collections import Counter

from gristmill.scheduling.slots import rank_of
from gristmill.scheduling.state import FREED, LOST, NEVER, NO_BLOCK, Job, SchedulerState, Stage
from gristmill.scheduling.transitions import TaskState


def check(state: SchedulerState) -> None:
    """Look at everything.

    Raises:
        AssertionError: something is inconsistent; the text says what.
    """
    _check_slots(state)
    for job in state.jobs.values():
        for stage in job.stages.values():
            _check_tasks(job, stage)
            _check_attempts(state, job, stage)
            _check_blocks(state, job, stage)
            _check_lineage(job, stage)
        _check_job(job)
    _check_order(state)
    _check_timers(state)


def _expect(holds: bool, text: str) -> None:
    if not holds:
        raise AssertionError(text)


def _check_slots(state: SchedulerState) -> None:
    for slot_id, slot in state.slots.items():
        _expect(slot.id == slot_id, f"slot {slot_id} is filed under another name")
        _expect(state.workers.get(slot.worker.name) is slot.worker, f"slot {slot_id} is of a worker that is not known")
        _expect(slot.worker.slots.get(slot_id) is slot, f"slot {slot_id} is not among its worker's")
        free, busy, leaving = slot_id in state.free, slot.attempt is not None, slot.leaves_by is not None
        _expect(free + busy + leaving == 1, f"slot {slot_id} is not in one state: {free=} {busy=} {leaving=}")
        if slot.attempt is not None:
            job = state.jobs.get(slot.attempt.job)
            _expect(job is not None, f"slot {slot_id} runs {slot.attempt} of a job that is over")
            assert job is not None
            running = job.stages[slot.attempt.stage].running.get(slot.attempt.index)
            _expect(running is slot, f"slot {slot_id} runs {slot.attempt}, which its stage does not know")
    _expect(state.free.keys() <= state.slots.keys(), "a slot that is gone counts as free")
    owned = sum(len(worker.slots) for worker in state.workers.values())
    _expect(owned == len(state.slots), f"workers have {owned} slots of {len(state.slots)}")


def _check_tasks(job: Job, stage: Stage) -> None:
    name = f"{job.id} stage {stage.id}"
    counts = Counter(stage.states)
    _expect(stage.counts == [counts[s] for s in TaskState], f"{name}: counts {stage.counts} of states {dict(counts)}")
    _expect(counts[TaskState.READY] == 0, f"{name}: a state is stored as READY; it must be WAITING")
    waiting = [index for index, s in enumerate(stage.states) if s == TaskState.WAITING]
    queued = sorted([*stage.requeued, *range(stage.cursor, stage.tasks)])
    _expect(queued == waiting, f"{name}: tasks {queued} are queued, {waiting} wait")
    gone = {index for index, s in enumerate(stage.states) if s == TaskState.GONE}
    _expect(stage.gone == gone, f"{name}: tasks {stage.gone} are listed as gone, {gone} are")
    for index in stage.troubles:
        over = stage.states[index] in (TaskState.DONE, TaskState.GONE)
        _expect(not over, f"{name}: task {index} is in trouble after all")
        _expect(stage.attempts[index] > 0, f"{name}: task {index} is in trouble and was never launched")


def _check_attempts(state: SchedulerState, job: Job, stage: Stage) -> None:
    name = f"{job.id} stage {stage.id}"
    running = {index for index, s in enumerate(stage.states) if s == TaskState.RUNNING}
    _expect(stage.running.keys() == running, f"{name}: tasks {set(stage.running)} have slots, {running} run")
    for index, slot in stage.running.items():
        attempt = slot.attempt
        _expect(attempt is not None and attempt.task == job.task(stage, index), f"{name}: task {index} has no attempt")
        assert attempt is not None
        _expect(state.slots.get(slot.id) is slot, f"{name}: {attempt} runs in slot {slot.id}, which is gone")
        _expect(attempt.number == stage.attempts[index], f"{name}: {attempt} is not the last attempt")


def _check_blocks(state: SchedulerState, job: Job, stage: Stage) -> None:
    name = f"{job.id} stage {stage.id}"
    workers = {worker.number for worker in state.workers.values()}
    for index, maker in enumerate(stage.makers):
        match TaskState(stage.states[index]):
            case TaskState.DONE:
                allowed = maker in workers or maker == NO_BLOCK or (maker == FREED and stage.freed)
            case TaskState.GONE:
                allowed = maker == LOST
            case _:  # it has yet to run: never done before, or only because its block was lost
                allowed = maker in (NEVER, LOST)
        _expect(allowed, f"{name}: task {index} is {stage.state_of(index).name} and its maker is {maker}")
        if maker >= 0:
            _expect(index in stage.blocks_on.get(maker, ()), f"{name}: block {index} is not listed at worker {maker}")
    living = sum(maker >= 0 for maker in stage.makers)
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
    blocked = sum(not parent.available for parent in stage.parents)
    _expect(stage.blocked == blocked, f"{name}: blocked by {blocked} parents, {stage.blocked} are counted")
    done = stage.counts[TaskState.DONE] == stage.tasks
    _expect(stage.available == (stage.reported and done), f"{name}: available is {stage.available} by mistake")
    if done and stage.tasks:
        _expect(stage.reported, f"{name}: whole, and was not reported")
    if stage.gone:
        _expect(not stage.needed, f"{name}: tasks {stage.gone} are gone and needed, and do not run again")
    if not stage.tasks and stage.open:
        _expect(stage.reported, f"{name}: has no tasks and no parent to wait for, and is not whole")


def _check_job(job: Job) -> None:
    stages = job.stages.values()
    running = sum(len(stage.running) for stage in stages)
    _expect(job.running == running, f"{job.id}: {running} attempts run, {job.running} are counted")
    bad = sum(sum(stage.bad_records.values()) for stage in stages)
    _expect(job.bad_records == bad, f"{job.id}: {bad} bad records, {job.bad_records} are counted")
    _expect(bad <= job.max_bad_records, f"{job.id}: goes on with {bad} bad records of {job.max_bad_records}")
    finals = [stage for stage in stages if stage.final]
    _expect(not finals or not all(stage.whole for stage in finals), f"{job.id}: its output is whole, and it goes on")
    ready = sorted((-s.depth, s.id) for s in stages if s.open and s.counts[TaskState.WAITING])
    _expect(job.ready_stages == ready, f"{job.id}: stages {ready} are ready, {job.ready_stages} are listed")
    _expect({s.id for s in stages if s.listed} == {s for _, s in ready}, f"{job.id}: a stage's listed is wrong")
    _expect(job.rank == (rank_of(job) if ready else None), f"{job.id}: its rank {job.rank} is not what it should be")


def _check_order(state: SchedulerState) -> None:
    ranks = sorted(job.rank for job in state.jobs.values() if job.rank is not None)
    _expect(state.ready_jobs == ranks, f"jobs are ready as {ranks}, listed as {state.ready_jobs}")
    _expect(not state.free or not ranks, f"slots {list(state.free)} are free while jobs {ranks} have ready tasks")


def _check_timers(state: SchedulerState) -> None:
    set_for = {(target, when) for when, _, target in state.timers}
    for slot in state.slots.values():
        if slot.leaves_by is not None:
            _expect((slot.id, slot.leaves_by) in set_for, f"slot {slot.id} is to leave, and no timer says by when")
    targets = {target for target, _ in set_for}
    for job in state.jobs.values():
        for stage in job.stages.values():
            for index, stored in enumerate(stage.states):
                if stored == TaskState.BACKING_OFF:
                    last = (job.id, stage.id, index, stage.attempts[index])
                    _expect(last in targets, f"{job.id} stage {stage.id}: task {index} backs off without a timer")
    earliest = state.timers[0][0] if state.timers else None
    _expect(state.wake_at == earliest, f"the earliest timer is at {earliest}, and {state.wake_at} was asked for")
