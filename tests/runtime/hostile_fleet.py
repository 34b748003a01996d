"""A fleet for tests in which everything crosses: launches, recalls, answers, and the ends of slots and workers.

What the coordinator asks goes through a queue for each worker, and so does what the worker says. The test moves them
one at a time. Nothing is lost on the way but what a worker takes with it.
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field, replace
from random import Random
from typing import TypeVar

from gristmill.errors import FailureReport
from gristmill.runtime.contracts import (
    AttemptDone,
    AttemptFailed,
    Beat,
    BlocksGone,
    FleetEvent,
    JobAdmitted,
    JobSpec,
    Post,
    Progress,
    SlotDown,
    SlotUp,
    TaskResult,
    TaskSpec,
    WorkerDown,
    WorkerLeaving,
    WorkerUp,
)
from gristmill.scheduling.events import AttemptId
from gristmill.shuffle.contracts import BlockInfo, SegmentInfo
from gristmill.storage.contracts import PartFile

T = TypeVar("T")
LOST_SECONDS = 3.0
Order = tuple[str, TaskSpec | None] | tuple[AttemptId, bool]  # a launch in a slot (None: the session ends), or a cancel


def not_begun() -> FailureReport:
    return FailureReport("AttemptNotBegun", "It had not begun.")


@dataclass
class Worker:
    name: str
    slots: dict[str, list[TaskSpec]] = field(default_factory=dict)  # the first one runs
    orders: deque[Order] = field(default_factory=deque)  # on their way to it
    events: deque[FleetEvent] = field(default_factory=deque)  # on their way from it
    leaving: bool = False
    silent: bool = False


class Ledger:
    """What the coordinator can know of each attempt, by what it asked and was told: how attempts are to be counted."""

    def __init__(self) -> None:
        self.fates: dict[AttemptId, str] = {}
        self.forged: set[AttemptId] = set()  # whose answers no executor gives
        self._queues: dict[str, list[AttemptId]] = {}
        self._slots: dict[AttemptId, str] = {}

    def launched(self, slot: str, attempt: AttemptId) -> None:
        self.fates[attempt] = "runs"
        self._queues.setdefault(slot, []).append(attempt)
        self._slots[attempt] = slot

    def cancelled(self, attempt: AttemptId, recalled: bool) -> None:
        self._end(attempt, "recalled" if recalled else "cancelled")

    def told(self, event: FleetEvent) -> None:
        match event:
            case AttemptDone(attempt):
                self._answered(attempt, "failed" if attempt in self.forged else "done")
            case AttemptFailed(attempt, report, slot_leaves):
                known = self.fates[attempt] == "runs"
                self._answered(attempt, "not begun" if report.error == "AttemptNotBegun" else "failed")
                if slot_leaves and known:
                    for waiting in list(self._queues[self._slots[attempt]]):
                        self._end(waiting, "not begun")
            case SlotDown(slot) if slot in self._queues:
                self._slot_down(slot)
                for attempt, fate in self.fates.items():
                    if fate == "recalled" and self._slots[attempt] == slot:
                        self.fates[attempt] = "cancelled"  # too late: it had begun, or would have come back by now
            case WorkerDown(worker, _, idle):
                self.worker_down(worker, idle)

    def worker_down(self, worker: str, idle: bool = False) -> None:
        for slot in [slot for slot in self._queues if worker_of(slot) == worker]:
            self._slot_down(slot, "not begun" if idle else "lost")

    def counts(self, job: str) -> tuple[int, int]:
        """The attempts of a job, and those that failed."""
        fates = Counter(fate for attempt, fate in self.fates.items() if attempt.job == job)
        failed = fates["failed"] + fates["lost"]
        return failed + fates["done"] + fates["cancelled"] + fates["runs"], failed

    def _end(self, attempt: AttemptId, fate: str) -> None:
        self.fates[attempt] = fate
        self._queues[self._slots[attempt]].remove(attempt)

    def _answered(self, attempt: AttemptId, answer: str) -> None:
        before = self.fates[attempt]
        if before == "runs":
            self._end(attempt, answer)
        elif answer == "not begun":
            self.fates[attempt] = answer
        elif before == "recalled":
            self.fates[attempt] = "cancelled"

    def _slot_down(self, slot: str, first: str = "lost") -> None:
        for place, attempt in enumerate(self._queues.pop(slot, [])):
            self.fates[attempt] = "not begun" if place else first


def worker_of(slot: str) -> str:
    return slot.rpartition("-")[0]


class HostileFleet:
    """Implements ``Fleet``; and each of ``moves`` is something that may happen next."""

    def __init__(self, random: Random, deadly: bool) -> None:
        self.random = random
        self.ledger = Ledger()
        self.workers: dict[str, Worker] = {}
        self.begun: set[AttemptId] = set()
        self.digests: dict[str, int] = {}  # of every block ever made, by its path
        self.read: dict[AttemptId, list[str]] = {}
        self._blocks: dict[str, str] = {}  # the worker that has it
        self._recalled: set[AttemptId] = set()
        self._count = 0
        lasting = [(self.hear, 20), (self.tell, 30), (self.finish, 30), (self.die, 1)]
        ending = [(self.crash, 0.1), (self.leave, 0.1), (self.fall_silent, 0.1), (self.lose_a_block, 0.2)]
        self.moves, self.weights = zip(*(lasting + (ending if deadly else [])), strict=True)
        for _ in range(2):
            self._join()

    # What the coordinator asks for.

    def start(self, post: Post) -> None:
        self._post = post

    def add_job(self, job: JobSpec) -> None:
        self._post(JobAdmitted(job.job))

    def launch(self, slot: str, spec: TaskSpec) -> None:
        self.ledger.launched(slot, spec.attempt)
        if worker := self.workers.get(worker_of(slot)):
            worker.orders.append((slot, spec))

    def cancel(self, attempt: AttemptId, recalled: bool = False) -> None:
        worker = self.workers.get(worker_of(self.ledger._slots[attempt]))
        self.ledger.cancelled(attempt, recalled)
        if worker is not None:
            worker.orders.append((attempt, recalled))

    def free(self, block: BlockInfo) -> None:
        self._blocks.pop(block.path, None)

    def drop_job(self, job: str) -> None:
        pass

    def keep_job(self, job: str) -> None:
        self.drop_job(job)

    def drop_worker(self, worker: str) -> None:
        self.ledger.worker_down(worker)
        self.workers[worker].orders.append(("", None))
        self.workers[worker].silent = False  # until that arrives, what it says is heard late

    def drain_worker(self, worker: str) -> None:
        pass

    def close(self) -> None:
        pass

    # What may happen.

    def hear(self) -> None:
        """An order arrives at its worker."""
        worker = self._any([worker for worker in self.workers.values() if worker.orders])
        if worker is None:
            return
        match worker.orders.popleft():
            case (AttemptId() as attempt, bool(recalled)):
                self._cancel(worker, attempt, recalled)
            case (_, None):
                self._end(worker)
            case (str(slot), TaskSpec() as spec) if not worker.silent:
                if slot in worker.slots:
                    worker.slots[slot].append(spec)
                    self._begin(worker.slots[slot])
                else:
                    worker.events.append(AttemptFailed(spec.attempt, not_begun(), slot_leaves=True))

    def tell(self) -> None:
        """What a worker said arrives."""
        speaking = [worker for worker in self.workers.values() if worker.events and not worker.silent]
        if (worker := self._any(speaking)) is not None:
            self._say(worker.events.popleft())

    def finish(self) -> None:
        """An attempt comes to its end."""
        if (slot := self._any_slot()) is None or not (queue := slot[0].slots[slot[1]]):
            return
        worker, spec = slot[0], queue.pop(0)
        self._recalled.discard(spec.attempt)
        self._begin(queue)
        missing = [block.path for block in spec.blocks if block.path not in self._blocks]
        if missing:
            report = FailureReport("BlockMissing", "It is gone.", details={"block": missing[0]})
            worker.events.append(AttemptFailed(spec.attempt, report, slot_leaves=False))
        else:
            result = self._result(worker, spec)
            if self.random.random() < 0.01:
                result = self._forged(spec.attempt, result)
            worker.events.append(AttemptDone(spec.attempt, result))

    def die(self) -> None:
        """An executor dies."""
        if (slot := self._any_slot()) is not None:
            self._bury(*slot, FailureReport("ExecutorDied", "It was killed."))

    def crash(self) -> None:
        """A worker's session breaks: all that it said before may have been heard, or not."""
        if (worker := self._any(list(self.workers.values()))) is not None and not worker.silent:
            for _ in range(self.random.randint(0, len(worker.events))):
                self._say(worker.events.popleft())
            self._say(WorkerDown(worker.name, "It broke."))
            self._end(worker)

    def leave(self) -> None:
        """A worker drains, and leaves when it knows of nothing more to do; launches may be on their way to it."""
        if (worker := self._any(list(self.workers.values()))) is None or worker.silent:
            return
        if not worker.leaving:
            worker.leaving = True
            worker.events.append(WorkerLeaving(worker.name))
        while worker.events:
            self._say(worker.events.popleft())
        if not any(worker.slots.values()) and worker.name in self.workers:
            self._say(WorkerDown(worker.name, "It was told to leave.", idle=True))
            self._end(worker)

    def fall_silent(self) -> None:
        """A worker is heard no more, or not for long enough to be dropped."""
        if (worker := self._any(list(self.workers.values()))) is not None:
            worker.silent = not worker.silent

    def lose_a_block(self) -> None:
        """A worker finds out that one of its blocks is gone."""
        if (path := self._any(sorted(self._blocks))) is not None:
            if worker := self.workers.get(self._blocks.pop(path)):
                worker.events.append(BlocksGone(worker.name, (path,)))

    def beat(self) -> None:
        """All workers say that they live."""
        for worker in self.workers.values():
            running = {spec.attempt: Progress() for queue in worker.slots.values() for spec in queue}
            worker.events.append(Beat(worker.name, running))

    # How.

    def _say(self, event: FleetEvent) -> None:
        self.ledger.told(event)
        self._post(event)
        self.turn()

    def turn(self) -> None:
        """Let the coordinator handle what it was told. Set by the test."""

    def _any(self, things: list[T]) -> T | None:
        return self.random.choice(things) if things else None

    def _any_slot(self) -> tuple[Worker, str] | None:
        return self._any([(worker, slot) for worker in self.workers.values() for slot in worker.slots])

    def _join(self) -> None:
        self._count += 1
        worker = Worker(f"w#{self._count}")
        self.workers[worker.name] = worker
        worker.events.append(WorkerUp(worker.name, suspect_seconds=LOST_SECONDS / 2, lost_seconds=LOST_SECONDS))
        for _ in range(2):
            self._open_slot(worker)

    def _end(self, worker: Worker) -> None:
        """A session is over; the worker joins anew."""
        del self.workers[worker.name]
        self._blocks = {path: keeper for path, keeper in self._blocks.items() if keeper != worker.name}
        self._join()

    def _open_slot(self, worker: Worker) -> None:
        self._count += 1
        slot = f"{worker.name}-{self._count}"
        worker.slots[slot] = []
        worker.events.append(SlotUp(slot, worker.name, 8))

    def _begin(self, queue: list[TaskSpec]) -> None:
        if queue:
            self.begun.add(queue[0].attempt)

    def _cancel(self, worker: Worker, attempt: AttemptId, recalled: bool) -> None:
        for slot, queue in worker.slots.items():
            for place, spec in enumerate(queue):
                if spec.attempt != attempt:
                    continue
                if place:
                    del queue[place]
                    worker.events.append(AttemptFailed(attempt, not_begun(), slot_leaves=False))
                elif recalled:
                    self._recalled.add(attempt)  # too late: it goes on for a while
                else:
                    self._bury(worker, slot, None)
                return

    def _bury(self, worker: Worker, slot: str, report: FailureReport | None) -> None:
        """An executor is gone. Who waited in it has not begun; nobody hears of what was cancelled."""
        for place, spec in enumerate(worker.slots.pop(slot)):
            if place:
                worker.events.append(AttemptFailed(spec.attempt, not_begun(), slot_leaves=True))
            elif report is not None and spec.attempt not in self._recalled:
                worker.events.append(AttemptFailed(spec.attempt, report, slot_leaves=True))
        worker.events.append(SlotDown(slot))
        self._open_slot(worker)

    def _forged(self, attempt: AttemptId, result: TaskResult) -> TaskResult:
        """User code has spoken in the executor's name."""
        self.ledger.forged.add(attempt)
        if result.block is None:
            return replace(result, parts=(*result.parts, *result.parts))
        few = result.block.segments[: self.random.randrange(4)]
        return replace(result, block=self.random.choice([None, replace(result.block, segments=few)]))

    def _result(self, worker: Worker, spec: TaskSpec) -> TaskResult:
        attempt = spec.attempt
        if spec.blocks:
            self.read[attempt] = [block.path for block in spec.blocks]
            part = PartFile(f"attempts/{attempt}", f"part-r-{attempt.index:05d}", 1, 1)
            return TaskResult(records_out=1, parts=(part,), seconds=0.001)
        path = f"block-{attempt}"
        digest = self.digests[path] = self.random.choice([0, 0, 0, len(self.digests)])
        segments = tuple(SegmentInfo(0, 10, 1, digest) for _ in range(4))
        self._blocks[path] = worker.name
        return TaskResult(records_in=1, block=BlockInfo(path, segments, worker.name), seconds=0.001)
