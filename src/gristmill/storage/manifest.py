"""``_SUCCESS``: what a complete output holds. A file of the output counts if it is listed there.

It is JSON: the summary of the job that wrote it last, and

- ``files``: each file's name, relative to the output, its rows and bytes;
- ``jobs``: the ids of all jobs whose files these are, where more than one has written them;
- ``others``: how many of the files were there before the first job has added to them, if any were.

Other engines write a ``_SUCCESS`` too, mostly an empty one: that lists nothing, and all files beside it count.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gristmill.storage.contracts import PartFile, is_below, is_part_name
from gristmill.storage.disk import read_plain
from gristmill.storage.targets import ObjectTarget, is_object_uri

SUCCESS = "_SUCCESS"
MAX_BYTES = 1 << 28  # a million files have some 100 MB of names


@dataclass(frozen=True)
class ListedFile:
    """A file of an output.

    Attributes:
        name: relative to the output.
        size_bytes: as it was written.
        rows: how many records are in it; None if that is not known.
    """

    name: str
    size_bytes: int
    rows: int | None = None

    @property
    def is_data(self) -> bool:
        """Whether it holds records of the output: none of its folders, nor itself, begins with ``_`` or a dot."""
        return not any(part.startswith(("_", ".")) for part in self.name.split("/"))


@dataclass(frozen=True)
class Manifest:
    """What ``_SUCCESS`` says.

    Attributes:
        content: all of it.
        files: those of the output, and of ``_bad_records/``.
    """

    content: Mapping[str, Any]
    files: tuple[ListedFile, ...]

    @property
    def others(self) -> int:
        """How many of the files no job has written."""
        others = self.content.get("others", 0)
        return others if isinstance(others, int) else 0

    def holds(self, job: str) -> bool:
        """Whether a job's files are among these."""
        jobs = self.content.get("jobs")
        return self.content.get("job_id") == job or (isinstance(jobs, list) and job in jobs)


def read_manifest(folder: str | Path) -> list[ListedFile] | None:
    """The files with the records of an output: of a folder, or of a place on an object store.

    Returns:
        In the order in which they were listed; None if nothing is listed there, so that all files count that are there.

    Raises:
        OSError: ``_SUCCESS`` is there, and cannot be read.
    """
    manifest = load(folder)
    return None if manifest is None else [file for file in manifest.files if file.is_data]


def load(place: str | Path) -> Manifest | None:
    """What ``_SUCCESS`` in an output says; None if there is none, or one of another engine.

    Raises:
        OSError: it is there, and cannot be read.
    """
    text = os.fspath(place)
    if is_object_uri(text):
        return parse(_read_object(ObjectTarget(text)))
    try:
        return parse(read_plain(Path(text, SUCCESS), MAX_BYTES, links=True))
    except (FileNotFoundError, NotADirectoryError):
        return None


def stranger_below(path: Path, *, unlisted: bool = False) -> str:
    """The name of something in a folder that no job has written; empty if there is none, or nothing at all.

    Args:
        path: the folder.
        unlisted: files count as a job's by their names alone: one that was adding to the output may have died.

    Raises:
        OSError: it cannot be looked at.
    """
    if not os.path.lexists(path) or path.is_symlink():  # only the link would be replaced
        return ""
    if not path.is_dir():
        return path.name
    found = load(path)
    if found is not None and found.others:
        return f"something that was there before jobs added to it ({found.others:,} files)"
    ours = set() if found is None else {SUCCESS, *(file.name for file in found.files)}
    tops = {name.split("/")[0] for name in ours}
    strangers = {entry.name for entry in path.iterdir() if entry.name not in tops}
    for folder, _, names in os.walk(path) if not strangers and ours != tops else ():
        inside = os.path.relpath(folder, path)
        strangers.update(name for name in (f"{inside}/{one}".removeprefix("./") for one in names) if name not in ours)
    return min((name for name in strangers if not (unlisted and is_part_name(name))), default="")


def parse(data: bytes | None) -> Manifest | None:
    """A ``_SUCCESS`` that was read; None if it lists nothing."""
    if not data:
        return None
    try:
        content = json.loads(data)
        listed = content["files"]
        files = tuple(ListedFile(str(file["name"]), int(file["bytes"]), file.get("rows")) for file in listed)
    except (ValueError, TypeError, KeyError, AttributeError):
        return None
    return Manifest(content, tuple(file for file in files if is_below(file.name)))


def describe(parts: Iterable[PartFile], summary: Mapping[str, Any]) -> dict[str, Any]:
    """What ``_SUCCESS`` says of an output that one job has written."""
    return {**summary, "files": [_entry(ListedFile(part.final, part.size_bytes, part.rows)) for part in parts]}


def added(before: Manifest | None, found: Sequence[ListedFile], new: Mapping[str, Any]) -> dict[str, Any]:
    """What ``_SUCCESS`` says once a job's files were added to an output.

    Args:
        before: what it said; None: nothing, and ``found`` is what is there.
        found: files that are there, if none were listed.
        new: what it would say of the job's files alone; see :func:`describe`.
    """
    jobs: list[str] = []
    others = len(found)
    if before is not None:
        others = before.others
        earlier = before.content.get("jobs") or [before.content.get("job_id")]
        jobs = [job for job in earlier if isinstance(job, str)]
    files = [_entry(file) for file in (found if before is None else before.files)]
    said = {"others": others} if others else {}
    return {**new, **said, "files": files + list(new["files"]), "jobs": [*jobs, new.get("job_id", "")]}


def encode(content: Mapping[str, Any]) -> bytes:
    """As the file's bytes."""
    return (json.dumps(content, indent=2) + "\n").encode()


def _entry(file: ListedFile) -> dict[str, Any]:
    return {"name": file.name, "rows": file.rows, "bytes": file.size_bytes}


def _read_object(target: ObjectTarget) -> bytes | None:
    try:
        with target.fs.open_input_stream(target.path(SUCCESS)) as stream:
            data: bytes = stream.read(MAX_BYTES)
            return data
    except FileNotFoundError:
        return None
