"""A worker as the coordinator's machine sees it: an agent with slots, attempts that run in them, and blocks."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from zlib import crc32

from sim_wire import AgentEnd, CoordinatorEnd, Link
from sim_world import Wire, World

from gristmill.errors import FailureKind
from gristmill.scheduling.events import (
    AttemptId,
    Event,
    Heartbeat,
    SlotJoined,
    SlotLeft,
    TaskFailed,
    TaskId,
    WorkerDraining,
    WorkerJoined,
    WorkerLost,
)

if TYPE_CHECKING:
    from sim_coordinator import Coordinator

BEAT_SECONDS = 1.0
SUSPECT_SECONDS = 5.0
LOST_SECONDS = 10.0

Provenance = dict[TaskId, int]
"""For each task that had a part in some data, the digest of what it made; MIXED if it had two parts that differ."""

MIXED = -1


def merge(into: Provenance, other: Provenance) -> None:
    """Add what other data was made from."""
    for task, digest in other.items():
        if into.setdefault(task, digest) != digest:
            into[task] = MIXED


@dataclass(frozen=True)
class Block:
    """What an attempt left behind. ``path`` is its own, as in the engine: named after attempt and epoch."""

    path: str
    worker: str
    digest: int
    made_from: Provenance
    shared: bool


@dataclass(frozen=True)
class Work:
    """An attempt as it is launched."""

    attempt: AttemptId
    epoch: int
    seconds: float
    outcome: FailureKind | None  # how it fails, if it does
    inputs: tuple[Block | None, ...]
    task_inputs: tuple[TaskId, ...]  # the tasks that made these
    has_block: bool
    random_digest: bool
    shared: bool


@dataclass
class Slot:
    """An executor. The first of its queue runs."""

    id: str
    queue: deque[Work] = field(default_factory=deque)
    began: float = 0.0
    slowness: float = 1.0


@dataclass
class Offer:
    """What a worker is."""

    slots: int
    depth: int
    cpus: float | None
    memory_bytes: int | None
    host: str
    rack: str
    slowness: float


class Worker:
    """One life of an agent, from its joining to its end."""

    def __init__(self, world: World, coordinator: Coordinator, name: str, offer: Offer) -> None:
        self.world = world
        self.coordinator = coordinator
        self.epoch = coordinator.epoch
        self.name = name
        self.offer = offer
        self.out: Wire | AgentEnd = Wire(world)  # to the coordinator …
        self.back: Wire | CoordinatorEnd = Wire(world)  # … and from it
        if coordinator.cluster.weather is not None:
            link = Link(world, coordinator.cluster.weather, coordinator.when_awake)
            self.out, self.back = link.out, link.back
        self.slots: dict[str, Slot] = {}
        self.blocks: dict[str, Block] = {}
        self.slot_count = 0
        self.alive = True
        self.draining = False
        self.frozen_until = 0.0
        self.fenced = False

    def join(self) -> None:
        offer = self.offer
        self.say(
            WorkerJoined(
                self.name, offer.host, offer.rack, offer.cpus, offer.memory_bytes, SUSPECT_SECONDS, LOST_SECONDS
            )
        )
        for _ in range(offer.slots):
            self.add_slot()
        self.beat()

    def say(self, event: Event) -> None:
        """Send an event, now or when the agent can."""
        if not self.alive:
            return
        self.out.held_until = max(self.out.held_until, self.frozen_until)
        self.out.send(lambda: self.coordinator.receive(self, event))

    def _say_beat(self, beat: Heartbeat) -> None:
        self.out.beat(lambda: self.coordinator.receive(self, beat))

    def add_slot(self) -> None:
        if self.alive and not self.fenced:
            self.slot_count += 1
            slot = Slot(f"{self.name}/{self.slot_count}", slowness=self.offer.slowness)
            self.slots[slot.id] = slot
            self.say(SlotJoined(slot.id, self.name, self.offer.depth))

    def beat(self) -> None:
        if not self.alive or self.fenced:
            return
        if self.world.now >= self.frozen_until:
            alive, progress = [], []
            for slot in self.slots.values():
                for position, work in enumerate(slot.queue):
                    alive.append(work.attempt)
                    taken = (self.world.now - slot.began) / max(1e-9, work.seconds * slot.slowness)
                    progress.append(min(1.0, taken) if position == 0 else 0.0)
            began = self.world.now if self.world.chance(0.8) else None
            self._say_beat(Heartbeat(self.name, tuple(alive), began, tuple(progress)))
        self.world.after(BEAT_SECONDS, self.beat)

    # What the coordinator asks for. Called when the message arrives.

    def launch(self, slot_id: str, work: Work) -> None:
        if not self.alive or self.fenced:
            return
        slot = self.slots.get(slot_id)
        if slot is None:
            self.say(TaskFailed(work.attempt, FailureKind.LOST, slot_leaves=True, begun=False))
            return
        slot.queue.append(work)
        if len(slot.queue) == 1:
            self._begin(slot)

    def cancel(self, attempt: AttemptId) -> None:
        for slot in list(self.slots.values()):
            for position, work in enumerate(slot.queue):
                if work.attempt == attempt:
                    if position:
                        slot.queue.remove(work)  # it never began
                    else:
                        slot.queue.popleft()
                        self.kill(slot)
                    return

    def free(self, path: str) -> None:
        self.blocks.pop(path, None)

    def fence(self) -> None:
        """The agent learns that it was dropped: it ends everything, and joins anew."""
        if self.alive and not self.fenced:
            self.fenced = True
            self.end()
            self.coordinator.cluster.rejoin(self)

    # What happens.

    def _begin(self, slot: Slot) -> None:
        slot.began = self.world.now
        work = slot.queue[0]
        self.world.after(work.seconds * slot.slowness, lambda: self._finish(slot, work))

    def _finish(self, slot: Slot, work: Work) -> None:
        if not self.alive or self.slots.get(slot.id) is not slot or not slot.queue or slot.queue[0] is not work:
            return  # it was ended meanwhile
        if work.outcome is FailureKind.DEATH:
            self.die(slot)
            return
        slot.queue.popleft()
        if work.outcome is not None:
            self.say(TaskFailed(work.attempt, work.outcome))
        else:
            self._read_and_answer(slot, work)
        if slot.queue:
            self._begin(slot)

    def _read_and_answer(self, slot: Slot, work: Work) -> None:
        made_from: Provenance = {}
        missing, unreachable = [], False
        for task, block in zip(work.task_inputs, work.inputs, strict=True):
            if block is None:
                continue  # its task made no rows
            found = self.coordinator.cluster.read(self, block)
            if found is None:
                missing.append(task)
                unreachable = unreachable or not self.coordinator.cluster.is_up(block.worker)
            else:
                merge(made_from, found.made_from)
        if missing:
            named = () if unreachable and self.world.chance(0.5) else tuple(missing)
            self.say(TaskFailed(work.attempt, FailureKind.FETCH, named))
            return
        digest = crc32(repr((work.attempt.task, sorted(made_from.items()))).encode())
        if work.random_digest:
            digest = self.world.random.getrandbits(32)
        made_from[work.attempt.task] = digest
        path = f"{work.attempt}-e{work.epoch}"
        block = Block(path, "" if work.shared else self.name, digest, made_from, work.shared)
        if work.has_block:
            (self.coordinator.cluster.shared if work.shared else self.blocks)[path] = block
        seconds = None if self.world.chance(0.2) else self.world.now - slot.began
        self.say_done(work, block, seconds)

    def say_done(self, work: Work, block: Block, seconds: float | None) -> None:
        self.out.held_until = max(self.out.held_until, self.frozen_until)
        self.out.send(lambda: self.coordinator.receive_done(self, work, block, seconds))
        if self.world.chance(0.01):  # said twice
            self.out.send(lambda: self.coordinator.receive_done(self, work, block, seconds))

    def die(self, slot: Slot) -> None:
        """The executor dies of what it runs."""
        if slot.queue:
            self.say(TaskFailed(slot.queue.popleft().attempt, FailureKind.DEATH))
        self.kill(slot)

    def kill(self, slot: Slot) -> None:
        """The executor is no more; what waited in it has not begun."""
        if self.slots.pop(slot.id, None) is None:
            return
        if self.world.chance(0.5):
            for work in slot.queue:
                self.say(TaskFailed(work.attempt, FailureKind.LOST, slot_leaves=True, begun=False))
        slot.queue.clear()
        self.say(SlotLeft(slot.id))
        self.world.after(self.world.random.choice((0.01, 0.1, 0.5)), self.add_slot)

    def drain(self) -> None:
        if self.alive and not self.draining:
            self.draining = True
            self.say(WorkerDraining(self.name))
            self.world.after(self.world.random.choice((1.0, 5.0, 20.0)), self._leave)

    def _leave(self) -> None:
        if self.alive:
            self.say(WorkerLost(self.name))
            self.end()

    def end(self) -> None:
        """The machine is gone, with its blocks."""
        self.alive = False
        if isinstance(self.out, AgentEnd):
            self.out.is_over = True
        self.slots.clear()
        self.blocks.clear()
