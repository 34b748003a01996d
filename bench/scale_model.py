"""What a job would take on a cluster, and what stands in its way first: arithmetic on measured costs, and nothing else.

A job is cut into ``maps`` map tasks and ``reducers`` reduce tasks, and so into ``maps × reducers`` segments. Each phase
takes as long as the resource that is busy the longest: reading, computing, writing and sending overlap. Two kinds of
limits come of it:

* A **rate** is something that works: the coordinator, the agents, the disks, the network. Its load is how long it is
  busy for each second that the processors of the executors are. Beyond 1 they wait for it.
* A **room** is something that can be full: a memory, a disk, a message. Its load is what is needed of what there is.
  Beyond 1 the job cannot run so.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

from gristmill.compute.combine import FAN_IN
from gristmill.config import GIB, MAX_SPLIT_BYTES, MIB
from gristmill.runtime.process.wire import MAX_NOTE_BYTES
from gristmill.runtime.transport.session import BATCH_BYTES
from gristmill.shuffle.request import MAX_REQUEST_PIECES
from gristmill.storage.inputs import default_reducers

MESSAGE_BYTES = (1 << 31) - 1
"""What one message of protobuf may have."""

BLOB_BYTES = 1_000_000_000
"""What one value in SQLite may have."""

GATHER_SECONDS, MUCH_SECONDS = 0.005, 0.02
"""So long a member on Ray gathers what it has to say, and when it is much; what comes within goes in one call."""

MUCH = 32
"""Events of a call that are many."""

MOST_BEATS = 100
"""A second, of all members on Ray together."""

REQUEST_BYTES = 64 * MIB
"""So much is asked for at a time, and comes in one object."""

EXECUTORS, COORDINATOR, AGENTS, DISK, NETWORK = "processors", "coordinator", "agents", "disk", "network"
COORDINATOR_MEMORY, SLOT_MEMORY, DISK_ROOM = "coordinator's memory", "memory of a slot", "room on the disks"
LAUNCH, ANSWER, JOURNAL, SPLITS = "launch message", "answer of a map task", "journal", "list of splits"


@dataclass(frozen=True)
class Costs:
    """What was measured. Seconds are those of one processor.

    Attributes:
        map_task_seconds: of an executor, for each map task beside its bytes.
        map_segment_seconds: likewise for each segment of its block.
        reduce_task_seconds: for each reduce task.
        reduce_segment_seconds: for each segment that it reads.
        merge_byte_seconds: for each byte, where many blocks or runs are first merged to few.
        segment_bytes: what a segment has beside its rows.
        coordinator_task_seconds: for each task, from its launch to its fact.
        coordinator_segment_seconds: for each segment in the answer of a map task.
        coordinator_block_seconds: for each block in a launch of a reduce task.
        coordinator_beat_seconds: for each heartbeat of an agent.
        agent_task_seconds: of an agent, for each task.
        agent_segment_seconds: for each segment in an answer.
        agent_block_seconds: for each block in a launch.
        agent_piece_seconds: for each segment that another machine asks for.
        agent_byte_seconds: for each byte of these, on any core.
        task_held_bytes: what the coordinator holds of a map task, its split included.
        segment_held_bytes: and of each segment.
        launch_block_bytes: what a block takes in a launch.
        slot_block_bytes: and where that is read, in the agent and in the executor.
        answer_segment_bytes: what a segment takes in an answer.
        journal_segment_bytes: and in the journal.
        split_blob_bytes: what a split takes in the list that the journal holds.
        ray_call_seconds: of the driver, for each call to an actor.
        ray_object_seconds: of a node, for each object that goes from one actor to another.
        ray_byte_seconds: for each byte of an object.
        start_seconds: from the start of a command to its first task, and from the last to its end.
    """

    map_task_seconds: float
    map_segment_seconds: float
    reduce_task_seconds: float
    reduce_segment_seconds: float
    merge_byte_seconds: float
    segment_bytes: float
    coordinator_task_seconds: float
    coordinator_segment_seconds: float
    coordinator_block_seconds: float
    coordinator_beat_seconds: float
    agent_task_seconds: float
    agent_segment_seconds: float
    agent_block_seconds: float
    agent_piece_seconds: float
    agent_byte_seconds: float
    task_held_bytes: float
    segment_held_bytes: float
    launch_block_bytes: float
    slot_block_bytes: float
    answer_segment_bytes: float
    journal_segment_bytes: float
    split_blob_bytes: float
    ray_call_seconds: float
    ray_object_seconds: float
    ray_byte_seconds: float
    start_seconds: float


@dataclass(frozen=True)
class Work:
    """A kind of job, as measured.

    Attributes:
        name: what it is called.
        map_byte_seconds: of an executor, for each byte of input.
        reduce_byte_seconds: for each byte that is shuffled.
        shuffle_ratio: bytes shuffled for each byte of input …
        shuffle_task_bytes: … and beside that, for each map task: what a combiner leaves of any split.
        output_ratio: bytes written for each byte of input.
        run_bytes: so much of a task's pairs is sorted at a time; what is more goes through the disk.
        tasks_a_split: stages that read each split; a sort looks at it once before.
    """

    name: str
    map_byte_seconds: float
    reduce_byte_seconds: float
    shuffle_ratio: float
    shuffle_task_bytes: float
    output_ratio: float
    run_bytes: float = 96 * MIB
    tasks_a_split: int = 1


@dataclass(frozen=True)
class Machines:
    """A cluster. What it is like is assumed, not measured.

    Attributes:
        count: how many machines have executors; the coordinator has one more.
        cores: of each, one executor for each.
        memory_bytes: of each.
        disk_bytes: of each, for blocks.
        disk_speed: bytes a second, read and written together.
        network_speed: bytes a second, each way.
        ray: the agents are actors of a Ray: messages are calls, and what one machine has for another is an object.
        speed: of a processor, measured in those that the costs were measured on.
        remote_input: the input comes over the network, and the output goes there.
        coordinator_bytes: memory of the coordinator's machine.
    """

    count: int
    cores: int = 16
    memory_bytes: float = 64 * GIB
    disk_bytes: float = 4e12
    disk_speed: float = 1e9
    network_speed: float = 1.25e9
    ray: bool = True
    speed: float = 1.0
    remote_input: bool = True
    coordinator_bytes: float = 64 * GIB

    @property
    def slots(self) -> int:
        """How many tasks run at a time."""
        return self.count * self.cores


@dataclass(frozen=True)
class Cut:
    """How a job is cut into tasks."""

    split_bytes: float
    reducers: int


@dataclass(frozen=True)
class Room:
    """Something that can be full."""

    needed: float
    there_is: float

    @property
    def load(self) -> float:
        """How full it is; beyond 1 is too much."""
        return self.needed / self.there_is


@dataclass(frozen=True)
class Forecast:
    """What a job would take.

    Attributes:
        cut: how it was cut.
        maps: how many map tasks it has.
        segments: how many segments its blocks have.
        shuffled_bytes: what they have, in all.
        map_seconds: how long each resource is busy in the map phase.
        reduce_seconds: likewise in the reduce phase.
        rooms: what can be full.
        start_seconds: beside the phases.
        task_seconds: how long the longer of a map task and a reduce task is.
    """

    cut: Cut
    maps: int
    segments: int
    shuffled_bytes: float
    map_seconds: dict[str, float]
    reduce_seconds: dict[str, float]
    rooms: dict[str, Room]
    start_seconds: float
    task_seconds: float

    @property
    def seconds(self) -> float:
        """From its start to its end."""
        return self.start_seconds + max(self.map_seconds.values()) + max(self.reduce_seconds.values())

    @property
    def fits(self) -> bool:
        """Whether nothing is too full."""
        return self.fullest <= 1

    @property
    def fullest(self) -> float:
        """The load of what is fullest."""
        return max(room.load for room in self.rooms.values())

    @property
    def loads(self) -> dict[str, float]:
        """The load of every resource but the executors' processors."""
        worked = self.map_seconds[EXECUTORS] + self.reduce_seconds[EXECUTORS]
        rates = {
            name: (self.map_seconds[name] + self.reduce_seconds[name]) / worked
            for name in self.map_seconds
            if name != EXECUTORS
        }
        return {**rates, **{name: room.load for name, room in self.rooms.items()}}

    @property
    def first_limit(self) -> str:
        """What has the highest load: what one would meet first if all grew together."""
        loads = self.loads
        return max(loads, key=lambda name: loads[name])

    @property
    def held_up_by(self) -> str:
        """What the longer of the phases waits for."""
        longer = max(self.map_seconds, self.reduce_seconds, key=lambda phase: max(phase.values()))
        return max(longer, key=lambda name: longer[name])


def passes(count: int) -> int:
    """How often sorted runs or blocks are merged into files before the last merge reads them."""
    found = 0
    while count > FAN_IN:
        count, found = ceil(count / FAN_IN), found + 1
    return found


def default_cut(input_bytes: float) -> Cut:
    """How a large job is cut if its user says nothing."""
    return Cut(min(MAX_SPLIT_BYTES, max(MIB, ceil(input_bytes / 32))), default_reducers(int(input_bytes)))


def forecast(costs: Costs, work: Work, machines: Machines, cut: Cut, input_bytes: float) -> Forecast:
    """What a job would take on a cluster."""
    maps = max(1, ceil(input_bytes / cut.split_bytes))
    reducers, count = cut.reducers, machines.count
    segments = maps * reducers
    rows_bytes = input_bytes * work.shuffle_ratio + maps * work.shuffle_task_bytes
    shuffled = rows_bytes + segments * costs.segment_bytes
    away = (count - 1) / count  # of what a reduce task reads, so much lies elsewhere
    far = shuffled * away

    runs = max(1, ceil(rows_bytes / maps / work.run_bytes))
    spills = 1 + passes(runs) if runs > 1 else 0
    merges = passes(maps)

    run_segments = runs * reducers if runs > 1 else 0
    map_task = (
        input_bytes / maps * work.map_byte_seconds
        + work.tasks_a_split * costs.map_task_seconds
        + reducers * costs.map_segment_seconds
        + run_segments * (costs.map_segment_seconds + costs.reduce_segment_seconds)
        + spills * rows_bytes / maps * costs.merge_byte_seconds
    )
    reduce_task = (
        rows_bytes / reducers * (work.reduce_byte_seconds + merges * costs.merge_byte_seconds)
        + costs.reduce_task_seconds
        + maps * costs.reduce_segment_seconds
    )
    tasks = maps * work.tasks_a_split
    map_phase = {
        EXECUTORS: _waves(maps, machines) * map_task,
        COORDINATOR: tasks * costs.coordinator_task_seconds + segments * costs.coordinator_segment_seconds,
        AGENTS: (tasks * costs.agent_task_seconds + segments * costs.agent_segment_seconds) / count,
        DISK: (shuffled + 2 * spills * rows_bytes + (0 if machines.remote_input else input_bytes))
        / count
        / machines.disk_speed,
        NETWORK: input_bytes / count / machines.network_speed if machines.remote_input else 0.0,
    }
    written = input_bytes * work.output_ratio
    reduce_phase = {
        # Bytes of others are sent by threads of the agents that need no Python, wherever a core is free.
        EXECUTORS: _waves(reducers, machines) * reduce_task + far * costs.agent_byte_seconds / machines.slots,
        COORDINATOR: reducers * costs.coordinator_task_seconds + segments * costs.coordinator_block_seconds,
        AGENTS: (
            reducers * costs.agent_task_seconds
            + segments * (costs.agent_block_seconds + away * costs.agent_piece_seconds)
        )
        / count,
        DISK: (shuffled + 2 * far + 2 * merges * shuffled + (0 if machines.remote_input else written))
        / count
        / machines.disk_speed,
        NETWORK: (far + (written if machines.remote_input else 0)) / count / machines.network_speed,
    }
    if machines.ray:
        pieces = max(ceil(maps / count / MAX_REQUEST_PIECES), ceil(shuffled / reducers / count / REQUEST_BYTES), 1)
        launches = segments * costs.launch_block_bytes / BATCH_BYTES
        map_phase[COORDINATOR] += _calls(tasks, map_task, machines) * costs.ray_call_seconds
        reduce_phase[COORDINATOR] += (_calls(reducers, reduce_task, machines) + launches) * costs.ray_call_seconds
        reduce_phase[AGENTS] += reducers * (count - 1) * pieces * costs.ray_object_seconds / count
        reduce_phase[EXECUTORS] += far * costs.ray_byte_seconds / machines.slots
    return Forecast(
        cut,
        maps,
        segments,
        shuffled,
        _by_speed(map_phase, costs, machines),
        _by_speed(reduce_phase, costs, machines),
        _rooms(costs, machines, cut, maps, shuffled, merges),
        costs.start_seconds,
        max(map_task, reduce_task) / machines.speed,
    )


def _waves(tasks: int, machines: Machines) -> float:
    """How many tasks one slot runs, one after the other; the last wave counts as a whole one."""
    return ceil(tasks / machines.slots)


def _calls(tasks: int, seconds: float, machines: Machines) -> float:
    """How many calls there are on Ray: for each task one that launches and one that answers, or fewer."""
    if not seconds:
        return 0.0
    much = machines.cores * MUCH_SECONDS / seconds
    return 2 * tasks / max(1.0, much if much >= MUCH else machines.cores * GATHER_SECONDS / seconds)


def _by_speed(phase: dict[str, float], costs: Costs, machines: Machines) -> dict[str, float]:
    """Seconds by the clock: other processors, and heartbeats that take their part of the coordinator all the while."""
    often = min(machines.count, MOST_BEATS) if machines.ray else machines.count
    each = costs.coordinator_beat_seconds + (costs.ray_call_seconds if machines.ray else 0.0)
    beats = min(0.99, often * each / machines.speed)
    seconds = {
        name: took / (machines.speed if name in (EXECUTORS, COORDINATOR, AGENTS) else 1.0)
        for name, took in phase.items()
    }
    return {**seconds, COORDINATOR: seconds[COORDINATOR] / (1 - beats)}


def _rooms(costs: Costs, machines: Machines, cut: Cut, maps: int, shuffled: float, merges: int) -> dict[str, Room]:
    segments = maps * cut.reducers
    launched = min(cut.reducers, machines.slots)  # at once, when the map phase ends
    launch = maps * costs.launch_block_bytes
    held = maps * costs.task_held_bytes + segments * costs.segment_held_bytes
    copies = launched / cut.reducers * (1 + merges)  # of what is being reduced: fetched, and merged
    return {
        COORDINATOR_MEMORY: Room(held + launched * launch, machines.coordinator_bytes),
        # 60 % of a machine's memory is for what tasks hold of their data; this comes beside it.
        SLOT_MEMORY: Room(maps * costs.slot_block_bytes, 0.4 * machines.memory_bytes / machines.cores),
        DISK_ROOM: Room(shuffled * (1 + copies) / machines.count, machines.disk_bytes),
        LAUNCH: Room(launch, MESSAGE_BYTES),
        ANSWER: Room(cut.reducers * costs.answer_segment_bytes, MAX_NOTE_BYTES),
        JOURNAL: Room(segments * costs.journal_segment_bytes, machines.disk_bytes),
        SPLITS: Room(maps * costs.split_blob_bytes, BLOB_BYTES),
    }
