"""What attempts have packed is brought, then it is told that they are done: real attempts, a real block server."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import cloudpickle
import pytest

from gristmill.config import MIB
from gristmill.fleets.ray.bringing import Bringer
from gristmill.plan.functions import JobCode, StepFunctions
from gristmill.plan.stages import Branch, MapOp, OutputSink, SplitSource, Stage
from gristmill.runtime.contracts import (
    AttemptDone,
    AttemptFailed,
    Beat,
    FleetEvent,
    JobSpec,
    Progress,
    SlotDown,
    SlotUp,
    TaskResult,
    TaskSpec,
    WorkerDown,
)
from gristmill.runtime.executor.attempts import load_code, prepare_folder
from gristmill.runtime.executor.parcels import run_and_pack, settled
from gristmill.scheduling.events import AttemptId
from gristmill.shuffle.contracts import BlockInfo, BlockSource
from gristmill.shuffle.serve import BlockServer
from gristmill.storage.contracts import Split
from gristmill.storage.staging import Staging

PATIENCE = 60.0
WRITE = Stage(0, (Branch((SplitSource(),), (MapOp(0),)),), OutputSink("text", "m"), "map")


def number(_key: Any, line: str) -> Iterator[tuple[int, str]]:
    if line == "bad":
        raise ValueError("a bad line")
    if line:
        yield len(line), line


class Worker:
    """A worker ``w`` with two slots that does not see the output's folder, and the driver's end."""

    def __init__(self, root: Path) -> None:
        self.root, self.folder = root, root / "w" / "jobs" / "j"
        self.own = Staging.make(root / "out", "j")
        self.staging = self.own.path
        code = cloudpickle.dumps(JobCode((StepFunctions(mapper=number),)))
        job = JobSpec("j", code, (), str(self.staging), str(root / "job"), 64 * MIB, 10, MIB, None, ticket="t")
        self.told: queue.SimpleQueue[FleetEvent] = queue.SimpleQueue()
        self.freed: queue.SimpleQueue[BlockInfo] = queue.SimpleQueue()
        self.may_go = threading.Event()
        self.server = BlockServer([root / "w"])
        self.server.allow("j", "t")
        self.bringer = Bringer(self.told.put, self._sources, self.freed.put)
        self.job = self.bringer.add_job(job)
        prepare_folder(job, str(self.folder))

    def _sources(self) -> Sequence[BlockSource]:
        """Asked when parcels are about to be brought."""
        assert self.may_go.wait(PATIENCE)
        return (BlockSource("w", f"127.0.0.1:{self.server.port}", "elsewhere"),)

    def run(
        self, index: int, text: str, slot: str = "w-1", change: Callable[[JobSpec], JobSpec] = settled
    ) -> TaskResult:
        """Launch an attempt and run it; its answer is not told yet."""
        path = self.root / f"in{index}"
        path.write_text(text)
        split = Split(str(path), 0, len(text), len(text), "text")
        attempt = AttemptId("j", 0, index, 1)
        self.bringer.launched(attempt, slot)
        made = run_and_pack(
            change(self.job), TaskSpec(attempt, WRITE, (split,), folder=str(self.folder)), Progress(), load_code
        )
        assert isinstance(made, TaskResult), made
        return made

    def tell(self, index: int, result: TaskResult) -> AttemptId:
        """Its answer comes."""
        attempt = AttemptId("j", 0, index, 1)
        self.bringer.hear(AttemptDone(attempt, result))
        return attempt

    def next(self) -> FleetEvent:
        """What the coordinator hears next."""
        return self.told.get(timeout=PATIENCE)

    def written(self, result: TaskResult) -> list[str]:
        """The files of a result in the staging folder."""
        return [(self.staging / part.staged).read_text() for part in result.parts]

    def close(self) -> None:
        self.may_go.set()
        self.bringer.close()
        self.server.close()
        self.own.remove()


def unseen(job: JobSpec) -> JobSpec:
    """The job, where the staging folder is another one than the one that is meant."""
    return settled(replace(job, staging=job.staging.replace("if-seen://", "if-seen://0")))


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[Worker]:
    with closing(Worker(tmp_path)) as made:
        yield made


def test_who_sees_the_folder_writes_there(worker: Worker) -> None:
    made = worker.run(0, "a\n")
    assert made.parcel is None and worker.written(made) == ["1\ta\n"]
    attempt = worker.tell(0, made)
    assert worker.next() == AttemptDone(attempt, made)


def test_an_answer_waits_for_its_parcel_and_its_slots_news_behind_it(worker: Worker) -> None:
    far = worker.run(0, "bad\nab\n", change=unseen)
    assert [part.final for part in far.parts] == ["part-m-00000", "_bad_records/m0-00000.jsonl"]
    assert far.parcel is not None and Path(far.parcel.path).parent == worker.folder / "blocks"
    assert not list(worker.staging.rglob("*part-m*")) and not list((worker.folder / "scratch").iterdir())
    empty = worker.run(1, "\n", change=unseen)
    other = worker.run(2, "abc\n", slot="w-2")
    first, second, third = worker.tell(0, far), worker.tell(1, empty), worker.tell(2, other)
    worker.bringer.hear(SlotDown("w-1"))
    worker.bringer.hear(SlotUp("w-3", "w"))
    worker.bringer.hear(Beat("w", {}))
    assert worker.next() == AttemptDone(third, other)
    assert worker.next() == SlotUp("w-3", "w")
    beat = worker.next()
    assert isinstance(beat, Beat) and set(beat.attempts) == {first, second}
    assert beat.attempts[first] == Progress(far.records_in, far.bytes_in)
    worker.may_go.set()
    assert worker.next() == AttemptDone(first, replace(far, parcel=None))
    assert worker.next() == AttemptDone(second, replace(empty, parcel=None))
    assert worker.next() == SlotDown("w-1")
    text, bad = worker.written(far)
    assert text == "2\tab\n" and '"record": "bad"' in bad and worker.written(empty) == [""]
    assert worker.freed.get(timeout=PATIENCE).path == far.parcel.path
    assert [entry.name for entry in worker.staging.iterdir() if entry.name.startswith("brought")] == []


def test_what_is_gone_costs_its_attempt_alone(worker: Worker) -> None:
    made = [worker.run(index, f"line {index}\n", change=unseen) for index in range(3)]
    assert made[1].parcel is not None
    Path(made[1].parcel.path).unlink()
    attempts = [worker.tell(index, result) for index, result in enumerate(made)]
    worker.may_go.set()
    told = [worker.next() for _ in made]
    assert told[0] == AttemptDone(attempts[0], replace(made[0], parcel=None))
    assert told[2] == AttemptDone(attempts[2], replace(made[2], parcel=None))
    failed = told[1]
    assert isinstance(failed, AttemptFailed) and failed.slot_leaves is False
    assert (failed.attempt, failed.report.error) == (attempts[1], "BlockMissing")
    assert worker.written(made[2]) == ["6\tline 2\n"]


@pytest.mark.parametrize("damage", ["path", "size"])
def test_what_cannot_be_a_parcel_is_not_asked_for(worker: Worker, damage: str) -> None:
    made = worker.run(0, "a\n", change=unseen)
    assert made.parcel is not None
    if damage == "path":
        made.parcel = replace(made.parcel, path=str(worker.root / "in0"))
    else:
        made.parts = (replace(made.parts[0], size_bytes=5),)
    worker.tell(0, made)
    worker.may_go.set()
    failed = worker.next()
    assert isinstance(failed, AttemptFailed) and failed.report.error == "AnswerInvalid"


def test_nothing_is_told_of_a_worker_that_is_lost(worker: Worker) -> None:
    worker.tell(0, worker.run(0, "a\n", change=unseen))
    worker.bringer.hear(SlotDown("w-1"))
    worker.bringer.hear(WorkerDown("w", "gone"))
    assert worker.next() == WorkerDown("w", "gone")
    worker.may_go.set()
    later = worker.run(1, "b\n", slot="v-1")
    attempt = worker.tell(1, later)
    assert worker.next() == AttemptDone(attempt, later)
    assert worker.told.empty()


def test_what_a_job_that_is_over_has_written_is_not_brought(worker: Worker) -> None:
    made = worker.run(0, "a\n", change=unseen)
    worker.bringer.drop_job("j")
    attempt = worker.tell(0, made)
    told = worker.next()
    assert isinstance(told, AttemptDone) and told.attempt == attempt
    assert not list(worker.staging.rglob("*part-m*"))


def test_nothing_is_left_where_a_job_has_ended_meanwhile(worker: Worker) -> None:
    attempt = worker.tell(0, worker.run(0, "a\n", change=unseen))
    worker.own.remove()
    worker.may_go.set()
    told = worker.next()
    assert isinstance(told, (AttemptDone, AttemptFailed)) and told.attempt == attempt
    assert not worker.staging.exists()
