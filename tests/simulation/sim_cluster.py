"""A cluster in which everything breaks for a while, made from a seed; and what has to hold of it in the end."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial
from random import Random

from sim_coordinator import Coordinator, Journal
from sim_wire import Weather, some_weather
from sim_worker import Block, Offer, Work, Worker
from sim_world import World

from gristmill.errors import FailureKind
from gristmill.scheduling.events import (
    AttemptId,
    Event,
    JobCancelled,
    JobSubmitted,
    RetryPolicy,
    SpeculationPolicy,
    StageAdded,
    StageReplaced,
    TaskId,
)

CHAOS_SECONDS = 25.0
"""From then on nothing breaks any more …"""

LIMIT_SECONDS = 1500.0
"""… and by then every job must be over."""

LOSSY_EVERY = 3
"""Each seed that this divides is played over a network that loses, repeats and reorders packets."""

BREAKDOWNS = (
    *("crash", "cut", "freeze", "slot", "slot", "block", "block"),
    *("drain", "join", "coordinator", "sleep", "cancel"),
)


@dataclass(frozen=True)
class StagePlan:
    """A stage as it will run."""

    parents: tuple[int, ...]
    tasks: int
    final: bool
    seconds: float
    hosts: tuple[tuple[str, ...], ...]
    random_digest: bool  # it makes other data each time
    later: tuple[int, int] | None = None  # it awaits its plan: then it has so many tasks, and so many are put before it


@dataclass(frozen=True)
class JobPlan:
    """A job as it will run, and fail."""

    name: str
    seed: int
    stages: tuple[StagePlan, ...]
    cpus: float
    memory_bytes: int
    priority: int
    speculation: SpeculationPolicy | None
    policy: RetryPolicy
    shared: bool
    failure: float  # share of attempts that fail
    straggler: float  # share of attempts that take long

    def events(self, held: bool) -> list[Event]:
        """The job's beginning, as the scheduler is told of it."""
        out: list[Event] = [
            JobSubmitted(
                self.name,
                self.seed,
                self.policy,
                priority=self.priority,
                task_cpus=self.cpus,
                task_memory_bytes=self.memory_bytes,
                speculation=self.speculation,
                held=held,
            )
        ]
        for number in self._in_order():
            stage = self.stages[number]
            out.append(
                StageAdded(
                    self.name, number, stage.parents, stage.tasks, stage.final, stage.hosts, stage.later is not None
                )
            )
        return out

    def _in_order(self) -> list[int]:
        """The stages, parents first: what was put in between has a higher number than what reads it."""
        ordered: dict[int, None] = {}

        def put(number: int) -> None:
            for parent in self.stages[number].parents:
                if parent not in ordered:
                    put(parent)
            ordered[number] = None

        for number in range(len(self.stages)):
            put(number)
        return list(ordered)

    def awaiting(self, reported: set[int]) -> list[int]:
        """The stages whose plan can be made, when these have been whole."""
        return [n for n, stage in enumerate(self.stages) if stage.later is not None and reported >= set(stage.parents)]

    def replanned(self, number: int) -> tuple[JobPlan, list[Event]]:
        """The same job with a stage cut as it is decided, and what the scheduler is told of it."""
        stage = self.stages[number]
        assert stage.later is not None
        tasks, between = stage.later
        events: list[Event] = []
        stages = list(self.stages)
        parents = stage.parents
        if between:
            stages.append(StagePlan(parents[:1], between, False, stage.seconds, (), stage.random_digest))
            parents += (len(self.stages),)
            events.append(StageAdded(self.name, len(self.stages), stage.parents[:1], between, False))
        stages[number] = replace(stage, parents=parents, tasks=tasks, later=None)
        events.append(StageReplaced(self.name, number, parents, tasks))
        return replace(self, stages=tuple(stages)), events

    def inputs(self, task: TaskId) -> tuple[TaskId, ...]:
        """The tasks whose blocks a task reads."""
        parents = self.stages[task.stage].parents
        return tuple(TaskId(self.name, p, index) for p in parents for index in range(self.stages[p].tasks))

    def work(
        self,
        world: World,
        attempt: AttemptId,
        epoch: int,
        inputs: tuple[Block | None, ...],
        tasks: tuple[TaskId, ...],
    ) -> Work:
        """What an attempt will do."""
        stage = self.stages[attempt.stage]
        seconds = stage.seconds * world.random.uniform(0.5, 1.5)
        if world.chance(self.straggler):
            seconds *= 20
        outcome = None
        if world.chance(self.failure):
            outcome = world.random.choice((FailureKind.USER, FailureKind.DEATH, FailureKind.MEMORY))
        return Work(attempt, epoch, seconds, outcome, inputs, tasks, not stage.final, stage.random_digest, self.shared)


@dataclass
class Cluster:
    """Machines, the network between them, storage that outlives them, and the coordinator of the moment."""

    world: World
    check_every: int = 1
    weather: Weather | None = None  # of the network between workers and coordinator; None: it loses nothing
    journal: Journal = field(default_factory=Journal)
    workers: dict[str, Worker] = field(default_factory=dict)
    shared: dict[str, Block] = field(default_factory=dict)
    cut: set[str] = field(default_factory=set)  # workers whose blocks nobody can fetch now
    coordinator: Coordinator = field(init=False)
    names: int = 0
    steps: int = 0
    trace: list[str] | None = None
    to_submit: int = 0

    def __post_init__(self) -> None:
        self.coordinator = Coordinator(self.world, self, self.journal, 0, self.check_every)

    # Workers.

    def add(self, offer: Offer, blocks: dict[str, Block] | None = None) -> Worker:
        """A worker joins, perhaps with blocks that it kept."""
        self.names += 1
        worker = Worker(self.world, self.coordinator, f"w{self.names}", offer)
        worker.blocks = dict(blocks or {})
        self.workers[worker.name] = worker
        worker.join()
        return worker

    def rejoin(self, old: Worker) -> None:
        """An agent that was dropped joins anew, under another name."""
        self.world.after(self.world.random.choice((0.1, 1.0, 5.0)), lambda: self.add(old.offer))

    def living(self) -> list[Worker]:
        return [worker for worker in self.workers.values() if worker.alive]

    def is_up(self, name: str) -> bool:
        worker = self.workers.get(name)
        return worker is not None and worker.alive and name not in self.cut

    def read(self, reader: Worker, block: Block) -> Block | None:
        """What a reader finds at a block's path."""
        if block.shared:
            return self.shared.get(block.path)
        if block.worker != reader.name and not self.is_up(block.worker):
            return None
        return self.workers[block.worker].blocks.get(block.path)

    def keeper(self, coordinator: Coordinator, block: Block) -> str | None:
        """The worker that says that it keeps a block; empty for shared storage; None if nobody does."""
        if block.shared:
            return "" if block.path in self.shared else None
        for name, worker in coordinator.workers.items():
            if worker.alive and block.path in worker.blocks:
                return name
        return None

    # What breaks.

    def crash(self, worker: Worker, again_after: float | None) -> None:
        """A machine goes down. It may come back, empty."""
        worker.end()
        if again_after is not None:
            self.world.after(again_after, lambda: self.add(worker.offer))

    def cut_off(self, worker: Worker, seconds: float) -> None:
        """Nothing passes between a worker and anybody, for a while."""
        until = self.world.now + seconds
        worker.out.held_until = worker.back.held_until = until
        self.cut.add(worker.name)
        self.world.at(until, lambda: self.cut.discard(worker.name))

    def freeze(self, worker: Worker, seconds: float) -> None:
        """The agent is stopped, and goes on later. Its executors know nothing of it."""
        worker.frozen_until = worker.back.held_until = self.world.now + seconds

    def lose_block(self) -> None:
        """A block breaks on its disk. Somebody notices, or a reader will."""
        worker = self.world.random.choice(self.living() or [None])
        if worker is not None and worker.blocks:
            path = self.world.random.choice(sorted(worker.blocks))
            block = worker.blocks.pop(path)
            if self.world.chance(0.5) and worker.name in self.coordinator.workers:
                self.coordinator.receive_loss(worker, block)

    def kill_coordinator(self, seconds: float) -> None:
        """The coordinator dies; another takes its place. Agents join anew, with the blocks that they kept."""
        old = self.coordinator
        old.alive = False
        self.steps += old.steps
        self.journal.crash(self.world.now)
        self.world.after(seconds, self._restart)

    def _restart(self) -> None:
        old = self.coordinator
        self.coordinator = Coordinator(self.world, self, self.journal, old.epoch + 1, self.check_every)
        self.coordinator.trace = self.trace
        for worker in self.living():
            blocks, thawed = dict(worker.blocks), max(worker.frozen_until, worker.out.held_until)
            worker.end()
            back = self.world.now + self.world.random.choice((0.0, 0.5, 3.0))
            self.world.at(max(back, thawed), partial(self.add, worker.offer, blocks))
        self.coordinator.resume()


@dataclass
class Scenario:
    """What a seed stands for."""

    seed: int
    check_every: int = 1
    trace: list[str] | None = None

    def run(self) -> Cluster:
        """Play it.

        Raises:
            AssertionError: a promise was broken.
        """
        world = World(self.seed)
        random = world.random
        weather = some_weather(world, CHAOS_SECONDS) if self.seed % LOSSY_EVERY == 0 else None
        cluster = Cluster(world, self.check_every, weather)
        cluster.trace = cluster.coordinator.trace = self.trace
        for _ in range(random.randrange(1, 6)):
            world.after(random.choice((0.0, 0.0, 0.0, 5.0)), partial(cluster.add, an_offer(random)))
        volatile = world.chance(0.15)  # most stages make other data each time, and blocks break all the time
        cluster.to_submit = random.randrange(1, 4)
        for number in range(cluster.to_submit):
            plan = a_job(random, f"j{number}", volatile)
            world.after(random.choice((0.0, 0.1, 3.0)) * (number > 0), partial(self._submit, cluster, plan))
        for _ in range(random.choice((0, 1, 3, 8))):
            world.at(random.uniform(0.1, CHAOS_SECONDS), partial(self._break, cluster))
        for _ in range(20 * volatile):
            world.at(random.uniform(0.1, CHAOS_SECONDS / 2), cluster.lose_block)
        world.at(CHAOS_SECONDS + 15, partial(self._mend, cluster))
        while len(cluster.journal.ended) < cluster.to_submit:
            assert world.turn(), "nothing happens any more"
            assert world.now < LIMIT_SECONDS, f"jobs do not end: {sorted(cluster.coordinator.jobs)}"
        cluster.steps += cluster.coordinator.steps
        return cluster

    def _submit(self, cluster: Cluster, plan: JobPlan) -> None:
        coordinator = cluster.coordinator
        if not coordinator.alive or cluster.world.now < coordinator.frozen_until:
            cluster.world.after(1.0, partial(self._submit, cluster, plan))
            return
        coordinator.submit(plan)

    def _break(self, cluster: Cluster) -> None:
        world, coordinator = cluster.world, cluster.coordinator
        random = world.random
        living = cluster.living()
        seconds = random.choice((0.5, 3.0, 7.0, 15.0, 30.0))
        kind = random.choice(BREAKDOWNS)
        if kind in ("crash", "cut", "freeze", "slot", "drain") and not living:
            return
        match kind:
            case "crash":
                cluster.crash(random.choice(living), random.choice((None, seconds)))
            case "cut":
                cluster.cut_off(random.choice(living), seconds)
            case "freeze":
                cluster.freeze(random.choice(living), seconds)
            case "slot":
                worker = random.choice(living)
                if worker.slots:
                    worker.die(worker.slots[random.choice(sorted(worker.slots))])
            case "block":
                cluster.lose_block()
            case "drain":
                random.choice(living).drain()
            case "join":
                cluster.add(an_offer(random))
            case "coordinator":
                if coordinator.alive:
                    cluster.kill_coordinator(seconds)
            case "sleep":
                coordinator.sleep(seconds)
            case "cancel":
                if coordinator.alive and coordinator.jobs and world.chance(0.3):
                    coordinator.feed(JobCancelled(random.choice(sorted(coordinator.jobs))))

    def _mend(self, cluster: Cluster) -> None:
        """From here on all goes well, and there is a worker that any task fits."""
        cluster.add(Offer(2, 4, 4.0, None, "mended", "", 1.0))


def an_offer(random: Random) -> Offer:
    """Some machine."""
    number = random.randrange(3)
    return Offer(
        slots=random.randrange(1, 4),
        depth=random.choice((1, 1, 4, 16)),
        cpus=random.choice((None, None, 1.0, 2.0, 4.0)),
        memory_bytes=random.choice((None, None, 4, 10)),
        host=f"h{number}",
        rack=random.choice(("", f"r{number % 2}")),
        slowness=random.choice((1.0, 1.0, 1.0, 5.0)),
    )


def a_job(random: Random, name: str, volatile: bool) -> JobPlan:
    """Some job: a chain, a tree, a diamond …"""
    stages: list[StagePlan] = []
    count = random.randrange(1, 5 + volatile)
    short = random.random() < 0.3
    for number in range(count):
        parents = tuple(p for p in range(number) if random.random() < 0.4 or p == number - 1)
        tasks = random.choice((0, 1, 2, 3, 4, 6)) if not short else random.choice((1, 5, 20))
        hosts = (
            tuple((f"h{random.randrange(4)}",) for _ in range(tasks)) if not parents and random.random() < 0.3 else ()
        )
        final = number == count - 1 or (number > 0 and tasks > 0 and random.random() < (0.4 if volatile else 0.1))
        seconds = random.choice((0.001, 0.005)) if short else random.choice((0.1, 1.0, 4.0))
        stages.append(StagePlan(parents, tasks, final, seconds, hosts, random.random() < (0.6 if volatile else 0.1)))
    # A final stage makes output, which nothing reads.
    stages = [replace(s, parents=tuple(p for p in s.parents if not stages[p].final)) for s in stages]
    stages = [
        replace(s, later=(random.randrange(6), random.choice((0, 0, 2))))
        if s.parents and s.tasks and random.random() < 0.4
        else s
        for s in stages
    ]
    return JobPlan(
        name,
        random.getrandbits(16),
        tuple(stages),
        cpus=random.choice((1.0, 1.0, 1.0, 0.5, 2.0)),
        memory_bytes=random.choice((0, 0, 2, 5)),
        priority=random.choice((0, 0, 1, -1)),
        speculation=random.choice((None, SpeculationPolicy(), SpeculationPolicy(load_cap=0.5, floor_seconds=0.5))),
        policy=RetryPolicy(),
        shared=random.random() < 0.2,
        failure=random.choice((0.0, 0.0, 0.05, 0.2)),
        straggler=random.choice((0.0, 0.1)),
    )


def run_seed(seed: int, check_every: int = 1, trace: list[str] | None = None) -> Cluster:
    """Play a seed. What goes wrong names it.

    Raises:
        AssertionError: a promise was broken.
    """
    try:
        return Scenario(seed, check_every, trace).run()
    except Exception as error:
        raise AssertionError(f"seed {seed}: {error}\nreplay: python tests/simulation/replay.py {seed}") from error
