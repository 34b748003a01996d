"""``--resume``: find the interrupted run of the same job, and take it up where it stood.

The same job is one with the same stage keys: its code, inputs, parameters and options, and the versions of Python and
Gristmill. It goes on with the code that was noted when it began.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from gristmill.config import PYTHON_VERSION, VERSION, JobOptions
from gristmill.errors import JournalFailed
from gristmill.plan.keys import what_changed
from gristmill.plan.stages import InputSpec, StagePlan
from gristmill.runtime.coordinator.job_records import JobRecord, fold
from gristmill.runtime.coordinator.jobs import PreparedJob
from gristmill.runtime.coordinator.recovery import input_state, restore
from gristmill.runtime.coordinator.resumption import Resumption
from gristmill.runtime.files.jobfolder import JobFolder, dead_jobs
from gristmill.runtime.journal.journal import JOURNAL, Journal

if TYPE_CHECKING:
    from gristmill.api.prepare import Submission
    from gristmill.storage.inputs import InputFile

_NAMED_FILES = 1000
_OUTPUT = "option -o"
_CANDIDATES = 100  # interrupted jobs that are looked at, the youngest first


@dataclass(frozen=True)
class TakenUp:
    """An interrupted job that goes on."""

    prepared: PreparedJob
    resumption: Resumption
    folder: JobFolder

    @property
    def notice(self) -> str:
        """What to tell the user."""
        done, tasks = self.resumption.count_done(), sum(self.resumption.tasks)
        return f"Resuming job {self.folder.job}: {done:,} of {tasks:,} tasks are done."


def ingredients_of(
    submission: Submission, files: Sequence[InputFile], plan: StagePlan, reducers: int
) -> Mapping[str, str]:
    """All that a job's output follows from, by name; see ``plan.keys``."""
    from gristmill.storage.places import absolute_place

    options = submission.options
    code = {"code": hashlib.sha256(submission.code).hexdigest()}
    others = hashlib.sha256()
    for file in files[_NAMED_FILES:]:
        others.update(f"{file.place} {_state_of(file)}\n".encode("utf-8", "surrogateescape"))
    chosen = {
        "-o": "" if submission.output is None else absolute_place(submission.output),
        "--reducers": str(reducers) if len(plan.stages) > 1 else "",
        "--split-size": str(options.split_bytes or ""),
        "--input-format": options.input_format or "",
        "--output-format": submission.format if submission.output is not None else "",  # that one is internal
        "--no-combiner": "" if options.combiner else "given",
        "--max-bad-records": str(options.max_bad_records),
        "--max-record-size": str(options.max_record_bytes),
        "--shuffle-dir": options.shuffle_dir or "",
    }
    return {
        **{f"source {name}": digest for name, digest in (submission.sources or code).items()},
        **{f"option {name}": value for name, value in chosen.items()},
        **{f"option {name} of input {number}": value for number, name, value in _reading(submission.inputs)},
        **{f"parameter {name}": repr(value) for name, value in options.params.items()},
        **{f"input {file.place}": _state_of(file) for file in files[:_NAMED_FILES]},
        **({"input files beyond the first thousand": others.hexdigest()} if len(files) > _NAMED_FILES else {}),
        "version Python": PYTHON_VERSION,
        "version Gristmill": VERSION,
    }


def _reading(inputs: Sequence[InputSpec]) -> Iterator[tuple[int, str, str]]:
    """How the inputs are read."""
    for number, spec in enumerate(inputs, 1):
        for name, value in (("format", spec.format), *spec.options):
            if value:
                yield number, name, value


def _state_of(file: InputFile) -> str:
    return input_state(file.size_bytes, file.changed_ns)


def take_up(name: str, keys: tuple[str, ...], ingredients: Mapping[str, str], options: JobOptions) -> TakenUp | str:
    """Find the interrupted run of a job, and take it over; or say why it begins afresh.

    Args:
        name: the job's.
        keys: its stage keys.
        ingredients: what these were made of.
        options: how it is to run now.

    Raises:
        UsageError: its output cannot be written.
    """
    reason = "--resume: there is nothing to resume; starting afresh."
    others: list[tuple[bool, int, str]] = []  # what differs in little comes first, and the youngest of those
    for path, facts in dead_jobs(options.data_dir)[:_CANDIDATES]:
        if facts.get("name") != name or facts.get("state") == "succeeded":
            continue
        try:
            record = _record_of(path)
            if record is None:
                continue
            if tuple(record.accepted.prepared["stage_keys"]) == keys:
                if (taken := _take_over(path, record, options)) is not None:
                    return taken
                reason = f"--resume: starting afresh: job {path.name} is being taken up by another process."
            else:
                before = record.accepted.prepared["ingredients"]
                differ = [name for name in {**ingredients, **before} if before.get(name) != ingredients.get(name)]
                changes = f"{what_changed(before, ingredients)} since job {path.name}."
                others.append((_OUTPUT in differ, len(differ), changes))
        except JournalFailed as error:
            others.append((True, len(ingredients), str(error)))
    if others:
        return f"--resume: starting afresh: {min(others, key=lambda other: other[:2])[-1]}"
    return reason


def _record_of(path: Path) -> JobRecord | None:
    """How a job of this machine stands, but for its tasks; None if it was never accepted."""
    return fold(Journal(path / JOURNAL).jobs()).get(path.name)


def _take_over(path: Path, record: JobRecord, options: JobOptions) -> TakenUp | None:
    folder = JobFolder.adopt(path)
    if folder is None:
        return None
    try:
        journal = Journal(path / JOURNAL)
        record = fold(journal.facts(record.job))[record.job]
        mode = "overwrite" if options.overwrite else "error"
        prepared, resumption = restore(record, journal.blobs(record.job), mode=mode)
    except BaseException:
        folder.release()
        raise
    return TakenUp(_with_options(prepared, options), resumption, folder)


def _with_options(prepared: PreparedJob, options: JobOptions) -> PreparedJob:
    """The job as it was, run as the options say now. What would change its result is the same: see the keys."""
    spec = replace(
        prepared.spec,
        memory_bytes=options.executor_memory_bytes,
        task_timeout_seconds=options.task_timeout_seconds,
    )
    return replace(
        prepared,
        spec=spec,
        max_attempts=options.max_attempts,
        priority=options.priority,
        task_cpus=options.task_cpus or 1.0,
        task_memory_bytes=options.task_memory_bytes,
        speculation=options.speculation,
    )
