"""A job's way into the journal and back: what is noted of it, and what of its work is still there.

A job that is taken up again runs the code, plan and splits that were noted, never new ones. What its tasks made counts
if it can still be read: parts of the output lie in its staging folder; blocks lie on this machine or on shared storage,
or a worker says that it keeps them.
"""

from __future__ import annotations

import json
import socket
import time
import zlib
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

from gristmill.config import PYTHON_VERSION, VERSION
from gristmill.errors import GristmillError, JobFailed, JournalFailed, TaskError, UsageError, VersionMismatch
from gristmill.plan.stages import (
    MapOp,
    OutputSink,
    ReduceOp,
    ShuffleSink,
    ShuffleSource,
    SplitSource,
    Stage,
    StagePlan,
)
from gristmill.runtime.contracts import JobSpec
from gristmill.runtime.facts import JobAccepted, JobEnded, JobRecord, JobTakenUp, TaskDone
from gristmill.runtime.jobfolder import JobFolder
from gristmill.runtime.jobs import PreparedJob
from gristmill.runtime.outcome import Outcome, job_cancelled, job_failed
from gristmill.runtime.tally import JobTally
from gristmill.runtime.views import JobView
from gristmill.scheduling.commands import JobState
from gristmill.scheduling.events import TaskId
from gristmill.shuffle.contracts import BlockInfo
from gristmill.storage.commit import OutputCommit
from gristmill.storage.contracts import PartFile, Split
from gristmill.storage.staging import is_published

KEPT_PARTS = "staged"
"""Below a job's folder: what was staged when it ended without output."""

_CODE, _SPLITS = "code", "splits"
_PARTS_OF_PLAN = {cls.__name__: cls for cls in (SplitSource, ShuffleSource, MapOp, ReduceOp, ShuffleSink, OutputSink)}
_IN_SPEC = ("code",)  # in blobs
_NOTED = (
    "name", "output_path", "max_attempts", "place", "overwrite", "priority", "task_cpus", "task_memory_bytes",
    "speculation", "deaths_expected", "replay",
)  # fmt: skip


# Into the journal


def accepted(prepared: PreparedJob, key: str, now: float) -> tuple[JobAccepted, dict[str, bytes]]:
    """The fact that a job is accepted, and the blobs that belong to it."""
    data: dict[str, Any] = {name: getattr(prepared, name) for name in _NOTED}
    data["spec"] = {name: value for name, value in vars(prepared.spec).items() if name not in _IN_SPEC}
    data["plan"] = [_stage_to_json(stage) for stage in prepared.plan.stages]
    data["stage_keys"] = list(prepared.stage_keys)
    data["ingredients"] = dict(prepared.ingredients)
    splits = [[list(vars(split).values()) for split in task] for task in prepared.splits]
    blobs = {_CODE: prepared.spec.code, _SPLITS: zlib.compress(json.dumps(splits).encode(), 1)}
    parents = tuple(stage.parents for stage in prepared.plan.stages)
    return JobAccepted(prepared.spec.job, prepared.name, now, key, boot_id(), parents, data), blobs


def never_begun(prepared: PreparedJob, view: JobView, now: float) -> JobEnded:
    """The end of a job whose client was told that it could not be noted in time."""
    spec = prepared.spec
    cancelled = Outcome(replace(view, state=JobState.CANCELLED), job_cancelled(spec.job, spec.folder))
    return JobEnded(spec.job, now, cancelled)


def _stage_to_json(stage: Stage) -> dict[str, Any]:
    def part(value: Any) -> list[Any]:
        return [type(value).__name__, vars(value)]

    return {
        "name": stage.name,
        "source": part(stage.source),
        "ops": [part(op) for op in stage.ops],
        "sink": part(stage.sink),
    }


# And back


def restore(
    record: JobRecord, blobs: Mapping[str, bytes], *, overwrite: bool | None = None
) -> tuple[PreparedJob, Resumption]:
    """A job that is to go on, as its next coordinator gets it. Its output's staging folder is taken over.

    Args:
        record: how it stands.
        blobs: what the journal keeps beside.
        overwrite: whether the output may replace what is there; None: as was said when the job was submitted.

    Raises:
        JournalFailed: what was noted is not enough.
        UsageError: its output cannot be written.
    """
    prepared = read_job(record, blobs)
    if overwrite is not None:
        prepared = replace(prepared, overwrite=overwrite)
    parts = [part for done in record.done.values() for part in done.result.parts]
    folder = Path(prepared.spec.folder)
    commit = OutputCommit.adopt(
        Path(prepared.place), record.job, prepared.overwrite, parts, needed_by=folder, kept=folder / KEPT_PARTS
    )
    spec = replace(prepared.spec, staging=str(commit.staging), epoch=record.epoch + 1)
    prepared = replace(prepared, spec=spec, output=commit)
    return prepared, survey(record, prepared, published=commit.published)


def reopen(
    record: JobRecord, blobs: Mapping[str, bytes]
) -> tuple[PreparedJob, Resumption, JobFolder | None, GristmillError | None]:
    """A server's job that is to go on, with its folder; and the reason, if it cannot.

    Raises:
        JournalFailed: what was noted is not enough.
    """
    prepared = read_job(record, blobs)
    path = Path(prepared.spec.folder)
    begun = {"job": record.job, "name": record.accepted.name, "created": record.accepted.at}
    folder = None
    with suppress(OSError):  # the job can do without
        path.mkdir(parents=True, exist_ok=True)
        folder = JobFolder.adopt(path, begun)  # a run of this machine may have removed what was in there meanwhile
    refused: GristmillError
    try:
        _check_versions(record)
        if not is_published(Path(prepared.place), record.job):
            _check_inputs(record, prepared.spec)
        return *restore(record, blobs), folder, None
    except UsageError as error:
        refused = error
    except TaskError as error:  # no space is left at its output: that must not keep the others from going on
        refused = job_failed(record.job, error.report, str(path))
    return prepared, Resumption(record, ()), folder, refused


def _check_versions(record: JobRecord) -> None:
    """See that a job's code can run here. A run of this machine finds that out by its keys.

    Raises:
        VersionMismatch: it was begun with other versions.
    """
    noted = record.accepted.prepared.get("ingredients", {})
    begun = (noted.get("version Gristmill", VERSION), noted.get("version Python", PYTHON_VERSION))
    if begun != (VERSION, PYTHON_VERSION):
        raise VersionMismatch(
            f"Job {record.job} was begun with Gristmill {begun[0]} on Python {begun[1]} and cannot go on with "
            f"Gristmill {VERSION} on Python {PYTHON_VERSION}. Submit it again."
        )


def _check_inputs(record: JobRecord, spec: JobSpec) -> None:
    """See that a job's inputs are as they were: half of the old and half of the new would be nobody's wish.

    Workers compare the sizes, too, and would be refused, all of them. A run of this machine finds out by its keys.

    Raises:
        UsageError: one is another now, or is gone.
    """
    noted = record.accepted.prepared.get("ingredients", {}) if record.done else {}
    for path, size in spec.inputs:
        try:
            status = Path(path).stat()
        except OSError as error:
            raise UsageError(
                f"Job {record.job} cannot go on: its input {path} cannot be read any more ({error.strerror}). "
                "Put it back and submit the job again."
            ) from error
        now = input_state(status.st_size, status.st_mtime_ns)
        if status.st_size != size or noted.get(f"input {path}", now) != now:
            raise UsageError(
                f"Job {record.job} cannot go on: its input {path} has changed since it began. Submit the job again."
            )


def input_state(size_bytes: int, changed_ns: int) -> str:
    """What tells an input from what it was or will be, among a job's ingredients."""
    return f"{size_bytes} bytes, changed at {changed_ns}"


def unreadable(record: JobRecord, error: JournalFailed, now: float) -> JobEnded:
    """The end of a job of which the journal does not hold enough: it must not keep the others from going on."""
    view = JobView(record.job, record.accepted.name, JobState.FAILED, 0.0, ())
    return JobEnded(record.job, now, Outcome(view, JobFailed(f"Job {record.job} failed: {error}")))


def read_job(record: JobRecord, blobs: Mapping[str, bytes]) -> PreparedJob:
    """A job as it was accepted. Its output is nowhere yet.

    Raises:
        JournalFailed: what was noted is not enough.
    """
    data = record.accepted.prepared
    try:
        spec = {name: _tupled(value) for name, value in data["spec"].items()}
        splits = json.loads(zlib.decompress(blobs[_SPLITS]))
        return PreparedJob(
            spec=JobSpec(code=blobs[_CODE], **spec),
            plan=StagePlan(tuple(_stage_from_json(number, stage) for number, stage in enumerate(data["plan"]))),
            splits=tuple(tuple(_split_of(fields) for fields in task) for task in splits),
            output=_Nowhere(),
            stage_keys=tuple(data["stage_keys"]),
            ingredients=data["ingredients"],
            **{name: data[name] for name in _NOTED},
        )
    except (KeyError, TypeError, ValueError, zlib.error) as error:
        raise JournalFailed(f"The journal does not hold all of job {record.job}; it cannot be taken up.") from error


def _split_of(fields: list[Any]) -> Split:
    split = Split(*fields)
    return replace(split, hosts=tuple(split.hosts))


def _tupled(value: Any) -> Any:
    return tuple(map(_tupled, value)) if isinstance(value, list) else value


def _stage_from_json(number: int, data: Mapping[str, Any]) -> Stage:
    def part(value: Any) -> Any:
        return _PARTS_OF_PLAN[value[0]](**value[1])

    ops = tuple(part(op) for op in data["ops"])
    return Stage(number, part(data["source"]), ops, part(data["sink"]), data["name"])


class _Nowhere:
    """The output of a job that is only looked at, or ended."""

    def commit(self, parts: Iterable[PartFile], summary: Mapping[str, Any]) -> None:  # noqa: ARG002
        """Never called."""
        raise AssertionError("the job is not to be run")

    def abort(self, keep: Path | None = None) -> None:
        """Nothing."""


# What is still there


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
        last = len(self.tasks) - 1
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
        for stage in reversed(range(len(self.tasks))):
            if (living if stage in wanted else done)[stage] < self.tasks[stage]:
                wanted.update(self.record.accepted.parents[stage])
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
    staging = Path(prepared.spec.staging)
    for task, done in record.done.items():
        # What was not made durable may look whole after the system went down, and not be.
        trusted = not done.result.parts or record.boots.get(done.epoch) == boot_id()
        if not published and not (trusted and all(_is_there(staging, part) for part in done.result.parts)):
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


def _is_there(staging: Path, part: PartFile) -> bool:
    try:
        return (staging / part.staged).stat().st_size == part.size_bytes
    except OSError:
        return False


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


def taken_up(record: JobRecord, now: float) -> JobTakenUp:
    """The fact that a coordinator goes on with a job."""
    return JobTakenUp(record.job, record.epoch + 1, now, boot_id())


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
