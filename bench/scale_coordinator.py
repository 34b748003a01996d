"""What segments and launches cost the coordinator and an agent: the real ones, and a fleet that answers at once.

The fleet runs nothing. It makes each launch into the message that an agent would get, and answers with the bytes that
an agent would send, so that only the coordinator's own work is measured, however many segments the blocks have.
"""

from __future__ import annotations

import gc
import json
import tempfile
import time
import tracemalloc
import zlib
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tasks import prepared_job

from gristmill.fleets.inline import InlineFleet
from gristmill.plan.build import StepShape, build_plan
from gristmill.runtime.answers import result_of
from gristmill.runtime.contracts import AttemptDone, JobAdmitted, JobSpec, SlotUp, TaskResult, TaskSpec, WorkerUp
from gristmill.runtime.coordinator.coordinator import Coordinator
from gristmill.runtime.coordinator.jobs import PreparedJob
from gristmill.runtime.journal.journal import Journal
from gristmill.runtime.process.plain import read_json
from gristmill.runtime.process.wire import order_frame, task_order
from gristmill.runtime.protocol import agents as pb
from gristmill.runtime.protocol.convert import attempt_id, attempt_message, json_bytes, launch_order, launch_spec
from gristmill.scheduling.commands import JobState, Launch
from gristmill.scheduling.events import Heartbeat, JobSubmitted, SlotJoined, StageAdded, WorkerJoined
from gristmill.scheduling.ids import AttemptId
from gristmill.scheduling.state import SchedulerState
from gristmill.scheduling.step import step
from gristmill.shuffle.contracts import BlockInfo, BlockSource, SegmentInfo
from gristmill.storage.contracts import Split

FOLDER = "/var/lib/gristmill/data/worker/jobs/20261122-101500-wordcount-4f2a9c/blocks"
"""As long as paths of blocks are."""

_MACHINES = 100
_SEGMENT_BYTES = 4096


def block(job: str, index: int, segments: int) -> BlockInfo:
    """A block as a map task makes it; its numbers have as many digits as those of real ones."""
    made = tuple(
        SegmentInfo(place * _SEGMENT_BYTES, _SEGMENT_BYTES, 40 + place % 40, (place * 2654435761 + index) & 0xFFFFFFFF)
        for place in range(segments)
    )
    return BlockInfo(f"{FOLDER}/{job}-s0-t{index:06d}-a1.block", made, f"node-{index % _MACHINES:04d}#1")


def blocks(count: int) -> tuple[BlockInfo, ...]:
    """What one reduce task reads of so many map tasks."""
    return tuple(block("job", index, 1) for index in range(count))


class AnsweringFleet(InlineFleet):
    """A cluster that has done every task at once.

    Args:
        segments: of each block.

    Attributes:
        launch_bytes: of all messages that launch what reads blocks.
    """

    def __init__(self, segments: int) -> None:
        super().__init__()
        self.launch_bytes = 0
        self._segments = segments
        self._sources = {
            f"node-{n:04d}#1": BlockSource(f"node-{n:04d}#1", f"10.0.0.{n}:40000", "m") for n in range(_MACHINES)
        }

    def start(self, post: Callable[[Any], None]) -> None:
        """Offer a slot of each machine."""
        self._post = post
        for name in self._sources:
            post(WorkerUp(name))
            post(SlotUp(f"{name}-1", name))

    def add_job(self, job: JobSpec) -> None:
        """Make a job known."""
        self._post(JobAdmitted(job.job))

    def launch(self, slot: str, spec: TaskSpec) -> None:
        """Make the message, and answer."""
        message = launch_order(slot, spec, self._sources).SerializeToString()
        if spec.blocks:
            self.launch_bytes += len(message)
            made = TaskResult(seconds=1.0)
        else:
            made = TaskResult(100, 1000, 100, 1000, block=block(spec.attempt.job, spec.attempt.index, self._segments))
        # As the desk of agents does; what an agent does to make these bytes is measured elsewhere.
        begun = time.process_time()
        answer = json_bytes(made)
        self.apart += time.process_time() - begun
        result = result_of(read_json(answer))
        if result.block is not None:
            result.block = replace(result.block, worker=slot.rpartition("-")[0])
        self._post(AttemptDone(spec.attempt, result))

    apart = 0.0
    """Seconds that are not the coordinator's."""

    def free(self, block: BlockInfo) -> None:
        """Nothing was made."""


@dataclass(frozen=True)
class Coordinated:
    """What one job took in the coordinator."""

    maps: int
    reducers: int
    map_seconds: float
    reduce_seconds: float
    launch_bytes: int
    journal_bytes: int


def coordinated(maps: int, reducers: int) -> Coordinated:
    """Run a job of so many tasks on a fleet that answers at once; CPU seconds of this process."""
    with tempfile.TemporaryDirectory(prefix="gristmill-bench-") as made:
        folder = Path(made)
        fleet = AnsweringFleet(reducers)
        turned: list[float] = []
        with closing(Journal(folder / "journal.db")) as journal, closing(Coordinator(fleet)) as coordinator:
            coordinator.start()
            prepared = _with_reducers(prepared_job(folder, "job", maps), reducers)
            launch = fleet.launch

            def noting(slot: str, spec: TaskSpec) -> None:
                if spec.blocks and not turned:
                    turned.append(time.process_time() - fleet.apart)
                launch(slot, spec)

            fleet.launch = noting  # type: ignore[method-assign]
            gc.collect()
            begun = time.process_time()
            outcome = coordinator.submit(prepared, journal=journal).wait(600.0)
            assert outcome is not None and outcome.view.state is JobState.SUCCEEDED, outcome
            ended = time.process_time() - fleet.apart
        size = sum(path.stat().st_size for path in folder.glob("journal.db*"))
        return Coordinated(maps, reducers, turned[0] - begun, ended - turned[0], fleet.launch_bytes, size)


def _with_reducers(prepared: PreparedJob, reducers: int) -> PreparedJob:
    shapes = (StepShape(reduces=True),)
    return replace(prepared, plan=build_plan(shapes, reducers=reducers, output_format="text"))


def seconds_of(call: Callable[[], object], least: float = 0.2) -> float:
    """CPU seconds of a call, the best of several."""
    best, spent = float("inf"), 0.0
    while spent < least or best == float("inf"):
        begun = time.process_time()
        call()
        took = time.process_time() - begun
        best, spent = min(best, took), spent + max(took, 1e-6)
    return best


def agent_costs(count: int = 2000) -> dict[str, float]:
    """What an agent does for one block of a launch, and for one segment of an answer."""
    spec = TaskSpec(AttemptId("job", 1, 0, 1), stage=prepared_stage(), blocks=blocks(count))
    sources = AnsweringFleet(1)._sources
    message = launch_order("slot", spec, sources).SerializeToString()

    def launch() -> None:
        order = pb.Order.FromString(message)
        order_frame(task_order(launch_spec(order.launch, spec.attempt, spec.stage, "", "m")))

    answer = json.dumps({"result": TaskResult(block=block("job", 0, count)).to_json()}).encode()

    def answered() -> None:
        json_bytes(result_of(read_json(answer)["result"]))

    return {"agent_block_seconds": seconds_of(launch) / count, "agent_segment_seconds": seconds_of(answered) / count}


def prepared_stage() -> Any:
    """The stage of a reduce task."""
    with tempfile.TemporaryDirectory(prefix="gristmill-bench-") as made:
        return prepared_job(Path(made), "job", 1).plan.stages[1]


def held_bytes(make: Callable[[], Any]) -> int:
    """What a value takes of the memory."""
    gc.collect()
    tracemalloc.start()
    kept = make()
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    del kept
    return size


def memory(count: int = 2000) -> dict[str, float]:
    """Bytes that are held for a task, a segment, and a block of a launch."""
    few, many = (_results_bytes(count, segments) for segments in (16, 216))
    cut = _splits(count)
    splits = held_bytes(lambda: _splits(count))
    spec = TaskSpec(AttemptId("job", 1, 0, 1), stage=prepared_stage(), blocks=blocks(count))
    order = launch_order("slot", spec, AnsweringFleet(1)._sources)
    data = order.SerializeToString()

    def read() -> TaskSpec:
        return launch_spec(pb.Order.FromString(data).launch, spec.attempt, spec.stage, "", "m")

    segment = (many - few) / (count * 200)
    return {
        "segment_held_bytes": segment,
        "task_held_bytes": few / count - 16 * segment + splits / count,
        "launch_block_bytes": len(data) / count,
        # The message, what is made of it, and the frame in which it goes to the executor.
        "slot_block_bytes": (held_bytes(read) + 2 * len(data)) / count,
        "answer_segment_bytes": len(json_bytes(TaskResult(block=block("job", 0, 1000)))) / 1000,
        "split_blob_bytes": len(
            zlib.compress(json.dumps([[list(vars(one).values()) for one in task] for task in cut]).encode(), 1)
        )
        / count,
    }


def coordinator_costs() -> dict[str, float]:
    """What a segment in an answer costs, and a block in a launch."""
    coordinated(100, 10)  # what is done once
    few, *many = coordinated(1000, 10), *(coordinated(1000, 500) for _ in range(3))
    more = 1000 * (500 - 10)
    return {
        "coordinator_segment_seconds": (min(one.map_seconds for one in many) - few.map_seconds) / more,
        "coordinator_block_seconds": (min(one.reduce_seconds for one in many) - few.reduce_seconds) / more,
        "journal_segment_bytes": (many[0].journal_bytes - few.journal_bytes) / more,
        "coordinator_beat_seconds": _beat_seconds(),
    }


def _beat_seconds(attempts: int = 16) -> float:
    """What one heartbeat costs that names so many attempts: to read it, and what the scheduler makes of it."""
    state = SchedulerState()
    step(state, WorkerJoined("w", suspect_seconds=5.0, lost_seconds=10.0), 0.0)
    commands = [*step(state, JobSubmitted("j", 1), 0.0), *step(state, StageAdded("j", 0, (), attempts, True), 0.0)]
    for slot in range(attempts):
        commands += step(state, SlotJoined(f"w-{slot}", "w"), 0.0)
    running = [command.attempt for command in commands if isinstance(command, Launch)]
    beat = pb.Beat()
    for attempt in running:
        beat.running.add(attempt=attempt_message(attempt), records_in=1000, bytes_in=1000000)
    message = beat.SerializeToString()

    def beats() -> None:
        for _ in range(100):
            named = tuple(attempt_id(one.attempt) for one in pb.Beat.FromString(message).running)
            step(state, Heartbeat("w", named, 0.0, (0.5,) * len(named)), 0.0)

    return seconds_of(beats) / 100


def _splits(count: int) -> tuple[tuple[Split, ...], ...]:
    """Splits of large files, 16 of each."""
    size = 64 << 20

    def split(number: int) -> Split:
        name = f"part-{number // 16:05d}.txt"
        return Split(
            f"s3://bucket/data/2026/{name}", number % 16 * size, size, size, "text", f"s3://bucket/data/2026/{name}"
        )

    return tuple((split(number),) for number in range(count))


def _results_bytes(count: int, segments: int) -> int:
    def results() -> dict[int, TaskResult]:
        made = {}
        for index in range(count):
            answer = json_bytes(TaskResult(100, 1000, 100, 1000, block=block("job", index, segments)))
            made[index] = result_of(read_json(answer)).packed()
        return made

    return held_bytes(results)
