"""All or nothing on an object store, where nothing is renamed.

Attempts write files under names of their own, which hold the job's id. The commit writes ``_SUCCESS``, which lists the
accepted ones: an object appears whole, in one step, and so does the output. Files that are not listed do not count; the
commit deletes those of its job's other attempts, and when it replaces an output also the old ones. When files are
added, ``_SUCCESS`` lists the old ones and the new.

While a job is under way there is an object ``_gristmill-ID.json``, which says who has begun it. What a job has left
whose process is gone, and which cannot be taken up again, the next job deletes that has the same output and is begun on
the same machine.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from gristmill.errors import OutputExists, OutputNotWritable
from gristmill.storage import manifest, schemas
from gristmill.storage.contracts import PartFile, is_part_name
from gristmill.storage.failpoints import failpoint
from gristmill.storage.manifest import SUCCESS, ListedFile, Manifest
from gristmill.storage.targets import ObjectTarget, place_of, staging_of, with_mark
from gristmill.storage.uris import shown

_MARKER = "_gristmill-"
_MARKER_SUFFIX = ".json"
_DELETES_AT_ONCE = 16
_REWRITTEN = "s"


class ObjectCommit:
    """One job's output on its way, on an object store. Made by :meth:`prepare` or :meth:`adopt`.

    Attributes:
        output: the URI of the place.
        staging: where attempts write: the same, with the job's id.
        published: an earlier process has completed it already.
    """

    def __init__(self, output: str, job: str, mode: str, published: bool = False) -> None:
        self.output = output
        self.staging = staging_of(output, job)
        self.published = published
        self._job = job
        self._mode = mode
        self._spares = False  # it replaces nothing but a job's output: there was nothing else when the job began
        self._store = _Store(output)

    @property
    def place(self) -> str:
        """Where it appears."""
        return self.output

    @property
    def staged_at(self) -> str:
        """Where attempts write."""
        return self.staging

    @classmethod
    def prepare(cls, output: str, job: str, mode: str, needed_by: Path | None = None) -> ObjectCommit:
        """See that the output can be written.

        Args:
            output: the place; files will be below it.
            job: the job's id.
            mode: ``error``, ``overwrite`` or ``append``.
            needed_by: while this path exists, another process may take the job up and :meth:`adopt` its output.

        Raises:
            OutputExists: something is there, and is neither to be replaced nor added to.
            OutputNotWritable: it cannot be written.
        """
        commit = cls(output, job, mode)
        with _translated(output, "cannot be written"):
            commit._store.clear_dead(output)
            commit._check()
            if mode == "overwrite":
                commit._spares = not stranger_in(output)
            commit._store.mark(job, needed_by)
        failpoint("objects.prepared")
        return commit

    @classmethod
    def adopt(cls, output: str, job: str, mode: str, needed_by: Path | None = None) -> ObjectCommit:
        """Take over the output of a job whose process is gone, wherever in its life that was.

        Raises:
            OutputExists: somebody else's output is there, and is neither to be replaced nor added to.
            OutputNotWritable: it cannot be written.
        """
        with _translated(output, "cannot be written"):
            commit = cls(output, job, mode, is_published(output, job))
            if not commit.published:
                commit._check()
            commit._store.mark(job, needed_by)
        return commit

    def commit(self, parts: Sequence[PartFile], summary: Mapping[str, Any]) -> None:
        """Make the output complete. Only ``parts`` are in it.

        Args:
            parts: the files of the accepted attempts.
            summary: goes into ``_SUCCESS``, with a list of the files.

        Raises:
            OutputExists: somebody has made the output in the meantime, or put something into what is to be replaced.
            OutputNotWritable: a file is not there, or the object store fails.
        """
        failpoint("objects.commit-begun")
        with _translated(self.output, "cannot be completed"):
            if not self.published:
                self._publish(parts, summary)
            failpoint("objects.published")
        with suppress(OSError):  # it is complete; what does not count is in nobody's way
            self._clean()
        failpoint("objects.cleaned")

    def abort(self, keep: Path | None = None) -> None:  # noqa: ARG002 - nothing can be moved there
        """Leave nothing behind. May be called again, and does nothing after a commit."""
        failpoint("objects.abort-begun")
        if self.published:
            return
        with suppress(OSError):  # the next job tries again
            self._store.delete(name for name in self._store.names() if _is_of(name, self._job))
            self._store.unmark(self._job)

    def _check(self) -> None:
        """See that what is there does not forbid the output."""
        if self._mode == "error":
            listing = self._store.names()
            jobs = _marked(listing)
            if any(not _is_marker(name) and not any(_is_of(name, job) for job in jobs) for name in listing):
                raise OutputExists(
                    f"The output {shown(self.output)} exists already. Name another one, or replace it with --overwrite."
                )

    def _publish(self, parts: Sequence[PartFile], summary: Mapping[str, Any]) -> None:
        found = self._store.sizes()
        before = self._store.manifest()
        for part in parts:
            if found.get(part.final) != part.size_bytes:
                raise OSError(f"the file {part.final} is not there, or has changed")
        if self._mode == "error" and SUCCESS in found:
            raise OutputExists(
                f"The output {shown(self.output)} was made by somebody else meanwhile. Name another one."
            )
        if self._spares and (stranger := _stranger_among(found, before)):
            raise OutputExists(
                f"The output {shown(self.output)} is not replaced: {stranger} has come there since the job began, and "
                "no job has written it. Take it away and try again, or name another output."
            )
        parts = self._with_one_schema(parts)
        failpoint("objects.checked")
        content = manifest.describe(parts, {**summary, "job_id": self._job})
        if self._mode == "append" and found:
            jobs = _marked(found)
            others = [
                ListedFile(name, size)
                for name, size in sorted(found.items())
                if not any(_is_of(name, job) for job in jobs | {self._job})
            ]
            content = manifest.added(before, [file for file in others if file.is_data], content)
        self._store.write(SUCCESS, manifest.encode(content))
        self.published = True

    def _with_one_schema(self, parts: Sequence[PartFile]) -> list[PartFile]:
        """Write parts whose columns have not the types of the others' again, under other names."""
        target = self._store.target
        schema, others = schemas.to_be_rewritten(parts, lambda part: target.open(part.staged))
        again: dict[str, PartFile] = {}
        for part in others:
            name = with_mark(part.final, _REWRITTEN)
            with target.open(part.staged) as source, target.create(name) as file:
                fits = schemas.rewrite(source, file, schema)
            if fits:
                again[part.final] = PartFile(name, name, part.rows, target.size(name) or 0)
        return [again.get(part.final, part) for part in parts]

    def _clean(self) -> None:
        """Delete what does not count."""
        names = self._store.names()
        jobs = _marked(names) - {self._job}
        listed = self._store.manifest()
        if listed is None or not listed.holds(self._job):
            return  # somebody has replaced it already
        kept = {file.name for file in listed.files}
        useless = []
        for name in names:
            mine = _is_of(name, self._job)
            theirs = _is_marker(name) or name == SUCCESS or any(_is_of(name, job) for job in jobs)
            if name not in kept and (mine or (self._mode == "overwrite" and not theirs)):
                useless.append(name)
        self._store.delete(useless)
        self._store.unmark(self._job)
        self._store.clear_dead(self.output)


class LeftObjects:
    """What a job has left on an object store whose process is gone, and which is not to go on.

    Args:
        output: the URI of the place.
        job: the job's id.
    """

    def __init__(self, output: str, job: str) -> None:
        self._output = output
        self._job = job

    def commit(self, parts: Sequence[PartFile], summary: Mapping[str, Any]) -> None:  # noqa: ARG002
        """Never called."""
        raise AssertionError("the job is not to be run")

    def abort(self, keep: Path | None = None) -> None:  # noqa: ARG002 - nobody will take it up
        """Leave nothing behind, unless the output is complete.

        Raises:
            OSError: something cannot be deleted.
        """
        if not is_published(self._output, self._job):
            store = _Store(self._output)
            store.delete(name for name in store.names() if _is_of(name, self._job))
            store.unmark(self._job)


def is_published(output: str, job: str) -> bool:
    """Whether the output is complete, and a job's files are in it.

    Raises:
        OSError: the object store does not answer.
    """
    found = manifest.load(output)
    return found is not None and found.holds(job)


def state_of(output: str) -> str:
    """Tells what is in an output's place from what was there, or will be; empty when nothing is, or can be seen."""
    try:
        found = manifest.load(output)
    except OSError:
        return ""
    return "" if found is None else f"by {found.content.get('job_id', '')}"


def stranger_in(output: str) -> str:
    """The name of an object at an output's place that no job has written; empty if there is none.

    Raises:
        OSError: the object store does not answer.
    """
    store = _Store(output)
    return _stranger_among(store.names(), store.manifest())


def _stranger_among(names: Iterable[str], found: Manifest | None) -> str:
    if found is not None and found.others:
        return f"something that was there before jobs added to it ({found.others:,} files)"
    ours = {SUCCESS} | (set() if found is None else {file.name for file in found.files})
    strange = (name for name in names if name not in ours and not _is_marker(name) and not is_part_name(name))
    return next(strange, "")


def remove_dead(staging: str) -> None:
    """Delete what a job has left, unless its process lives, or its output is complete."""
    output, job = place_of(staging), staging.rpartition("#")[2]
    with suppress(OSError):
        if not _lives(_Store(output).owner(job)):
            LeftObjects(output, job).abort()


class _Store:
    """The objects below a place."""

    def __init__(self, output: str) -> None:
        self.target = ObjectTarget(output)

    def sizes(self) -> dict[str, int]:
        """All objects and their sizes, by their names relative to the place."""
        from pyarrow.fs import FileSelector

        base = self.target.path("")
        selector = FileSelector(base.rstrip("/"), allow_not_found=True, recursive=True)
        return {info.path[len(base) :]: info.size for info in self.target.fs.get_file_info(selector) if info.is_file}

    def names(self) -> list[str]:
        """The names of all objects."""
        return sorted(self.sizes())

    def manifest(self) -> Manifest | None:
        """What ``_SUCCESS`` lists."""
        return manifest.load(self.target.uri)

    def write(self, name: str, data: bytes) -> None:
        """Write an object; it appears in one step."""
        with self.target.fs.open_output_stream(self.target.path(name)) as stream:
            stream.write(data)

    def delete(self, names: Iterable[str]) -> None:
        """Delete objects."""
        with ThreadPoolExecutor(_DELETES_AT_ONCE) as pool:
            for _ in pool.map(self.target.remove, names):
                pass

    def mark(self, job: str, needed_by: Path | None) -> None:
        """Say who has begun a job."""
        owner = {
            "job": job,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "needed_by": "" if needed_by is None else str(needed_by),
        }
        self.write(_marker(job), json.dumps(owner).encode())

    def unmark(self, job: str) -> None:
        """The job is over."""
        self.delete([_marker(job)])

    def owner(self, job: str) -> dict[str, Any]:
        """Who has begun a job; empty if that is not known."""
        try:
            with self.target.fs.open_input_stream(self.target.path(_marker(job))) as stream:
                found = json.loads(stream.read())
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def clear_dead(self, output: str) -> None:
        """Delete what jobs have left that were begun here, are dead, and cannot be taken up again."""
        for job in _marked(self.names()):
            owner = self.owner(job)
            here = owner.get("host") == socket.gethostname()
            if not here or _lives(owner) or (owner.get("needed_by") and os.path.lexists(owner["needed_by"])):
                continue
            LeftObjects(output, job).abort()
            self.unmark(job)


def _lives(owner: Mapping[str, Any]) -> bool:
    import psutil

    pid = owner.get("pid")
    return owner.get("host") == socket.gethostname() and isinstance(pid, int) and psutil.pid_exists(pid)


def _marker(job: str) -> str:
    return f"{_MARKER}{job}{_MARKER_SUFFIX}"


def _is_marker(name: str) -> bool:
    return name.startswith(_MARKER) and name.endswith(_MARKER_SUFFIX)


def _marked(names: Iterable[str]) -> set[str]:
    """The jobs that have begun there, and not ended."""
    return {name[len(_MARKER) : -len(_MARKER_SUFFIX)] for name in names if _is_marker(name)}


def _is_of(name: str, job: str) -> bool:
    """Whether a file was written by an attempt of a job."""
    return f"-{job}-" in name.rpartition("/")[2]


@contextmanager
def _translated(output: str, problem: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        from gristmill.storage.filesystems import reason

        why = reason(error, output).rstrip(".")
        raise OutputNotWritable(f"The output {shown(output)} {problem}: {why}.") from error
