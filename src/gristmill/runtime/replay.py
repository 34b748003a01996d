"""One task again, alone, in this process: the code and the input that it had, and an output that nobody needs.

:func:`find_task` looks into the journals of a data directory. A :class:`Replay` runs the task, and before that those
whose blocks it reads and that are gone: workers delete a job's blocks at its end, and what all have read goes earlier.
"""

from __future__ import annotations

import re
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from gristmill.errors import FailureReport, JobNotFound, UsageError
from gristmill.plan.stages import OutputSink, StagePlan
from gristmill.runtime.contracts import JobSpec, Progress, TaskEnvironment, TaskResult, TaskSpec
from gristmill.runtime.coordinator.job_records import JobRecord, fold
from gristmill.runtime.coordinator.jobs import PreparedJob
from gristmill.runtime.coordinator.recovery import read_job
from gristmill.runtime.coordinator.tally import JobTally
from gristmill.runtime.executor.attempts import load_code
from gristmill.runtime.files.blobs import BlobStore, is_blob_name
from gristmill.runtime.journal.facts import TaskDone
from gristmill.runtime.journal.journal import JOURNAL, Journal
from gristmill.runtime.journal.signing import check_signature, read_key
from gristmill.scheduling.events import AttemptId

if TYPE_CHECKING:
    from gristmill.storage.contracts import PartFile, Split

_ATTEMPT = re.compile(r"(?:.*-)?s(\d+)-t(\d+)(?:-a\d+)?(?:-e\d+)?(?:\.log)?")
_PLACE = re.compile(r"(.+?)(?: task |[/ ])(\d+)")
_SHOWN = 5


@dataclass(frozen=True)
class Task:
    """A task that can run again.

    Attributes:
        job: its job.
        attempt: which one.
        name: for people.
        tally: what is known of the job's other tasks.
        missing: those that have to run again first, in that order: the task reads their blocks, which are gone.
        failed: the report of the attempt that ended the job, if that was one at this task.
    """

    job: JobSpec
    attempt: AttemptId
    name: str
    tally: JobTally
    missing: tuple[AttemptId, ...] = ()
    failed: FailureReport | None = None

    @property
    def missing_bytes(self) -> int:
        """How much input those have to read."""
        return sum(split.size_bytes for attempt in self.missing for split in self._splits(attempt))

    @property
    def notices(self) -> list[str]:
        """What is missing, for people: a line for each stage."""
        stages = Counter(attempt.stage for attempt in self.missing)
        return [_gone(self.tally.plan.stages[stage].name, count) for stage, count in sorted(stages.items())]

    def _splits(self, attempt: AttemptId) -> tuple[Split, ...]:
        reads_input = not self.tally.plan.stages[attempt.stage].reads_shuffle
        return self.tally.spec_for(attempt).splits if reads_input else ()


def _gone(stage: str, count: int) -> str:
    if count == 1:
        return f"The block of a {stage} task is gone: running that task again first."
    return f"The blocks of {count:,} {stage} tasks are gone: running them again first."


def find_task(data_dir: Path, job: str, task: str) -> Task:
    """Find a task of a job of this machine, or of a server with this data directory.

    Args:
        data_dir: where jobs have their folders.
        job: the job's id, or how it begins.
        task: ``map/3``, a stage's number in place of its name, or an attempt as logs and messages name it.

    Raises:
        JobNotFound: there is no such job, or several.
        UsageError: it has no such task, or has succeeded.
        JournalFailed: the journal cannot be read.
        PayloadAltered: it does not hold what its server has accepted.
    """
    journal, id = _find_job(data_dir.absolute(), job)
    record = fold(journal.facts(id))[id]
    blobs = journal.blobs(id)
    if not blobs:
        raise UsageError(f"Job {id} has succeeded: nothing is kept of it that could be run again.")
    if journal.path == data_dir.absolute() / JOURNAL:  # of a server, which has signed it
        check_signature(_key_of(data_dir.absolute()), record.accepted, blobs)
    prepared = _at_home(read_job(record, blobs), data_dir)
    tally = JobTally(id, prepared.name, prepared.plan, prepared.splits)
    stage, index = _place_of(prepared.plan, tally.task_counts(), task)
    for done in record.done.values():
        tally.restored(done.attempt, done.result, has_block=False)
    attempt = AttemptId(id, stage, index, 1)
    name = f"{prepared.plan.stages[stage].name} task {index}"
    missing = _missing(prepared.plan, record, tally.task_counts(), attempt)
    return Task(prepared.spec, attempt, name, tally, missing, _failure_of(record, name))


def _key_of(data_dir: Path) -> bytes:
    try:
        return read_key(data_dir)
    except (OSError, ValueError) as error:
        raise UsageError(f"The signing key in {data_dir} cannot be read: {error}. Is this your server's?") from error


def _find_job(data_dir: Path, name: str) -> tuple[Journal, str]:
    found: dict[str, Journal] = {}
    for path in (data_dir / "jobs").glob(f"*/{JOURNAL}"):
        if path.parent.name.startswith(name):
            found[path.parent.name] = Journal(path)
    served = Journal(data_dir / JOURNAL)
    found.update({job: served for job in fold(served.jobs()) if job.startswith(name)})
    if name in found:
        return found[name], name
    if not found:
        raise JobNotFound(
            f"There is no job {name} in {data_dir}. Jobs that have succeeded leave nothing to replay; for another "
            f"data directory there is --data-dir."
        )
    if len(found) > 1:
        shown = ", ".join(sorted(found, reverse=True)[:_SHOWN])
        raise JobNotFound(f"Several jobs begin with {name}: {shown}{' …' if len(found) > _SHOWN else ''}.")
    [(job, journal)] = found.items()
    return journal, job


def _at_home(prepared: PreparedJob, data_dir: Path) -> PreparedJob:
    """What came along with a server's job is named by its content there, and by its path here."""
    store = BlobStore(data_dir.absolute() / "blobs")
    for name in filter(is_blob_name, prepared.spec.bundles):
        if not store.holds(name):
            raise UsageError(f"What came along with the job is not in {data_dir} any more, or was altered there.")
    bundles = tuple(str(store.path(name)) if is_blob_name(name) else name for name in prepared.spec.bundles)
    return replace(prepared, spec=replace(prepared.spec, bundles=bundles))


def _place_of(plan: StagePlan, counts: tuple[int, ...], text: str) -> tuple[int, int]:
    """The stage and the index that a task's name says."""
    if match := _ATTEMPT.fullmatch(text):
        stage, index = int(match[1]), int(match[2])
    elif match := _PLACE.fullmatch(text):
        names = [stage.name for stage in plan.stages]
        word, index = match[1], int(match[2])
        stage = names.index(word) if word in names else int(word) if word.isdecimal() else len(names)
    else:
        stage = index = len(plan.stages)
    if stage < len(counts) and index < counts[stage]:
        return stage, index
    there = [
        f"{stage.name}/0" + (f" to {stage.name}/{count - 1}" if count > 1 else "")
        for stage, count in zip(plan.stages, counts, strict=True)
        if count
    ]
    raise UsageError(f"The job has no task {text!r}. It has: {', '.join(there)}.")


def _missing(plan: StagePlan, record: JobRecord, counts: Sequence[int], attempt: AttemptId) -> tuple[AttemptId, ...]:
    """What an attempt needs and is not there, with what that needs in turn: first what the others read."""
    found: dict[AttemptId, None] = {}
    for parent in plan.stages[attempt.stage].parents:
        tasks = [AttemptId(attempt.job, parent, index, 1) for index in range(counts[parent])]
        missing = [task for task in tasks if not _is_there(record.done.get(task.task))]
        if missing:  # each of them may read blocks of all tasks before
            found |= dict.fromkeys((*_missing(plan, record, counts, missing[0]), *missing))
    return tuple(found)


def _is_there(done: TaskDone | None) -> bool:
    if done is None or done.result.block is None:
        return False
    path = done.result.block.path
    return not path or "://" in path or Path(path).exists()  # without rows there is no file


def _failure_of(record: JobRecord, name: str) -> FailureReport | None:
    report = getattr(record.ended.outcome.error, "report", None) if record.ended is not None else None
    return report if isinstance(report, FailureReport) and report.details.get("task") == name else None


@contextmanager
def scratch_folder(task: Task) -> Iterator[Path]:
    """A folder for what the task writes, below its job's; gone at the end."""
    folder = Path(task.job.folder, "replay")
    shutil.rmtree(folder, ignore_errors=True)
    for name in ("blocks", "scratch", "staging/attempts"):
        (folder / name).mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class Replay:
    """Runs a task again in this process. Imports find the job's own modules first from its making on.

    Args:
        task: what to run.
        folder: where it writes; see :func:`scratch_folder`.
    """

    def __init__(self, task: Task, folder: Path) -> None:
        from gristmill.runtime.executor.modules import JobModules

        JobModules().enter(task.job)
        self._task = task
        self._folder = folder
        self._code = load_code(task.job)

    @property
    def spec(self) -> TaskSpec:
        """What the task works on. To be asked when nothing is missing any more."""
        return self._spec(self._task.attempt)

    def make_up(self) -> None:
        """Run what is missing.

        Raises:
            TaskError: that failed.
        """
        for attempt in self._task.missing:
            self._task.tally.accepted(attempt, self._run(self._spec(attempt)))

    def run(self) -> TaskResult:
        """Run the task.

        Raises:
            TaskError: it failed. What user code raised is its cause.
        """
        return self._run(self.spec)

    def _spec(self, attempt: AttemptId) -> TaskSpec:
        spec = self._task.tally.spec_for(attempt)
        return replace(spec, blocks=tuple(replace(block, worker="") for block in spec.blocks))

    def _run(self, spec: TaskSpec) -> TaskResult:
        from gristmill.runtime.executor.task import run_task

        here = replace(self._task.job, staging=str(self._folder / "staging"), folder=str(self._folder), shuffle_dir="")
        folders = str(self._folder / "scratch"), str(self._folder / "blocks")
        env = TaskEnvironment(here, here.file_name(spec.attempt), *folders)
        return run_task(self._code, spec, env, Progress())


def user_traceback(error: BaseException) -> TracebackType | None:
    """Where it was raised: of the first cause that has a traceback."""
    found = error.__traceback__
    cause: BaseException | None = error
    while cause is not None:
        found = cause.__traceback__ or found
        cause = cause.__cause__
    return found


def format_of(spec: TaskSpec) -> str:
    """The format of the parts that a task writes; empty if it writes none."""
    return spec.stage.sink.format if isinstance(spec.stage.sink, OutputSink) else ""


def first_lines(result: TaskResult, folder: Path, format: str, limit: int) -> list[str]:
    """The first pairs that a task made, as lines of text."""
    lines: list[str] = []
    for key, values in _pairs(result, folder, format):
        lines += [f"{key!r}\t{value!r}" for value in values]
        if len(lines) >= limit:
            break
    return lines[:limit]


def _pairs(result: TaskResult, folder: Path, format: str) -> Iterator[tuple[Any, Iterator[Any]]]:
    from gristmill.compute.group import groups
    from gristmill.shuffle.blocks import read_segment
    from gristmill.storage.writers import read_part

    if result.block is not None and result.block.path:
        for partition in range(len(result.block.segments)):
            yield from groups(read_segment(result.block, partition))
    parts: tuple[PartFile, ...] = result.parts
    for part in parts:
        if part.final.startswith("part-"):
            for keys, values in read_part(folder / "staging" / part.staged, format):
                yield from ((key, iter([value])) for key, value in zip(keys, values, strict=True))
