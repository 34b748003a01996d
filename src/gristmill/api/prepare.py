"""From a submission to what a coordinator runs: inputs are found and cut, stages planned, the output's place prepared.

A :class:`Submission` is plain data and opaque bytes: a server can prepare a job without loading any of its code.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gristmill.config import JobOptions
from gristmill.errors import UsageError
from gristmill.plan.build import StepShape, build_plan
from gristmill.runtime.contracts import JobSpec
from gristmill.runtime.jobs import PreparedJob

if TYPE_CHECKING:
    from gristmill.runtime.jobfolder import JobFolder

_PRIVATE_FORMAT = "pickle"  # of results that only this process reads


@dataclass(frozen=True, kw_only=True)
class Submission:
    """A job, ready to be handed over.

    Attributes:
        name: for people.
        code: ``JobCode``, pickled by value; opaque to whoever prepares it.
        shapes: what the planner needs to know of the code.
        inputs: what the user named.
        output: the folder where the result is to appear; None: in the job's own folder, for its owner alone.
        options: how to run it, with the job's own wishes filled in.
        import_paths: where executors look for modules.
        bundles: zip files that came along with the job: paths, or the SHA-256 of what was uploaded.
        sources: what the code is made of: the SHA-256 of each file by its name. Empty when that is not known.
    """

    name: str
    code: bytes
    shapes: tuple[StepShape, ...]
    inputs: tuple[str, ...]
    output: str | None
    options: JobOptions
    import_paths: tuple[str, ...] = ()
    bundles: tuple[str, ...] = ()
    sources: Mapping[str, str] = field(default_factory=dict)

    @property
    def format(self) -> str:
        """What the output holds."""
        return (self.options.output_format or "text") if self.output is not None else _PRIVATE_FORMAT


@dataclass(frozen=True)
class Preparation:
    """A job that can be submitted, and where its files are. Until it is, :meth:`undo` leaves nothing of it."""

    prepared: PreparedJob
    folder: JobFolder
    undo: Callable[[], None]


def prepare(submission: Submission) -> Preparation:
    """Make everything ready that a job needs before its first task.

    Raises:
        UsageError: something is wrong with the inputs or the output; nothing was left behind.
    """
    from gristmill.runtime.jobfolder import JobFolder, prune
    from gristmill.storage.commit import OutputCommit
    from gristmill.storage.inputs import default_reducers, plan_tasks, resolve_inputs

    options = submission.options
    if not submission.inputs:
        raise UsageError("There is no input: name at least one file, directory or glob.")
    files = resolve_inputs(submission.inputs, options.input_format)
    splits = plan_tasks(files, options.split_bytes)
    reducers = options.reducers or default_reducers(sum(file.size_bytes for file in files))
    plan = build_plan(submission.shapes, reducers=reducers, output_format=submission.format, combiner=options.combiner)
    now = time.time()
    prune(options.data_dir, now)
    with ExitStack() as undo:
        folder = JobFolder.create(options.data_dir, _facts(submission, [str(file.path) for file in files]), now)
        undo.callback(folder.remove)
        path = Path(submission.output) if submission.output is not None else folder.path / "output"
        commit = OutputCommit.prepare(path, folder.job, options.overwrite)
        undo.callback(commit.abort)
        prepared = PreparedJob(
            spec=_job_spec(submission, folder, str(commit.staging)),
            name=submission.name,
            plan=plan,
            splits=splits,
            output=commit,
            output_path=submission.output,
            max_attempts=options.max_attempts,
        )
        return Preparation(prepared, folder, undo.pop_all().close)


def _facts(submission: Submission, files: list[str]) -> Mapping[str, Any]:
    """What ``job.json`` says about a job."""
    options = submission.options
    chosen = {name: value for name, value in vars(options).items() if name not in ("data_dir", "params")}
    return {
        "name": submission.name,
        "inputs": files[:1000],
        "input_files": len(files),
        "output": None if submission.output is None else os.path.abspath(submission.output),  # noqa: PTH100 - links are kept
        "options": chosen,
        "params": {key: repr(value) for key, value in options.params.items()},
        "cwd": os.getcwd(),  # noqa: PTH109 - as it is, not resolved
    }


def _job_spec(submission: Submission, folder: JobFolder, staging: str) -> JobSpec:
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
    )
