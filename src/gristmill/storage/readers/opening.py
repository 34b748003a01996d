"""A split's file, opened: a path of this machine, or an object behind a URI, read in ranges of some MiB."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from gristmill.config import KIB, MIB
from gristmill.errors import FailureReport, InputUnreachable, InputUnreadable, TaskError
from gristmill.storage.contracts import Split
from gristmill.storage.readers.blocks import source_of, unreadable_file
from gristmill.storage.uris import is_uri

if TYPE_CHECKING:
    import pyarrow as pa

_MIN_RANGE_BYTES = 64 * KIB
_MAX_RANGE_BYTES = 4 * MIB
_STORAGE_SAYS = ("AWS Error", "google::cloud::Status", "HDFS")  # what tells its failures from those of a format


@contextmanager
def open_bytes(split: Split) -> Iterator[BinaryIO]:
    """A split's file as it is stored, from its beginning. It can seek.

    Raises:
        OSError: a file of this machine cannot be opened.
        TaskError: an object cannot be read.
    """
    if not is_uri(split.path):
        with io.FileIO(split.path, "rb") as file:
            yield cast(BinaryIO, file)
        return
    # What is asked for at once is no more than the split, so that a small one does not read far beyond its end.
    size = min(max(split.size_bytes, _MIN_RANGE_BYTES), _MAX_RANGE_BYTES)
    with _Object(split) as raw, io.BufferedReader(raw, size) as buffered:
        yield cast(BinaryIO, buffered)


@contextmanager
def open_columns(split: Split) -> Iterator[Any]:
    """A split's file for a reader of Arrow's, which looks for what it needs by itself.

    Whatever goes wrong while it is open is reported as a failure of this file.

    Raises:
        RecordMalformed: it is not there, or is not what its format says.
        InputUnreachable: its storage does not give it.
    """
    import pyarrow as pa

    source = source_of(split)
    with ExitStack() as stack:
        try:
            file: Any = split.path
            if is_uri(split.path):
                file = stack.enter_context(_open_object(split))
            yield file
        except (OSError, pa.ArrowException) as error:
            if is_uri(split.path) and any(word in str(error) for word in _STORAGE_SAYS):
                raise _unreachable(split, error) from error
            raise unreadable_file(source, f"it is not a whole {split.format} file ({error}).") from error


def _open_object(split: Split) -> pa.NativeFile:
    from gristmill.storage.filesystems import errors_of, open_filesystem

    try:
        system, path = open_filesystem(split.path)
        return system.open_input_file(path)
    except InputUnreadable as error:
        raise InputUnreachable(FailureReport(InputUnreachable.__name__, str(error), source=source_of(split))) from error
    except FileNotFoundError as error:
        raise unreadable_file(source_of(split), "it is not there any more.") from error
    except errors_of(split.path) as error:
        raise _unreachable(split, error) from error


def _unreachable(split: Split, error: Exception) -> TaskError:
    from gristmill.storage.filesystems import reason

    source = source_of(split)
    message = f"The input {source} cannot be read: {reason(error, split.path)}"
    advice = "Does its storage answer, and do the workers have credentials for it?"
    return InputUnreachable(FailureReport(InputUnreachable.__name__, message, source=source, advice=advice))


class _Object(io.RawIOBase):
    """An object as Python's raw files are. Its failures are task errors, which nobody takes for a damaged file."""

    def __init__(self, split: Split) -> None:
        super().__init__()
        self._split = split
        self._file = _open_object(split)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        from gristmill.storage.filesystems import errors_of

        try:
            data = self._file.read(len(buffer))
        except errors_of(self._split.path) as error:
            raise _unreachable(self._split, error) from error
        buffer[: len(data)] = data
        return len(data)

    def seek(self, offset: int, whence: int = 0) -> int:
        self._file.seek(offset, whence)
        return self.tell()

    def tell(self) -> int:
        return int(self._file.tell())

    def close(self) -> None:
        if not self.closed:
            self._file.close()
        super().close()
