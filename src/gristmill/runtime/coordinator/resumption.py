"""What is still there of what a job's tasks made, when another coordinator goes on with it.

A result counts if it can still be read: parts of the output lie in its staging folder; blocks lie on this machine or on
shared storage, or a worker says that it keeps them.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path

from gristmill.runtime.coordinator.job_records import JobRecord
from gristmill.runtime.coordinator.jobs import PreparedJob
from gristmill.runtime.coordinator.tally import JobTally
from gristmill.runtime.journal.facts import TaskDone
from gristmill.scheduling.events import TaskId
from gristmill.shuffle.contracts import BlockInfo
from gristmill.storage.targets import has_part, is_object_uri


@dataclass
class Resumption:
    """What an earlier coordinator had done, while it is found out what is left of it.

    Attributes:
        record: how the job stood.
        tasks: how many each stage has.
        done: the tasks whose files are there, in the order in which they were accepted.
        here: those whose block this process, and whoever reads it, sees.
        elsewhere: those whose block a worker kept, by its path.
        found: the worker that says that it keeps the block now.
        published: its output is in its place: all that is left is to say so.
        missing: those whose block somebody will read, and no worker has named yet.
        wait_until: when to go on without them.
    """

    record: JobRecord
    tasks: tuple[int, ...]
    done: dict[TaskId, TaskDone] = field(default_factory=dict)
    here: set[TaskId] = field(default_factory=set)
    elsewhere: dict[str, TaskId] = field(default_factory=dict)
    found: dict[TaskId, str] = field(default_factory=dict)
    missing: set[TaskId] = field(default_factory=set)
    published: bool = False
    wait_until: float = 0.0

    def keeps(self, worker: str, paths: Iterable[str]) -> None:
        """A worker has these blocks of the job."""
        for path in paths:
            if (task := self.elsewhere.get(path)) is not None:
                self.found[task] = worker
                self.missing.discard(task)

    def stays(self, worker: str) -> None:
        """A worker is there that made blocks of the job, and has not been away since: it has them, but for some that
        were freed, which will be missed then and made again.
        """
        for path, task in self.elsewhere.items():
            block = self.done[task].result.block
            if block is not None and block.worker == worker:
                self.keeps(worker, (path,))

    def lost(self, worker: str) -> None:
        """A worker is gone. It is not waited for again."""
        self.found = {task: keeper for task, keeper in self.found.items() if keeper != worker}

    def gone(self, path: str) -> None:
        """A block that a worker has named is lost."""
        if (task := self.elsewhere.get(path)) is not None:
            self.found.pop(task, None)

    @property
    def is_over(self) -> bool:
        """Whether the output is in its place, and it is known what of each task is in it."""
        last = len(self.record.accepted.parents) - 1
        return self.published and sum(task.stage == last for task in self.done) == self.tasks[last]

    @property
    def is_complete(self) -> bool:
        """Whether all is found that is needed."""
        return not self.missing

    def block_of(self, task: TaskId) -> BlockInfo | None:
        """The block of a task that was done, with the worker that keeps it now; None if it is gone or has none."""
        block = self.done[task].result.block
        if block is None or not block.path:
            return None
        if task in self.here:
            return block
        return replace(block, worker=self.found[task]) if task in self.found else None

    def count_done(self) -> int:
        """How many tasks need not run again, as far as is known now."""
        wanted = self.wanted()
        return sum(task.stage not in wanted or self._lives(task) for task in self.done)

    def wanted(self) -> set[int]:
        """The stages whose blocks somebody will read: those with a child that has tasks to run."""
        done, living = [0] * len(self.tasks), [0] * len(self.tasks)
        for task in self.done:
            done[task.stage] += 1
            living[task.stage] += self._lives(task)
        wanted: set[int] = set()
        parents, before = self.record.parents, -1
        while len(wanted) != before:  # a stage that was put in between has a higher number than its child
            before = len(wanted)
            for stage in reversed(range(len(self.tasks))):
                if (living if stage in wanted else done)[stage] < self.tasks[stage]:
                    wanted.update(parents[stage])
        return wanted

    def _lives(self, task: TaskId) -> bool:
        """Whether a task's block is there, or may be."""
        block = self.done[task].result.block
        return block is None or not block.path or task in self.here or block.path in self.elsewhere


def survey(record: JobRecord, prepared: PreparedJob, *, published: bool) -> Resumption:
    """Look at what is left of what a job's tasks made.

    Args:
        record: how the job stands.
        prepared: the job.
        published: its output is in its place, so that its parts are not where they were staged.
    """
    tally = JobTally(record.job, prepared.name, prepared.plan, prepared.splits)
    found = Resumption(record, tally.task_counts(), published=published)
    staging = prepared.spec.staging
    for task, done in record.done.items():
        # What was not made durable may look whole after the system went down, and not be.
        trusted = not done.result.parts or record.boots.get(done.epoch) == boot_id() or is_object_uri(staging)
        if not published and not (trusted and all(has_part(staging, part) for part in done.result.parts)):
            continue
        found.done[task] = done
        block = done.result.block
        if block is not None and block.path:
            if block.worker:
                found.elsewhere[block.path] = task
            elif _is_readable(block):
                found.here.add(task)
    wanted = found.wanted()
    found.missing = {task for task in found.elsewhere.values() if task.stage in wanted}
    return found


def _is_readable(block: BlockInfo) -> bool:
    """Whether a block looks whole. What it holds is checked by whoever reads it."""
    if "://" in block.path:
        return True  # shared storage: a reader will find out
    try:
        return Path(block.path).stat().st_size >= max(
            (segment.offset + segment.length for segment in block.segments), default=0
        )
    except OSError:
        return False


@cache
def boot_id() -> str:
    """Names the run of the system; where it does not tell, the time at which it began."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        pass
    try:
        import psutil

        return f"{socket.gethostname()} {psutil.boot_time():.0f}"
    except (OSError, RuntimeError):
        return f"{socket.gethostname()} {time.time():.0f}"  # unknown: nothing that was staged is trusted
