"""Blocks on shared storage: each job has a folder there, in which a block's name is used once.

A path, or a ``file:`` URI, is a folder that every worker sees: its blocks are read where they lie. Any other URI goes
through ``pyarrow.fs``: its blocks are brought here like those of other workers. A block that was not written to its end
is never read, for only a finished attempt tells of its block.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO
from urllib.parse import unquote, urlsplit

from gristmill.shuffle.request import GONE, Request
from gristmill.shuffle.shelf import discard

if TYPE_CHECKING:
    from gristmill.shuffle.transfer import Answer

_MARK = "mark"
_COPY_BYTES = 4 * 1024 * 1024


def is_uri(path: str) -> bool:
    """Whether a block is not a file that can be opened by its path."""
    return "://" in path


def seen_folder(shuffle_dir: str) -> Path | None:
    """The shared folder as a path; None if it is a URI of something that is not a file system here."""
    if not is_uri(shuffle_dir):
        return Path(shuffle_dir)
    parts = urlsplit(shuffle_dir)
    return Path(unquote(parts.path)) if parts.scheme == "file" else None


def job_folder(shuffle_dir: str, job: str) -> str:
    """Where a job's blocks are: a path or a URI."""
    if (folder := seen_folder(shuffle_dir)) is not None:
        return str(folder / job)
    return _join(shuffle_dir, job)


def is_job_block(path: str, shuffle_dir: str, job: str) -> bool:
    """Whether a path is that of a block in a job's folder."""
    folder = job_folder(shuffle_dir, job)
    if is_uri(folder):
        above, name = _split(path)
        return above == folder and name not in ("", "..")
    return Path(path).parent == Path(folder) and Path(path).name != ".."


def mark(shuffle_dir: str, job: str) -> None:
    """Make a job's folder, with a mark in it by which others tell that they see the same storage.

    Raises:
        OSError: it cannot be written.
        ValueError: it is no URI that can be used.
    """
    folder = job_folder(shuffle_dir, job)
    if not is_uri(folder):
        Path(folder).mkdir(parents=True, exist_ok=True)
        Path(folder, _MARK).write_text(job)
        return
    filesystem, path = _made(folder)
    with filesystem.open_output_stream(f"{path}/{_MARK}") as target:
        target.write(job.encode())


def is_marked(shuffle_dir: str, job: str) -> bool:
    """Whether this is the storage on which the job's folder was made."""
    folder = job_folder(shuffle_dir, job)
    try:
        with _opened(f"{folder}/{_MARK}" if not is_uri(folder) else _join(folder, _MARK)) as file:
            return file.read() == job.encode()
    except (OSError, ValueError):
        return False


def put(file: Path, folder: str) -> str:
    """Copy a block to a job's folder that is a URI; its path there.

    Raises:
        OSError: it cannot be written; it is named.
    """
    filesystem, path = _made(folder)
    put_as = _join(folder, file.name)
    with file.open("rb") as source:
        try:
            with filesystem.open_output_stream(f"{path}/{file.name}") as target:
                shutil.copyfileobj(source, target, _COPY_BYTES)
        except OSError as error:
            error.filename = error.filename or put_as
            raise
    return put_as


def read_pieces(request: Request, _seconds: float) -> Answer:
    """Answer a request from shared storage, as a worker would."""
    for number, piece in enumerate(request.pieces):
        try:
            with _opened(piece.path) as file:
                position, end = piece.offset, piece.offset + piece.length
                while position < end:
                    file.seek(position)
                    data = file.read(min(request.batch_bytes, end - position))
                    if not data:
                        yield number, b"", f"cut off at {position} bytes"
                        break
                    yield number, data, None
                    position += len(data)
        except FileNotFoundError:
            yield number, b"", GONE
        except OSError as error:
            yield number, b"", f"unreadable: {error}"


def delete(path: str) -> None:
    """Delete a block, if it is there.

    Raises:
        OSError: it cannot be deleted.
    """
    if not is_uri(path):
        try:
            Path(path).unlink()
        except FileNotFoundError:
            discard(path)
        return
    folder, name = _split(path)
    filesystem, inner = _filesystem(folder)
    with suppress(FileNotFoundError):
        filesystem.delete_file(f"{inner}/{name}")


def delete_job(shuffle_dir: str, job: str) -> None:
    """Delete whatever is there of a job.

    Raises:
        OSError: it cannot be deleted.
        ValueError: it is no URI that can be used.
    """
    folder = job_folder(shuffle_dir, job)
    if not is_uri(folder):
        with suppress(FileNotFoundError):
            shutil.rmtree(folder)
        return
    filesystem, inner = _filesystem(folder)
    with suppress(FileNotFoundError):
        filesystem.delete_dir(inner)


def _opened(path: str) -> BinaryIO:
    if not is_uri(path):
        return open(path, "rb", buffering=0)  # noqa: PTH123
    folder, name = _split(path)
    filesystem, inner = _filesystem(folder)
    opened: BinaryIO = filesystem.open_input_file(f"{inner}/{name}")
    return opened


def _join(uri: str, name: str) -> str:
    path, mark, query = uri.partition("?")
    return f"{path.rstrip('/')}/{name}{mark}{query}"


def _made(folder: str) -> tuple[Any, str]:
    """The file system of a URI and the path there, which is there after."""
    filesystem, path = _filesystem(folder)
    with suppress(NotImplementedError):
        filesystem.create_dir(path, recursive=True)
    return filesystem, path


def _split(uri: str) -> tuple[str, str]:
    """The inverse of :func:`_join`."""
    path, mark, query = uri.partition("?")
    folder, _, name = path.rpartition("/")
    return f"{folder}{mark}{query}", name


@lru_cache(maxsize=16)
def _filesystem(folder: str) -> tuple[Any, str]:
    """The file system of a URI, and the path there."""
    from pyarrow import fs

    from_uri: Callable[[str], tuple[Any, str]] = fs.FileSystem.from_uri
    return from_uri(folder)
