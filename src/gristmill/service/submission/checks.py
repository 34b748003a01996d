"""What a server looks at before it takes a job in: that it can be run at all, and sees what its client sees.

Whoever submits jobs may run code, but only in executors: what reaches the coordinator must be what our own clients
make.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from gristmill.api.messages import SubmitRequest
from gristmill.api.prepare import Preparation, Submission
from gristmill.config import OUTPUT_FORMATS, JobOptions
from gristmill.errors import PathNotShared, UsageError
from gristmill.plan.stages import (
    Branch,
    InputSpec,
    OutputSink,
    Reads,
    RowsSink,
    ShuffleSink,
    ShuffleSource,
    SplitSource,
    Stage,
    StagePlan,
)
from gristmill.runtime.coordinator.jobs import PreparedJob
from gristmill.service.submission.wishes import COMMANDS, MAX_TASKS

_CLOCKS_SECONDS = 2.0  # file systems keep times of change more or less exactly
_MAX_STAGES = 2000
_MAX_NAME = 200
_MAX_KEY = 255
_MAX_DEEP = 2
_LARGE = 2**60
_COMMANDS = re.compile(f"[{COMMANDS}]")

ONLY_THE_CLIENT = "The machine that submits the job sees it, but the server does not: put it where all workers see it."

_INT, _NUMBER = (int,), (int, float)
_OPTIONS: dict[str, tuple[tuple[type, ...], float, float]] = {
    "reducers": (_INT, 1, MAX_TASKS),
    "split_bytes": (_INT, 1, _LARGE),
    "max_attempts": (_INT, 1, 2**31),
    "max_bad_records": (_INT, 0, _LARGE),
    "max_record_bytes": (_INT, 1, _LARGE),
    "priority": (_INT, -(2**31), 2**31),
    "task_memory_bytes": (_INT, 0, _LARGE),
    "task_cpus": (_NUMBER, 0, 1e6),
    "task_timeout_seconds": (_NUMBER, 0, 1e9),
    "deadline_seconds": (_NUMBER, 0, 1e9),
}
"""Of what type each option is, the least and the most."""
_OPTIONAL = ("reducers", "split_bytes", "task_cpus", "task_timeout_seconds", "deadline_seconds")
_FLAGS = ("overwrite", "combiner", "speculation", "deaths_expected")


def checked(submission: Submission) -> Submission:
    """A submission that holds nothing but what our own clients send; its name as it can be written anywhere.

    Raises:
        UsageError: it holds something else.
    """
    _check_options(submission.options)
    _check_inputs(submission.inputs)
    _check_plan(submission.plan, len(submission.inputs))
    if submission.output is not None:
        check_text("output", submission.output)
    check_text("base", submission.base)
    if submission.base and (not os.path.isabs(submission.base) or "://" in submission.base):  # noqa: PTH117
        raise UsageError(f"The folder {submission.base!r} of relative paths is not absolute.")
    name = _COMMANDS.sub("?", submission.name.encode("utf-8", "replace").decode())[:_MAX_NAME] or "job"
    return submission if name == submission.name else replace(submission, name=name)


def paths_named(request: SubmitRequest) -> list[str]:
    """All paths and URIs that a client names: what its job reads and writes, and what the server is to look at."""
    job = request.submission
    inputs = (path for spec in job.inputs for path in spec.paths)
    shuffle_dir = job.options.shuffle_dir
    named = [*(_from(job.base, path) for path in inputs), *(file.path for file in request.seen)]
    return [*named, *filter(None, [job.output, request.probe, shuffle_dir and _from(job.base, shuffle_dir)])]


def places_written(job: Submission) -> list[str]:
    """The places that a job writes to, and may replace as a whole."""
    shuffle_dir = job.options.shuffle_dir
    return [*filter(None, [job.output, shuffle_dir and _from(job.base, shuffle_dir)])]


def paths_found(prepared: PreparedJob) -> Iterator[str]:
    """All that a job reads and writes, once its inputs are found."""
    yield from {split.path for tasks in prepared.splits for task in tasks for split in task if split.path}
    if prepared.output_path is not None:
        yield prepared.place
    if prepared.spec.shuffle_dir:
        yield prepared.spec.shuffle_dir


def _from(base: str, name: str) -> str:
    """A path as planning takes it: a relative one begins at the client's folder."""
    return name if "://" in name else os.path.join(base, name)  # noqa: PTH118


def check_text(what: str, text: str) -> None:
    """See that a text can be written anywhere.

    Raises:
        UsageError: it cannot.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        raise UsageError(f"The {what} {text!r} is not Unicode text.") from None
    if "\x00" in text:
        raise UsageError(f"The {what} {text!r} has a NUL in it.")


def check_key(key: str) -> None:
    """See that this can be an idempotency key.

    Raises:
        UsageError: it cannot.
    """
    if len(key) > _MAX_KEY or not key.isprintable() or not key.isascii():
        raise UsageError(f"An Idempotency-Key is at most {_MAX_KEY} printable characters of ASCII.")


def _check_options(options: JobOptions) -> None:
    for name, (types, least, most) in _OPTIONS.items():
        value = getattr(options, name)
        if value is None and name in _OPTIONAL:
            continue
        if type(value) not in types or not least <= value <= most:
            raise UsageError(f"The option {name} cannot be {value!r}: it must lie between {least:,} and {most:,}.")
    for name in _FLAGS:
        if type(getattr(options, name)) is not bool:
            raise UsageError(f"The option {name} cannot be {getattr(options, name)!r}.")
    if not isinstance(options.params, Mapping) or not all(isinstance(name, str) for name in options.params):
        raise UsageError(f"The option params cannot be {options.params!r}.")
    if options.shuffle_dir is not None:
        if not isinstance(options.shuffle_dir, str):
            raise UsageError(f"The option shuffle_dir cannot be {options.shuffle_dir!r}.")
        check_text("option shuffle_dir", options.shuffle_dir)


def _check_inputs(inputs: Iterable[InputSpec]) -> None:
    for one in inputs:
        _see(_all(one.paths, str) and isinstance(one.format, str), "an input")
        _see(type(one.made) is int and 0 <= one.made <= MAX_TASKS, "the number of tasks that make an input")
        _see(_pairs(one.options), "the options of an input")
        if any("\x00" in path for path in one.paths):
            raise UsageError("An input has a NUL in its name.")
        if any(path.split("/").count("**") > _MAX_DEEP for path in one.paths):
            raise UsageError(f"A glob on a server has at most {_MAX_DEEP} **: more take for ever.")


def _check_plan(plan: StagePlan, inputs: int) -> None:
    _see(1 <= len(plan.stages) <= _MAX_STAGES and plan.added == 0, "the number of stages")
    for stage in plan.stages:
        branches = [*stage.branches, *(branch for one in stage.instead for branch in one.branches)]
        _see(bool(stage.branches) and len(stage.name) <= 10_000, "a stage")
        for branch in branches:
            _check_branch(branch, stage, inputs)
        for one in stage.instead:
            _see(_places([one.streamed, one.whole], stage.id), "what a stage could do instead")
        _check_sink(stage, last=stage is plan.stages[-1])


def _check_branch(branch: Branch, stage: Stage, inputs: int) -> None:
    _see(bool(branch.sources) and not branch.turns and _places(branch.splits, len(branch.sources)), "a branch")
    for source in branch.sources:
        if isinstance(source, SplitSource):
            _see(_places([source.input], inputs), "the input of a stage")
        else:
            _see(isinstance(source, ShuffleSource) and _places([source.parent], stage.id), "the parent of a stage")
            assert isinstance(source, ShuffleSource)
            _see(type(source.step) is int and isinstance(source.reads, Reads), "how a stage reads its parent")
    for op in branch.ops:
        _see(all(type(value) is int and value >= 0 for value in vars(op).values()), "what a stage does")


def _check_sink(stage: Stage, *, last: bool) -> None:
    sink = stage.sink
    match sink:
        case ShuffleSink(step, partitions):
            _see(not last and type(step) is int and type(partitions) is int, "where a stage writes")
            _see(0 <= partitions <= MAX_TASKS, "the number of partitions")
        case RowsSink(kept, first):
            _see(isinstance(kept, str) and type(first) is int and first >= 0, "what is kept of a stage")
        case OutputSink(format, letter, options):
            _see(last and format in (*OUTPUT_FORMATS, "pickle") and letter in ("m", "r"), "the output's format")
            _see(_pairs(options), "the options of the output")
        case _:
            _see(False, "where a stage writes")


def _see(right: bool, what: str) -> None:
    if not right:
        raise UsageError(f"This is not a job: {what} makes no sense.")


def _all(values: Any, kind: type) -> bool:
    return isinstance(values, tuple) and all(isinstance(value, kind) for value in values)


def _pairs(values: Any) -> bool:
    return isinstance(values, tuple) and all(_all(pair, str) and len(pair) == 2 for pair in values)


def _places(values: Iterable[Any], below: int) -> bool:
    return all(type(value) is int and 0 <= value < below for value in values)


# What the client sees


def check_sight(request: SubmitRequest) -> None:
    """See that the client's paths lead to the same files here.

    Raises:
        PathNotShared: they do not.
    """
    if request.probe and not os.path.exists(request.probe):  # noqa: PTH110 - as the client wrote it
        raise PathNotShared(
            f"The output {request.submission.output} is not to be written: its folder is another one on the server "
            "than on the machine that submits the job. Name one that all workers see."
        )
    for file in request.seen:
        try:
            status = os.stat(file.path)  # noqa: PTH116 - a path as the client wrote it
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or error
            raise PathNotShared(f"The input {file.path}: {why}. {ONLY_THE_CLIENT}") from error
        if status.st_size != file.size_bytes:
            raise PathNotShared(
                f"The input {file.path} is another file on the server ({status.st_size:,} bytes) than on the machine "
                f"that submits the job ({file.size_bytes:,} bytes). Put it where all workers see it."
            )
        if abs(status.st_mtime - file.changed) > _CLOCKS_SECONDS:
            raise PathNotShared(
                f"The input {file.path} is another file on the server than on the machine that submits the job: it "
                "was changed at another time. Put it where all workers see it."
            )


def check_count(request: SubmitRequest, preparation: Preparation) -> None:
    """See that there are as many inputs here as the client sees.

    Raises:
        PathNotShared: there are not.
    """
    here = int(preparation.folder.facts.get("input_files", 0))
    if request.seen_files and here != request.seen_files:
        raise PathNotShared(
            f"The inputs are {here:,} files on the server and {request.seen_files:,} on the machine that submits the "
            "job. Put them where all workers see them."
        )
