"""A coordinator around the real ``step``: it feeds events, carries out commands, keeps a journal, and checks promises.

It knows nothing of the scheduler's state: what it checks is what a fleet and a user would see.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from sim_worker import LOST_SECONDS, MIXED, Block, Work, Worker, merge
from sim_world import World

from gristmill.errors import FailureKind
from gristmill.scheduling import commands, events
from gristmill.scheduling.commands import JobState
from gristmill.scheduling.events import AttemptId, TaskId
from gristmill.scheduling.invariants import check
from gristmill.scheduling.retry import attempts_allowed
from gristmill.scheduling.state import SchedulerState
from gristmill.scheduling.step import step

if TYPE_CHECKING:
    from sim_cluster import Cluster, JobPlan

GROUP_SECONDS = 0.01
"""What the journal took in during the last moments before a crash is lost."""

GRACE_SECONDS = 10.0


@dataclass
class Tally:
    """What counts for a job."""

    plan: JobPlan
    done: dict[TaskId, Block] = field(default_factory=dict)  # outputs that count
    numbers: dict[TaskId, int] = field(default_factory=dict)  # of the attempts that made them
    freed: set[TaskId] = field(default_factory=set)
    lost: set[TaskId] = field(default_factory=set)  # whose block is known to be gone
    doubted: set[TaskId] = field(default_factory=set)  # whose block somebody could not read
    reported: set[int] = field(default_factory=set)  # stages that have been whole
    live: dict[AttemptId, str] = field(default_factory=dict)  # slot of each attempt that runs, or waits there
    failures: dict[tuple[TaskId, FailureKind], int] = field(default_factory=dict)
    held: bool = False
    announced: bool = False  # the scheduler knows all stages

    def may_run(self, task: TaskId) -> bool:
        """Whether a task is not done, as far as anybody knows."""
        if task not in self.done or task in self.lost or task in self.doubted:
            return True
        return task in self.freed and self._is_wanted(task.stage)

    def _is_wanted(self, stage: int) -> bool:
        """Whether a reader of the stage is to run: what it read was freed, and has changed since further up."""
        for number, reader in enumerate(self.plan.stages):
            if stage in reader.parents:
                tasks = [TaskId(self.plan.name, number, index) for index in range(reader.tasks)]
                if any(task not in self.done for task in tasks) or self._is_wanted(number):
                    return True
        return False

    def check_output(self) -> None:
        """The job has succeeded: its output is whole, and made from one generation of everything."""
        made: dict[TaskId, int] = {}
        for number, stage in enumerate(self.plan.stages):
            for index in range(stage.tasks if stage.final else 0):
                task = TaskId(self.plan.name, number, index)
                assert task in self.done, f"{self.plan.name} succeeded without {task}"
                merge(made, self.done[task].made_from)
        mixed = [task for task, digest in made.items() if digest == MIXED]
        assert not mixed, f"{self.plan.name} succeeded, and its output mixes generations of {mixed}"


@dataclass
class Fact:
    """A task was done."""

    at: float
    task: TaskId
    number: int
    block: Block


class Journal:
    """What outlives a coordinator."""

    def __init__(self) -> None:
        self.accepted: dict[str, JobPlan] = {}
        self.facts: dict[str, list[Fact]] = {}
        self.decided: dict[str, list[tuple[float, int]]] = {}  # when it was decided how which stage is cut
        self.ended: dict[str, JobState] = {}

    def crash(self, now: float) -> None:
        for name, facts in self.facts.items():
            self.facts[name] = [fact for fact in facts if fact.at <= now - GROUP_SECONDS]
            self.decided[name] = [one for one in self.decided[name] if one[0] <= now - GROUP_SECONDS]

    def plan(self, job: str) -> JobPlan:
        """How a job is cut, as far as it was decided."""
        plan = self.accepted[job]
        for _, stage in self.decided[job]:
            plan, _ = plan.replanned(stage)
        return plan

    def done(self, job: str) -> dict[TaskId, Fact]:
        """The fold: what was done, without what was done with data that changed later."""
        plan, done, digests = self.plan(job), dict[TaskId, Fact](), dict[TaskId, int]()
        for fact in self.facts[job]:
            done[fact.task] = fact
            if digests.setdefault(fact.task, fact.block.digest) != fact.block.digest:
                digests[fact.task] = fact.block.digest
                readers = {n for n, stage in enumerate(plan.stages) if fact.task.stage in stage.parents}
                done = {task: other for task, other in done.items() if task.stage not in readers}
        return done


class Coordinator:
    """One life of a coordinator."""

    def __init__(self, world: World, cluster: Cluster, journal: Journal, epoch: int, check_every: int) -> None:
        self.world = world
        self.cluster = cluster
        self.journal = journal
        self.epoch = epoch
        self.check_every = check_every
        self.state = SchedulerState()
        self.alive = True
        self.frozen_until = 0.0
        self.workers: dict[str, Worker] = {}  # those that have joined and were not dropped
        self.dropped: set[str] = set()
        self.draining: set[str] = set()
        self.heard: dict[str, float] = {}
        self.slots: dict[str, str] = {}  # slot → worker, as far as told
        self.holding: dict[str, str] = {}  # slot → job whose shape it holds: attempts run, or were cancelled just now
        self.jobs: dict[str, Tally] = {}
        self.arrived: dict[AttemptId, tuple[Block, Worker]] = {}
        self.wake: float | None = None
        self.inbox: deque[Callable[[], None]] = deque()
        self.steps = 0
        self.trace: list[str] | None = None
        self.to_tell: deque[events.Event] = deque()  # what was decided upon commands

    # Events in.

    def receive(self, worker: Worker, event: events.Event) -> None:
        """A message arrives: when the coordinator is awake, or not at all."""
        self.when_awake(lambda: self._take(worker, event))

    def receive_done(self, worker: Worker, work: Work, block: Block, seconds: float | None) -> None:
        self.when_awake(lambda: self._take_done(worker, work, block, seconds))

    def when_awake(self, what: Callable[[], None]) -> None:
        if not self.alive:
            return
        if self.world.now >= self.frozen_until and not self.inbox:
            what()
            return
        self.inbox.append(what)
        if len(self.inbox) == 1:
            self.world.at(self.frozen_until, self._wake_up)

    def sleep(self, seconds: float) -> None:
        """Do nothing for a while: the process is stopped, or its clock jumps."""
        self.frozen_until = max(self.frozen_until, self.world.now + seconds)

    def _wake_up(self) -> None:
        if self.world.now < self.frozen_until:
            self.world.at(self.frozen_until, self._wake_up)
            return
        while self.alive and self.inbox:
            self.inbox[0]()
            self.inbox.popleft()

    def _is_refused(self, worker: Worker) -> bool:
        """The fleet refuses what comes from a worker that was dropped; the scheduler has to do so as well."""
        return worker.name in self.dropped and self.world.chance(0.7)

    def _take(self, worker: Worker, event: events.Event) -> None:
        if worker.epoch != self.epoch or self._is_refused(worker):
            return
        match event:
            case events.Heartbeat():
                self.heard[worker.name] = self.world.now
            case events.WorkerDraining():
                self.draining.add(worker.name)
            case events.WorkerJoined():
                self.workers[worker.name] = worker
                self.heard[worker.name] = self.world.now
            case events.SlotJoined() if worker.name not in self.dropped:
                self.heard[worker.name] = self.world.now
                self.slots[event.slot] = worker.name
            case events.SlotLeft():
                self._slot_gone(event.slot)
            case events.WorkerLost():
                self._worker_gone(worker.name)
            case events.TaskFailed():
                self._failed(event)
        self.feed(event)
        if self.world.chance(0.01):
            self.feed(event)  # said twice

    def _take_done(self, worker: Worker, work: Work, block: Block, seconds: float | None) -> None:
        if worker.epoch != self.epoch or self._is_refused(worker):
            return
        attempt = work.attempt
        self.arrived[attempt] = (block, worker)
        sizes = (1, 2, 3) if work.has_block else ()
        self.feed(
            events.TaskFinished(
                attempt, work.has_block, sizes, digest=block.digest, shared=work.shared, seconds=seconds
            )
        )
        assert attempt not in self.arrived, f"{attempt} was neither accepted nor discarded"

    def receive_loss(self, worker: Worker, block: Block) -> None:
        """A worker finds out that a block is gone."""
        worker.out.send(lambda: self.when_awake(lambda: self._block_lost(block)))

    def _block_lost(self, block: Block) -> None:
        for tally in self.jobs.values():
            for task in [task for task, other in tally.done.items() if other.path == block.path]:
                if task not in tally.freed:
                    tally.lost.add(task)
                self.feed(events.BlockLost(task))

    def _failed(self, event: events.TaskFailed) -> None:
        tally = self.jobs.get(event.attempt.job)
        if tally is None:
            return
        tally.doubted |= {task for task in event.lost_blocks if task in tally.done}
        slot = tally.live.pop(event.attempt, None)
        if slot is not None:
            if event.begun:
                key = (event.attempt.task, event.kind)
                tally.failures[key] = tally.failures.get(key, 0) + 1
            if event.slot_leaves or event.kind in (FailureKind.DEATH, FailureKind.MEMORY):  # what waits there is lost
                tally.live = {attempt: where for attempt, where in tally.live.items() if where != slot}

    def _slot_gone(self, slot: str) -> None:
        self.slots.pop(slot, None)
        self.holding.pop(slot, None)
        for tally in self.jobs.values():
            for attempt in [attempt for attempt, where in tally.live.items() if where == slot]:
                del tally.live[attempt]
                key = (attempt.task, FailureKind.LOST)
                tally.failures[key] = tally.failures.get(key, 0) + 1

    def _worker_gone(self, worker: str) -> None:
        self.workers.pop(worker, None)
        for slot in [slot for slot, where in self.slots.items() if where == worker]:
            self._slot_gone(slot)
        for tally in self.jobs.values():
            tally.lost |= {task for task, block in tally.done.items() if block.worker == worker and not block.shared}

    def time_passes(self, when: float) -> None:
        if self.alive and self.wake == when:
            if self.world.now < self.frozen_until or self.inbox:  # all that is queued comes first
                self.world.at(self.frozen_until, lambda: self.time_passes(when))
                return
            self.wake = None
            self.feed(events.TimePassed())

    def feed(self, event: events.Event) -> None:
        if self.trace is not None:
            self.trace.append(f"{self.world.now:9.3f} {event}")
        out = step(self.state, event, self.world.now)
        self.steps += 1
        if self.steps % self.check_every == 0:
            check(self.state)
        for command in out:
            if self.trace is not None:
                self.trace.append(f"            {command}")
            self._carry_out(command)
        while self.to_tell:
            self.feed(self.to_tell.popleft())

    # Commands out.

    def _carry_out(self, command: commands.Command) -> None:
        match command:
            case commands.Launch():
                self._launch(command)
            case commands.Cancel(attempt, slot):
                assert slot in self.slots, f"{attempt} is cancelled in a slot that is gone"
                self.jobs[attempt.job].live.pop(attempt, None)
                worker = self.workers[self.slots[slot]]
                worker.back.send(lambda: worker.cancel(attempt))
            case commands.AcceptOutput(attempt):
                self._accept(attempt)
            case commands.DiscardOutput(attempt):
                block, worker = self.arrived.pop(attempt)
                worker.back.send(lambda: worker.free(block.path))
            case commands.RevokeOutput(task):
                tally = self.jobs[task.job]
                assert task in tally.done, f"{task} is revoked, and was not done"
                self._forget(tally, task)
            case commands.FreeBlock(task):
                tally = self.jobs[task.job]
                assert task not in tally.freed and task not in tally.lost, f"the block of {task} is freed, and is gone"
                tally.freed.add(task)
                self._free(tally.done[task])
            case commands.ReportStage(name, stage):
                self._stage_is_whole(self.jobs[name], stage)
            case commands.DropWorker(name):
                self._drop(name)
            case commands.WakeAt(when):
                self.wake = when
                self.world.at(when, lambda: self.time_passes(when))
            case commands.EndJob():
                self._end(command)

    def _stage_is_whole(self, tally: Tally, stage: int) -> None:
        """It is decided how its readers are cut: noted, and never decided again."""
        assert stage not in tally.reported, f"stage {stage} of {tally.plan.name} is reported twice"
        tally.reported.add(stage)
        if tally.announced:
            self._cut_readers(tally)

    def _cut_readers(self, tally: Tally) -> None:
        while awaiting := tally.plan.awaiting(tally.reported):
            tally.plan, told = tally.plan.replanned(awaiting[0])
            self.journal.decided[tally.plan.name].append((self.world.now, awaiting[0]))
            self.to_tell += told

    def _drop(self, name: str) -> None:
        worker = self.workers[name]
        assert self.world.now >= self.heard[name] + LOST_SECONDS - 1e-6, f"{name} is dropped, and was heard just now"
        self.dropped.add(name)
        self._worker_gone(name)
        worker.back.refuse(worker.fence)

    def _launch(self, command: commands.Launch) -> None:
        attempt, slot = command.attempt, command.slot
        tally, task = self.jobs[attempt.job], attempt.task
        assert slot in self.slots, f"{attempt} is launched in {slot}, which is gone"
        worker = self.workers[self.slots[slot]]
        waiting = [a for t in self.jobs.values() for a, where in t.live.items() if where == slot]
        assert len(waiting) < worker.offer.depth, f"{slot} gets more than it takes"
        assert all(other.job == attempt.job for other in waiting)
        assert not tally.held, f"{attempt} of a job that is held"
        stage = tally.plan.stages[task.stage]
        assert stage.later is None and task.index < stage.tasks, f"{attempt} is launched, and is not of the plan"
        assert worker.name not in self.draining, f"{attempt} is launched on {worker.name}, which leaves"
        assert tally.may_run(task), f"{attempt} is launched, and the task is done"
        others = [other for other in tally.live if other.task == task]
        assert len(others) == int(command.speculative), f"{attempt} is launched beside {others}"
        if command.speculative:
            copies = sum(len(t.live) - len({a.task for a in t.live}) for t in self.jobs.values())
            policy = tally.plan.speculation
            assert policy is not None and copies < max(1, int(policy.load_cap * len(self.slots)))
        inputs: list[Block | None] = []
        tasks = tally.plan.inputs(task)
        for parent in tasks:
            assert parent in tally.done, f"{attempt} is launched, and {parent} is not done"
            assert parent not in tally.lost | tally.freed, f"{attempt} is launched, and {parent} has no block"
            inputs.append(tally.done[parent])
        tally.live[attempt] = slot
        self.holding[slot] = attempt.job
        self._check_resources(worker)
        work = tally.plan.work(self.world, attempt, self.epoch, tuple(inputs), tasks)
        worker.back.send(lambda: worker.launch(slot, work))

    def _check_resources(self, worker: Worker) -> None:
        """Each slot with a live attempt counts once."""
        used = {slot: t.plan for t in self.jobs.values() for slot in t.live.values() if self.slots.get(slot)}
        mine = [plan for slot, plan in used.items() if self.slots[slot] == worker.name]
        limit = worker.offer.slots if worker.offer.cpus is None else worker.offer.cpus
        assert sum(plan.cpus for plan in mine) <= limit + 1e-9, f"{worker.name} has not so many CPUs"
        if worker.offer.memory_bytes is not None:
            assert sum(plan.memory_bytes for plan in mine) <= worker.offer.memory_bytes

    def _accept(self, attempt: AttemptId) -> None:
        tally, task = self.jobs[attempt.job], attempt.task
        block, worker = self.arrived.pop(attempt)
        assert worker.name not in self.dropped, f"{attempt} is accepted from a worker that was dropped"
        assert attempt in tally.live, f"{attempt} is accepted, and was cancelled or lost"
        del tally.live[attempt]
        assert tally.may_run(task), f"{attempt} is accepted, and the task was done"
        self._forget(tally, task)
        tally.done[task] = block
        tally.numbers[task] = attempt.number
        self.journal.facts[attempt.job].append(Fact(self.world.now, task, attempt.number, block))

    def _forget(self, tally: Tally, task: TaskId) -> None:
        old = tally.done.pop(task, None)
        if old is not None:
            self._free(old)
        tally.lost.discard(task)
        tally.doubted.discard(task)
        tally.freed.discard(task)

    def _free(self, block: Block) -> None:
        if block.shared:
            self.cluster.shared.pop(block.path, None)
        elif worker := self.workers.get(block.worker):
            worker.back.send(lambda: worker.free(block.path))

    def _end(self, command: commands.EndJob) -> None:
        tally = self.jobs.pop(command.job)
        assert not tally.live, f"{command.job} ends, and {list(tally.live)} run"
        self.journal.ended[command.job] = command.state
        if command.state is JobState.SUCCEEDED:
            tally.check_output()
        elif command.state is JobState.FAILED:
            assert command.cause is not None
            counts = {kind: tally.failures.get((command.cause.task, kind), 0) for kind in FailureKind}
            over = [kind for kind, count in counts.items() if count >= attempts_allowed(tally.plan.policy, kind)]
            assert over, f"{command.job} failed by {command.cause}, which failed {counts}"

    # Jobs.

    def submit(self, plan: JobPlan) -> None:
        self.journal.accepted[plan.name] = plan
        self.journal.facts[plan.name] = []
        self.journal.decided[plan.name] = []
        self._begin(plan, held=False)

    def _begin(self, plan: JobPlan, held: bool) -> None:
        self.jobs[plan.name] = Tally(plan, held=held)
        tally = self.jobs[plan.name]
        for event in plan.events(held):
            self.feed(event)
        tally.announced = True
        self._cut_readers(tally)
        while self.to_tell:
            self.feed(self.to_tell.popleft())

    def resume(self) -> None:
        """Take up what an earlier coordinator left."""
        for name in self.journal.accepted:
            if name not in self.journal.ended:
                self._begin(self.journal.plan(name), held=True)
        self.world.after(GRACE_SECONDS, lambda: self.when_awake(self._release))

    def _release(self) -> None:
        for name, tally in list(self.jobs.items()):
            if not tally.held:
                continue
            for task, fact in self.journal.done(name).items():
                block, has_block = fact.block, not tally.plan.stages[task.stage].final
                keeper = self.cluster.keeper(self, block) if has_block else next(iter(self.workers), "")
                tally.done[task] = block if not keeper or block.shared else replace(block, worker=keeper)
                tally.numbers[task] = fact.number
                if keeper is None:
                    tally.lost.add(task)
                attempt = AttemptId(*task, fact.number)
                sizes = (1, 2, 3) if has_block else ()
                self.feed(
                    events.TaskRestored(attempt, keeper, has_block, sizes, digest=block.digest, shared=block.shared)
                )
            tally.held = False
            self.feed(events.JobReleased(name))
