"""A copy of what a server knows, made while it runs; and a data directory made of such a copy.

A copy is a folder: the journal, as it was at one instant; the tokens and the keys; and the code that was uploaded for
jobs that are not over. What jobs have written so far stays where it is: what is missing of that is made again.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from gristmill.errors import JournalFailed, OutputExists, UsageError
from gristmill.runtime.files.blobs import is_blob_name
from gristmill.runtime.journal.journal import JOURNAL
from gristmill.runtime.journal.journal_file import check, connect, failed
from gristmill.runtime.journal.signing import SIGNING_KEY
from gristmill.runtime.process.private import claim_folder
from gristmill.service.doors.logins import LOGINS
from gristmill.service.doors.tokens import TOKEN, TOKENS
from gristmill.service.lock import lock_data_dir

BLOBS = "blobs"
_SECRETS = (TOKEN, TOKENS, SIGNING_KEY)
_BESIDE = ("-wal", "-shm", "-journal")


@dataclass(frozen=True)
class Copied:
    """What a copy holds.

    Attributes:
        jobs: how many are remembered.
        unfinished: how many of these are not over.
        size_bytes: of the journal.
    """

    jobs: int
    unfinished: int
    size_bytes: int


def back_up(data_dir: Path, target: Path, *, overwrite: bool = False) -> Copied:
    """Copy what the server of a data directory knows. It may run, and take jobs meanwhile.

    Args:
        data_dir: the server's.
        target: the folder to make. It appears when it is whole.
        overwrite: whether an earlier copy there is replaced.

    Raises:
        OutputExists: there is something already.
        JournalFailed: the journal cannot be read, or the copy not be written.
        UsageError: there is no journal.
    """
    journal = data_dir / JOURNAL
    if not journal.is_file():
        raise UsageError(f"There is no journal in {data_dir}. Name the --data-dir of a server.")
    if target.exists() and not (overwrite and _is_copy(target)):
        advice = "It is no copy of a journal." if overwrite else "Name another place, or say --overwrite."
        raise OutputExists(f"{target} exists already. {advice}")
    with _partial(target) as partial:
        _copy_journal(journal, partial / JOURNAL)
        copied = _look(partial / JOURNAL)
        for name in _SECRETS:
            if (data_dir / name).is_file():
                _copy_privately(data_dir / name, partial / name)
        if (data_dir / BLOBS).is_dir():  # after the journal: so all that its jobs need is here
            _copy_blobs(data_dir / BLOBS, partial / BLOBS)
        if target.exists():
            shutil.rmtree(target)
        partial.rename(target)
    return copied


def restore(source: Path, data_dir: Path, *, overwrite: bool = False) -> Copied:
    """Make a data directory of a copy.

    Args:
        source: the folder that :func:`back_up` has made.
        data_dir: where; no server may run there.
        overwrite: whether a journal that is there is replaced.

    Raises:
        OutputExists: there is a journal already.
        JournalFailed: the copy is damaged, or cannot be written here.
        UsageError: a server runs there, or this is no copy.
    """
    if not _is_copy(source):
        raise UsageError(f"{source} is no copy that gristmill backup has made.")
    copied = _look(source / JOURNAL)
    claim_folder(data_dir)
    descriptor = lock_data_dir(data_dir)
    try:
        if (data_dir / JOURNAL).exists() and not overwrite:
            raise OutputExists(
                f"There is a journal in {data_dir} already. Name another --data-dir, or say --overwrite."
            )
        partial = data_dir / f".{JOURNAL}.{os.getpid()}"
        _copy_privately(source / JOURNAL, partial)
        for name in (TOKENS, LOGINS):  # what opened doors of the old one opens none of this one
            (data_dir / name).unlink(missing_ok=True)
        for name in _SECRETS:
            if (source / name).is_file():
                _copy_privately(source / name, data_dir / name)
        if (source / BLOBS).is_dir():
            _copy_blobs(source / BLOBS, data_dir / BLOBS)
        for suffix in _BESIDE:  # they belong to the old one
            (data_dir / f"{JOURNAL}{suffix}").unlink(missing_ok=True)
        partial.replace(data_dir / JOURNAL)
    finally:
        os.close(descriptor)
    return copied


def _is_copy(folder: Path) -> bool:
    return (folder / JOURNAL).is_file()


@contextmanager
def _partial(target: Path) -> Iterator[Path]:
    """A folder beside the target that goes if it does not become it."""
    partial = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        partial.mkdir(mode=0o700, parents=True)
        yield partial
    except OSError as error:
        raise UsageError(f"{target} cannot be written: {error.strerror or error}.") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _copy_journal(source: Path, target: Path) -> None:
    """Copy a journal as it is at one instant. Whoever writes it meanwhile is not kept waiting."""
    try:
        os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        with closing(connect(source)) as here, closing(connect(target)) as there:
            check(here, source)
            here.backup(there)  # in one step: in several it begins anew whenever somebody writes
            there.execute("PRAGMA journal_mode = DELETE")  # one file, and nothing beside it
        with target.open("rb+") as file:
            os.fsync(file.fileno())
    except (sqlite3.Error, OSError) as error:
        raise failed(source, error, "copied") from error


def _look(journal: Path) -> Copied:
    """See that a copied journal is whole.

    Raises:
        JournalFailed: it is not.
    """
    try:
        with closing(connect(journal)) as connection:
            check(connection, journal)
            (verdict,) = connection.execute("PRAGMA integrity_check(1)").fetchone()
            if verdict != "ok":
                raise JournalFailed(f"The journal {journal} is damaged: {verdict}. Take another copy.")
            jobs, over = connection.execute("SELECT count(*), count(ended) FROM jobs").fetchone()
    except (sqlite3.Error, OSError) as error:
        raise failed(journal, error, "read") from error
    return Copied(jobs, jobs - over, journal.stat().st_size)


def _copy_privately(source: Path, target: Path) -> None:
    partial = target.with_name(f".{target.name}.{os.getpid()}.new")
    partial.unlink(missing_ok=True)
    with (
        source.open("rb") as file,
        os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as to,
    ):
        shutil.copyfileobj(file, to, 1 << 20)
        to.flush()
        os.fsync(to.fileno())
    partial.replace(target)


def _copy_blobs(source: Path, target: Path) -> None:
    """Blobs never change, and are named by what is in them."""
    target.mkdir(mode=0o700, parents=True, exist_ok=True)
    for path in source.iterdir():
        if is_blob_name(path.name) and not (target / path.name).exists():
            partial = target / f".{path.name}.{os.getpid()}"
            try:
                shutil.copy2(path, partial)
            except FileNotFoundError:  # nothing needs it any more, and it was removed just now
                continue
            partial.replace(target / path.name)
