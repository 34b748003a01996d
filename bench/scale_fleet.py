"""A job on a simulated cluster: the real scheduler, virtual time, machines that are lost, and others that are slow.

The scheduler decides as in the field: it is told of slots, ends and heartbeats, and what it launches takes as long as
it is said to. A machine that is lost says nothing more; it counts as lost after ten seconds, and another takes its
place after some minutes. A reduce task reads its blocks when it begins: one that runs then needs no block any more.
"""

from __future__ import annotations

import gc
import heapq
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from random import Random

from gristmill.scheduling.commands import Cancel, Command, EndJob, JobState, Launch, WakeAt
from gristmill.scheduling.events import (
    AttemptId,
    Event,
    Heartbeat,
    JobSubmitted,
    SlotJoined,
    SlotLeft,
    SpeculationPolicy,
    StageAdded,
    TaskFinished,
    TimePassed,
    WorkerJoined,
    WorkerLost,
)
from gristmill.scheduling.state import SchedulerState
from gristmill.scheduling.step import step

LOST_SECONDS = 10.0
DAY = 86400.0
_BEATS_A_TASK = 6  # so many heartbeats in the time of a task, but no more than one a second
_SLOT_SECONDS = 1.0  # until an executor that was ended has another in its place


@dataclass(frozen=True)
class Scene:
    """What is played.

    Attributes:
        machines: how many.
        slots: of each.
        maps: map tasks.
        map_seconds: how long one takes, in the mean; each half as long to one and a half times as long.
        reduces: reduce tasks.
        reduce_seconds: likewise.
        lost_days: a machine is lost once in so many days; 0: never.
        lost_at: one machine is lost when so much of the map tasks is done; 0: none.
        back_seconds: after so long another machine stands in its place; infinity: never.
        slow: so many of the machines …
        slow_times: … take so many times as long.
        speculation: stragglers run twice.
        shared: blocks lie on shared storage (``--shuffle-dir``), and stay when a machine is lost.
        seed: of chance.
    """

    machines: int
    slots: int
    maps: int
    map_seconds: float
    reduces: int
    reduce_seconds: float
    lost_days: float = 0.0
    lost_at: float = 0.0
    back_seconds: float = 300.0
    slow: int = 0
    slow_times: float = 5.0
    speculation: bool = True
    shared: bool = False
    seed: int = 1


@dataclass(frozen=True)
class Played:
    """How it went.

    Attributes:
        seconds: of virtual time, from the job's start to its end.
        attempts: that were launched.
        lost: machines that were.
        events: that the scheduler was told of.
        cpu_seconds: that it took for all of them.
    """

    seconds: float
    attempts: int
    lost: int
    events: int
    cpu_seconds: float


class Play:
    """One scene. Call :meth:`run`."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self._random = Random(scene.seed)
        self._state = SchedulerState()
        self._now = 0.0
        self._agenda: list[tuple[float, int, Callable[[], None]]] = []
        self._count = self._events = self._attempts = self._lost = self._joined = self._done = 0
        self._cpu = 0.0
        self._ended: JobState | None = None
        self._running: dict[str, dict[AttemptId, tuple[str, float, float]]] = {}  # worker → attempt: slot, begin, end
        self._slow: set[str] = set()

    def run(self) -> Played:
        """Play it to the end."""
        scene = self._scene
        for number in range(scene.machines):
            self._join(slow=number < scene.slow)
        speculation = SpeculationPolicy() if scene.speculation else None
        self._feed(JobSubmitted("j", scene.seed, speculation=speculation))
        self._feed(StageAdded("j", 0, (), scene.maps, False))
        self._feed(StageAdded("j", 1, (0,), scene.reduces, True))
        if scene.lost_days:
            self._next_loss()
        gc.disable()  # as the commands of Gristmill do, nearly: see processes.collect_garbage_rarely
        try:
            while self._ended is None:
                self._now, _, happen = heapq.heappop(self._agenda)
                happen()
        finally:
            gc.enable()
        assert self._ended is JobState.SUCCEEDED, self._ended
        return Played(self._now, self._attempts, self._lost, self._events, self._cpu)

    def _after(self, seconds: float, happen: Callable[[], None]) -> None:
        self._count += 1
        heapq.heappush(self._agenda, (self._now + seconds, self._count, happen))

    def _feed(self, event: Event) -> None:
        if self._ended is not None:
            return
        begun = time.thread_time()
        commands = step(self._state, event, self._now)
        self._cpu += time.thread_time() - begun
        self._events += 1
        for command in commands:
            self._obey(command)

    def _obey(self, command: Command) -> None:
        match command:
            case Launch(attempt, slot):
                self._launch(attempt, slot)
            case Cancel(attempt, slot):
                if self._running.get(slot.partition("/")[0], {}).pop(attempt, None):
                    self._after(0.0, lambda: self._feed(SlotLeft(slot)))
                    worker = slot.partition("/")[0]
                    self._after(_SLOT_SECONDS, lambda: self._slot(worker))
            case WakeAt(when):
                self._after(max(0.0, when - self._now), lambda: self._feed(TimePassed()))
            case EndJob(_, ended):
                self._ended = ended

    def _launch(self, attempt: AttemptId, slot: str) -> None:
        worker = slot.partition("/")[0]
        self._attempts += 1
        if worker not in self._running:
            return  # it is lost, and nobody knows yet
        scene = self._scene
        seconds = scene.reduce_seconds if attempt.stage else scene.map_seconds
        seconds *= 0.5 + self._random.random()
        if worker in self._slow:
            seconds *= scene.slow_times
        self._running[worker][attempt] = slot, self._now, self._now + seconds
        self._after(seconds, lambda: self._finish(worker, attempt, seconds))

    def _finish(self, worker: str, attempt: AttemptId, seconds: float) -> None:
        if self._running.get(worker, {}).pop(attempt, None) is None:
            return
        is_map = attempt.stage == 0
        self._feed(TaskFinished(attempt, is_map, (), shared=self._scene.shared, seconds=seconds))
        self._done += is_map
        if is_map and self._scene.lost_at and self._done == int(self._scene.lost_at * self._scene.maps):
            self._lose(worker)

    def _join(self, slow: bool = False) -> None:
        self._joined += 1
        name = f"w{self._joined}"
        self._running[name] = {}
        if slow:
            self._slow.add(name)
        self._feed(WorkerJoined(name))
        for _ in range(self._scene.slots):
            self._slot(name)
        self._after(self._beat_seconds * self._random.random(), lambda: self._beat(name))

    def _slot(self, worker: str) -> None:
        if worker in self._running:
            self._count += 1
            self._feed(SlotJoined(f"{worker}/{self._count}", worker))

    @property
    def _beat_seconds(self) -> float:
        return max(1.0, min(self._scene.map_seconds, self._scene.reduce_seconds) / _BEATS_A_TASK)

    def _beat(self, worker: str) -> None:
        running = self._running.get(worker)
        if running is None:
            return
        progress = tuple((self._now - begin) / (end - begin) for _, begin, end in running.values())
        self._feed(Heartbeat(worker, tuple(running), self._now, progress))
        self._after(self._beat_seconds, lambda: self._beat(worker))

    def _next_loss(self) -> None:
        rate = self._scene.machines / (self._scene.lost_days * DAY)

        def lose() -> None:
            self._lose(self._random.choice(sorted(self._running)))
            self._next_loss()

        self._after(self._random.expovariate(rate), lose)

    def _lose(self, worker: str) -> None:
        if len(self._running) < 2:
            return  # with the last one nothing would go on
        self._lost += 1
        del self._running[worker]
        self._after(LOST_SECONDS, lambda: self._feed(WorkerLost(worker)))
        if math.isfinite(self._scene.back_seconds):
            self._after(self._scene.back_seconds, self._join)


def play(scene: Scene) -> Played:
    """Play a scene."""
    return Play(scene).run()


def scenes() -> dict[str, Scene]:
    """What docs/scale.md tells of: jobs of an hour, 20 map tasks and 2 reduce tasks for each slot."""
    found = {}
    for machines in (10, 100, 1000):
        slots = machines * 16
        even = Scene(machines, 16, 20 * slots, 120.0, 2 * slots, 300.0)
        name = f"{machines:,} machines"
        found[f"{name}, all alike"] = even
        found[f"{name}, each lost once a day"] = replace(even, lost_days=1.0)
        if machines == 1000:
            found[f"{name}, each lost once a day, `--shuffle-dir`"] = replace(even, lost_days=1.0, shared=True)
            found[f"{name}, each lost once in 30 days"] = replace(even, lost_days=30.0)
        else:
            few = max(1, machines // 20)
            slow = replace(even, slow=few)
            found[f"{name}, {few} of them 5 × slower"] = slow
            found[f"{name}, {few} of them 5 × slower, `--no-speculation`"] = replace(slow, speculation=False)
    return found


def measured_scenes() -> dict[str, tuple[Scene, Scene, str]]:
    """Scenes that were also measured with real processes: an even one, another, and the section of RESULTS.md."""
    nine = Scene(9, 1, 216, 1.5, 72, 3.0, back_seconds=math.inf)
    eight = Scene(8, 1, 80, 3.0, 16, 3.0)
    return {
        "one of 9 workers is killed": (nine, replace(nine, lost_at=0.5), "kill_one"),
        "one of 8 is 5 × slower": (eight, replace(eight, slow=1), "straggler"),
        "the same, `--no-speculation`": (eight, replace(eight, slow=1, speculation=False), "straggler"),
    }
