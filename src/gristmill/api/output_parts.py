"""The files of a job's output as bytes, on a disk or on an object store: for whoever hands them on as they are."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import BinaryIO

from gristmill.config import MIB
from gristmill.errors import GristmillError, UsageError
from gristmill.runtime.files.opening import open_inside

_CHUNK_BYTES = MIB


@dataclass(frozen=True)
class OutputPart:
    """A file of an output.

    Attributes:
        place: of the output: a folder without links on the way there, or a URI.
        name: relative to that.
        size_bytes: how large it is.
    """

    place: str
    name: str
    size_bytes: int

    def chunks(self) -> Iterator[bytes]:
        """Its bytes.

        Raises:
            OSError: it cannot be read.
        """
        from gristmill.storage.targets import ObjectTarget, is_object_uri

        opened = ObjectTarget(self.place).open(self.name) if is_object_uri(self.place) else _open(self.place, self.name)
        with closing(opened) as file:
            while chunk := file.read(_CHUNK_BYTES):
                yield bytes(chunk)


def output_parts(place: str, job: str) -> list[OutputPart]:
    """The files that a job has written into its output, in order.

    Args:
        place: the output, from :func:`real_place`.
        job: its id. There may be files of others, to which it has added its own.

    Raises:
        GristmillError: the output is gone, or cannot be read.
    """
    from gristmill.storage import manifest
    from gristmill.storage.uris import shown

    try:
        found = manifest.load(place)
    except OSError as error:
        raise GristmillError(f"The output {shown(place)} cannot be read: {error}.") from error
    if found is None or not found.holds(job):
        raise UsageError(f"The output {shown(place)} is gone, or another job has written it since.")
    files = [file for file in found.files if file.is_data]
    own = [file for file in files if job in file.name] or files
    return [OutputPart(place, file.name, file.size_bytes) for file in sorted(own, key=lambda file: file.name)]


def real_place(place: str) -> str:
    """Where an output is, without links. What is checked and then read under this name cannot be exchanged between."""
    from gristmill.storage.targets import is_object_uri

    return place if is_object_uri(place) else os.path.realpath(place)


def _open(place: str, name: str) -> BinaryIO:
    """A file of a folder, and of nowhere else: somebody may have put a link or a pipe there."""
    return open_inside(place, name)
