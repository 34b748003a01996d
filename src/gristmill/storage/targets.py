"""Where the attempts of a job write the files of its output.

On a disk that is a staging folder beside the output: files get their final names when the job commits. An object store
has no renames: there each file has a name of its own from the start, with its attempt in it, appears when it is whole,
and counts once ``_SUCCESS`` lists it. A job's ``staging`` is a path, or a URI with the job's id as its fragment.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, BinaryIO, Protocol, cast

from gristmill.config import KIB
from gristmill.errors import FailureReport, InputUnreadable, OutputUnreachable
from gristmill.storage.contracts import PartFile
from gristmill.storage.disk import translate_os_error
from gristmill.storage.uris import scheme_of, shown

if TYPE_CHECKING:
    import pyarrow.fs as pafs

_BUFFER_BYTES = 256 * KIB


class Target(Protocol):
    """Where files are written.

    Attributes:
        max_open: how many files one attempt may have open at a time.
    """

    max_open: int

    def names(self, attempt: str, final: str) -> tuple[str, str]:
        """Under which name an attempt writes a file, and under which it will be found in the output."""
        ...

    def create(self, staged: str) -> BinaryIO:
        """Begin a file."""
        ...

    def remove(self, staged: str) -> None:
        """Remove a file, if it is there."""
        ...

    def size(self, staged: str) -> int | None:
        """How many bytes a whole file has; None if it is not there."""
        ...

    def errors(self, staged: str) -> AbstractContextManager[None]:
        """Gives what goes wrong with a file its name."""
        ...


class LocalTarget:
    """A staging folder."""

    max_open = 16

    def __init__(self, folder: Path | str) -> None:
        self._folder = Path(folder)

    def names(self, attempt: str, final: str) -> tuple[str, str]:
        """See :class:`Target`."""
        return f"attempts/{attempt}-{final}", final

    def create(self, staged: str) -> BinaryIO:
        """See :class:`Target`."""
        path = self._folder / staged
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.open("wb", buffering=_BUFFER_BYTES)

    def remove(self, staged: str) -> None:
        """See :class:`Target`."""
        (self._folder / staged).unlink(missing_ok=True)

    def size(self, staged: str) -> int | None:
        """See :class:`Target`."""
        try:
            return (self._folder / staged).stat().st_size
        except OSError:
            return None

    def errors(self, staged: str) -> AbstractContextManager[None]:
        """A full disk is named."""
        return translate_os_error(self._folder / staged)


class ObjectTarget:
    """The output's own place on an object store.

    Args:
        uri: the place.
    """

    max_open = 4  # each holds some MiB that are on their way

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self._found: tuple[pafs.FileSystem, str] | None = None

    @property
    def fs(self) -> pafs.FileSystem:
        """The object store."""
        return self._opened()[0]

    def path(self, name: str) -> str:
        """A file as the object store names it."""
        return f"{self._opened()[1].rstrip('/')}/{name}"

    def names(self, attempt: str, final: str) -> tuple[str, str]:
        """See :class:`Target`."""
        name = with_mark(final, attempt)
        return name, name

    def create(self, staged: str) -> BinaryIO:
        """See :class:`Target`."""
        return cast(BinaryIO, self.fs.open_output_stream(self.path(staged), compression=None))  # never by suffix

    def open(self, staged: str) -> BinaryIO:
        """A whole file, for reading."""
        return cast(BinaryIO, self.fs.open_input_file(self.path(staged)))

    def remove(self, staged: str) -> None:
        """See :class:`Target`."""
        with suppress(FileNotFoundError):
            self.fs.delete_file(self.path(staged))

    def size(self, staged: str) -> int | None:
        """See :class:`Target`."""
        info = self.fs.get_file_info(self.path(staged))
        return cast(int, info.size) if info.is_file else None

    @contextmanager
    def errors(self, staged: str) -> Iterator[None]:
        """The object store's errors come from libraries, as :class:`OSError` without a number."""
        try:
            yield
        except OSError as error:
            from gristmill.storage.filesystems import reason

            what = f"{shown(self.uri)}/{staged} cannot be written: {reason(error, self.uri)}"
            raise OutputUnreachable(
                FailureReport(OutputUnreachable.__name__, f"{what.rstrip('.')}.", details={"path": shown(self.uri)})
            ) from error

    def _opened(self) -> tuple[pafs.FileSystem, str]:
        if self._found is None:
            from gristmill.storage.filesystems import open_filesystem

            try:
                self._found = open_filesystem(self.uri)
            except InputUnreadable as error:  # it is named by those who know what it is used for
                raise OSError(str(error).removeprefix(f"The input {shown(self.uri)} cannot be read: ")) from error
        return self._found


def open_target(staging: str | os.PathLike[str]) -> Target:
    """Where the attempts of a job write."""
    text = os.fspath(staging)
    return ObjectTarget(place_of(text)) if is_object_uri(text) else LocalTarget(text)


def staging_of(uri: str, job: str) -> str:
    """The ``staging`` of a job whose output is on an object store."""
    return f"{uri}#{job}"


def place_of(staging: str) -> str:
    """The output's place of such a ``staging``."""
    return staging.rpartition("#")[0]


def is_object_uri(place: str) -> bool:
    """Whether a place is not a path of this machine."""
    return scheme_of(place) not in ("", "file")


def remove_part(staging: str, part: PartFile) -> None:
    """Remove a file of an attempt that does not count. What cannot be removed stays, and is in nobody's way."""
    with suppress(OSError):
        open_target(staging).remove(part.staged)


def has_part(staging: str, part: PartFile) -> bool:
    """Whether a file that an attempt wrote is there, whole."""
    try:
        return open_target(staging).size(part.staged) == part.size_bytes
    except OSError:
        return False


def with_mark(name: str, mark: str) -> str:
    """``part-r-00000.csv.gz`` with a mark: ``part-r-00000-MARK.csv.gz``."""
    path = PurePosixPath(name)
    stem, dot, suffix = path.name.partition(".")
    return str(path.with_name(f"{stem}-{mark}{dot}{suffix}"))
