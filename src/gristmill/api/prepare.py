"""From a submission to what a coordinator runs: inputs are found and cut, stages planned, the output's place prepared.

A :class:`Submission` is plain data and opaque bytes: a server can prepare a job without loading any of its code.
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gristmill.api.asked import Asked
from gristmill.api.places import roots_of
from gristmill.config import JobOptions
from gristmill.errors import OutputNotWritable, UsageError
from gristmill.plan.keys import stage_keys
from gristmill.plan.stages import InputSpec, OutputSink, StagePlan
from gristmill.runtime.contracts import KEPT_SHARE, JobSpec
from gristmill.runtime.coordinator.jobs import JobOutput, NoOutput, PreparedJob

if TYPE_CHECKING:
    from gristmill.api.resume import TakenUp
    from gristmill.runtime.coordinator.resumption import Resumption
    from gristmill.runtime.files.jobfolder import JobFolder
    from gristmill.storage.inputs import InputFile

_SAMPLE_FILES = 1000
PRIVATE_FORMAT = "pickle"  # of results that only this process reads
_MADE = "made"  # the format of splits that are made, not read


@dataclass(frozen=True, kw_only=True)
class Submission:
    """A job, ready to be handed over.

    Attributes:
        name: for people.
        code: ``JobCode``, pickled by value; opaque to whoever prepares it.
        plan: its stages; the partitions that follow from the inputs' size are 0.
        inputs: what the user named.
        output: the folder where the result is to appear; None: in the job's own folder, for its owner alone.
        options: how to run it, with the job's own wishes filled in.
        import_paths: where executors look for modules.
        bundles: zip files that came along with the job: paths, or the SHA-256 of what was uploaded.
        broadcasts: files with the values of broadcasts, or the SHA-256 of what was uploaded.
        driver: it is a program with jobs of its own.
        sources: what the code is made of: the SHA-256 of each file by its name. Empty when that is not known.
        base: the folder that relative inputs are relative to; empty: the current one of this process.
        session: the session that the job belongs to; empty: none.
        session_ticket: opens the blocks that it keeps.
        origins: see ``PreparedJob``.
        mode: what becomes of an output that is there: ``error``, ``overwrite`` or ``append``.
        reducers: the number to choose if the user did not; 0: it follows from the inputs.
    """

    name: str
    code: bytes
    plan: StagePlan
    inputs: tuple[InputSpec, ...]
    output: str | None
    options: JobOptions
    import_paths: tuple[str, ...] = ()
    bundles: tuple[str, ...] = ()
    broadcasts: tuple[str, ...] = ()
    driver: bool = False
    sources: Mapping[str, str] = field(default_factory=dict)
    base: str = ""
    session: str = ""
    session_ticket: str = ""
    origins: tuple[str, ...] = ()
    mode: str = "error"
    reducers: int = 0

    @property
    def format(self) -> str:
        """What the output holds."""
        sink = self.plan.stages[-1].sink
        return sink.format if isinstance(sink, OutputSink) else ""


@dataclass(frozen=True)
class Preparation:
    """A job that can be submitted, and where its files are. Until it is, :meth:`undo` leaves nothing of it.

    Attributes:
        resumption: what is done of it already, if an interrupted run is taken up.
        notice: what became of ``--resume``, for the user; empty if it was not asked for.
    """

    prepared: PreparedJob
    folder: JobFolder
    undo: Callable[[], None]
    resumption: Resumption | None = None
    notice: str = ""


def prepare(submission: Submission, *, job: str = "", tidy: bool = True) -> Preparation:
    """Make everything ready that a job needs before its first task.

    Args:
        submission: the job.
        job: its id, if it has one already (``jobfolder.claim_job``).
        tidy: whether to remove what is kept of old jobs first; whoever prepares many does that now and then.

    Raises:
        UsageError: something is wrong with the inputs or the output; nothing was left behind.
    """
    from gristmill.api.resume import ingredients_of, take_up
    from gristmill.runtime.files.jobfolder import JobFolder
    from gristmill.runtime.files.jobfolder import tidy as tidy_up
    from gristmill.storage.contracts import Split
    from gristmill.storage.inputs import default_reducers, plan_tasks, resolve_inputs
    from gristmill.storage.outputs import open_output
    from gristmill.storage.uris import shown

    options = submission.options
    if not all(spec.paths or spec.made for spec in submission.inputs):
        raise UsageError("There is no input: name at least one file, directory or glob.")
    found = [
        resolve_inputs(spec.paths, spec.format or options.input_format, submission.base, spec.options)
        for spec in submission.inputs
    ]
    files = [file for some in found for file in some]
    splits = tuple(
        tuple((Split("", task, 1, 0, _MADE),) for task in range(spec.made)) or plan_tasks(some, options.split_bytes)
        for spec, some in zip(submission.inputs, found, strict=True)
    )
    made = max((spec.made for spec in submission.inputs), default=0)  # how large that is, nobody knows
    reducers = (
        options.reducers or submission.reducers or max(made, default_reducers(sum(file.size_bytes for file in files)))
    )
    plan = submission.plan.with_reducers(reducers)
    ingredients = ingredients_of(submission, files, plan, reducers)
    keys = stage_keys(plan, ingredients)
    notice = ""
    if options.resume:
        taken = take_up(submission.name, keys, ingredients, options)
        if not isinstance(taken, str):
            return _taken_up(taken)
        notice = taken
    now = time.time()
    if tidy:
        tidy_up(options.data_dir, now)
    with ExitStack() as undo:
        folder = JobFolder.create(options.data_dir, _facts(submission, [file.place for file in files]), now, job)
        undo.callback(folder.remove)
        if shuffle_dir := _shuffle_dir(options.shuffle_dir, submission.base):
            from gristmill.runtime.executor.disks import mark_shared

            mark_shared(shuffle_dir, folder.job)
        output: JobOutput
        mode = submission.mode if submission.mode != "error" or not options.overwrite else "overwrite"
        place = staged_at = ""
        if submission.output is None and not submission.format:
            output = NoOutput()
        else:
            opened = open_output(submission.output or folder.path / "output", folder.job, mode, folder.path)
            undo.callback(opened.abort)
            output, place, staged_at = opened, opened.place, opened.staged_at
            folder.update(staging=staged_at)
        prepared = PreparedJob(
            spec=_job_spec(submission, folder, staged_at, _sample(files)),
            name=submission.name,
            plan=plan,
            splits=splits,
            output=output,
            output_path=None if submission.output is None else shown(submission.output),
            max_attempts=options.max_attempts,
            place=place,
            mode=mode,
            priority=options.priority,
            task_cpus=0.0 if submission.driver else options.task_cpus or 1.0,  # it waits for the tasks of others
            task_memory_bytes=options.task_memory_bytes,
            speculation=options.speculation,
            deaths_expected=options.deaths_expected,
            stage_keys=keys,
            ingredients=ingredients,
            origins=submission.origins,
            asked=Asked.of(submission, reducers if any(stage.parents for stage in plan.stages) else 0).to_json(),
            reads=roots_of((path for spec in submission.inputs for path in spec.paths), submission.base),
        )
        return Preparation(prepared, folder, undo.pop_all().close, notice=notice)


def check_replaced(prepared: PreparedJob) -> None:
    """See that what a job replaces is an output: a server does that with its own rights, not with the submitter's.

    Raises:
        OutputNotWritable: something else is there.
    """
    from gristmill.storage.outputs import stranger_in

    if prepared.output_path is None or prepared.mode != "overwrite":
        return
    try:
        stranger = stranger_in(prepared.place)
    except OSError as error:
        raise OutputNotWritable(f"The output {prepared.output_path} cannot be looked at: {error}.") from error
    if stranger:
        raise OutputNotWritable(
            f"The output {prepared.output_path} is not replaced: {stranger} is there, which no job has written. A "
            "server replaces outputs alone. Remove what is there yourself, or name another place."
        )


def _taken_up(found: TakenUp) -> Preparation:
    def undo() -> None:
        found.prepared.output.abort(Path(found.prepared.spec.folder, KEPT_PARTS))
        found.folder.update(state="cancelled")
        found.folder.release()

    from gristmill.runtime.coordinator.recovery import KEPT_PARTS

    return Preparation(found.prepared, found.folder, undo, found.resumption, found.notice)


def _facts(submission: Submission, files: list[str]) -> Mapping[str, Any]:
    """What ``job.json`` says about a job."""
    from gristmill.storage.places import absolute_place

    options = submission.options
    chosen = {name: value for name, value in vars(options).items() if name not in ("data_dir", "params")}
    return {
        "name": submission.name,
        "inputs": files[:1000],
        "input_files": len(files),
        "output": None if submission.output is None else absolute_place(submission.output),
        "options": chosen,
        "shuffle_dir": _shuffle_dir(options.shuffle_dir, submission.base),
        "params": {key: repr(value) for key, value in options.params.items()},
        "cwd": os.getcwd(),  # noqa: PTH109 - as it is, not resolved
        **({"passes": True} if submission.session else {}),  # nobody can take it up if its session is gone
    }


def _sample(files: Sequence[InputFile]) -> tuple[tuple[str, int], ...]:
    """Some of the inputs, from all over: workers look whether they see the same. What is behind a URI, all see."""
    local = [file for file in files if file.is_local]
    return tuple((file.path, file.size_bytes) for file in local[:: len(local) // _SAMPLE_FILES + 1])


def _job_spec(submission: Submission, folder: JobFolder, staging: str, inputs: tuple[tuple[str, int], ...]) -> JobSpec:
    options = submission.options
    return JobSpec(
        job=folder.job,
        code=submission.code,
        import_paths=submission.import_paths,
        bundles=submission.bundles,
        staging=staging,
        folder=str(folder.path),
        memory_bytes=options.executor_memory_bytes,
        max_bad_records=options.max_bad_records,
        max_record_bytes=options.max_record_bytes,
        task_timeout_seconds=options.task_timeout_seconds,
        ticket=secrets.token_hex(16),
        inputs=inputs,
        shuffle_dir=_shuffle_dir(options.shuffle_dir, submission.base),
        session=submission.session,
        session_ticket=submission.session_ticket,
        keep_bytes=options.executor_memory_bytes * options.executor_count // KEPT_SHARE,
        begun=time.time(),
        broadcasts=submission.broadcasts,
        driver=submission.driver,
    )


def _shuffle_dir(named: str | None, base: str) -> str:
    """Shared storage for blocks as all workers name it: an absolute path or a URI; empty if there is none."""
    if not named or "://" in named:
        return named or ""
    return os.path.abspath(os.path.join(base, named))  # noqa: PTH100, PTH118 - links are kept
