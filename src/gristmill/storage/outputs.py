"""Outputs by their places: a folder, or a place on an object store. Which of the two it is, is decided here alone."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from gristmill.errors import UsageError
from gristmill.storage import manifest, objects, staging
from gristmill.storage.commit import LeftOutput, OutputCommit
from gristmill.storage.contracts import PartFile
from gristmill.storage.objects import LeftObjects, ObjectCommit
from gristmill.storage.places import output_path
from gristmill.storage.targets import is_object_uri

MODES = ("error", "overwrite", "append")
"""What becomes of an output that is there: the job is refused, it is replaced, or files are added to it."""


class Output(Protocol):
    """A job's output on its way.

    Attributes:
        published: an earlier process has put it in its place already.
    """

    published: bool

    @property
    def place(self) -> str:
        """Where it appears: a path or a URI."""
        ...

    @property
    def staged_at(self) -> str:
        """Where attempts write, as ``targets.open_target`` takes it."""
        ...

    def commit(self, parts: Sequence[PartFile], summary: Mapping[str, Any]) -> None:
        """Put the output in its place, whole."""
        ...

    def abort(self, keep: Path | None = None) -> None:
        """Leave nothing of it there. What was staged is moved to ``keep``, if that can be done at once."""
        ...


class LeftBehind(Protocol):
    """What is left of the output of a job that is not to go on."""

    def commit(self, parts: Sequence[PartFile], summary: Mapping[str, Any]) -> None:
        """Never called."""
        ...

    def abort(self, keep: Path | None = None) -> None:
        """Leave nothing behind."""
        ...


def open_output(place: str | os.PathLike[str], job: str, mode: str = "error", needed_by: Path | None = None) -> Output:
    """See that an output can be written, and make ready for it.

    Args:
        place: the folder that is to appear, or a URI.
        job: the job's id.
        mode: one of :data:`MODES`.
        needed_by: while this path exists, another process may take the job up, by :func:`adopt_output`.

    Raises:
        OutputExists: something is there, and is neither to be replaced nor added to.
        OutputNotWritable: it cannot be written.
        DiskFull: no space is left there.
        UsageError: there is no such mode.
    """
    check_mode(mode)
    text = output_path(place)
    if is_object_uri(text):
        return ObjectCommit.prepare(text, job, mode, needed_by)
    return OutputCommit.prepare(Path(text), job, mode == "overwrite", needed_by, append=mode == "append")


def adopt_output(
    place: str,
    job: str,
    mode: str,
    parts: Sequence[PartFile],
    needed_by: Path | None = None,
    kept: Path | None = None,
) -> Output:
    """Take over the output of a job whose process is gone; see :meth:`OutputCommit.adopt`.

    Raises:
        OutputExists: somebody else's output is there, and is neither to be replaced nor added to.
        OutputNotWritable: it cannot be written.
        DiskFull: no space is left there.
    """
    if is_object_uri(place):
        return ObjectCommit.adopt(place, job, mode, needed_by)
    overwrite, append = mode == "overwrite", mode == "append"
    return OutputCommit.adopt(Path(place), job, overwrite, parts, needed_by, kept, append=append)


def left_output(place: str, job: str) -> LeftBehind:
    """The output of a job that is not to go on."""
    return LeftObjects(place, job) if is_object_uri(place) else LeftOutput(Path(place), job)


def check_mode(mode: str) -> None:
    """See that there is such a mode.

    Raises:
        UsageError: there is not.
    """
    if mode not in MODES:
        raise UsageError(f"{mode!r} is not a mode of writing; there are: {', '.join(MODES)}.")


def recover(place: str) -> None:
    """Put right what runs that died have left at an output's place; see :func:`staging.recover_output`.

    Raises:
        OSError: what was cut short cannot be completed.
    """
    if place and not is_object_uri(place):
        staging.recover_output(Path(place))


def is_published(place: str, job: str) -> bool:
    """Whether a job's output is in its place.

    Raises:
        OSError: the object store does not answer.
    """
    if not place:
        return False
    return objects.is_published(place, job) if is_object_uri(place) else staging.is_published(Path(place), job)


def state_of(place: str) -> str:
    """Tells what is in an output's place from what was there, or will be; empty when nothing is, or can be seen."""
    return objects.state_of(place) if is_object_uri(place) else staging.state_of(Path(place))


def stranger_in(place: str) -> str:
    """The name of something at an output's place that no job has written; empty if there is none, or nothing at all.

    Raises:
        OSError: it cannot be looked at.
    """
    if is_object_uri(place):
        return objects.stranger_in(place)
    return manifest.stranger_below(Path(place))


def remove_dead(staged_at: str) -> None:
    """Remove what a job has staged, unless its process lives. What cannot be removed stays."""
    if is_object_uri(staged_at):
        objects.remove_dead(staged_at)
    else:
        staging.remove_dead(Path(staged_at))
