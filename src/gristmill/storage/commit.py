"""All or nothing: an output is complete or absent, or, when it replaces one, complete or the old one.

Attempts write into a staging folder beside the output. The commit gives the accepted files their final names in a
folder ``final`` within it, adds ``_SUCCESS``, makes all of it durable, and puts the folder in its place in one step:
a rename that replaces nothing, or an exchange with the old output. Where the system has no such exchange, a file
``swap.json`` says that two renames are under way, and the next run's ``recover_output`` completes them. Files are added
to an output that is there as ``append`` says.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

from gristmill.errors import OutputExists, OutputNotWritable
from gristmill.storage import manifest, schemas
from gristmill.storage.append import append as append_files
from gristmill.storage.append import locked
from gristmill.storage.contracts import PartFile
from gristmill.storage.disk import is_disk_full, open_plain, sync_file, sync_folder, translate_os_error
from gristmill.storage.failpoints import failpoint
from gristmill.storage.manifest import SUCCESS
from gristmill.storage.renames import rename_new
from gristmill.storage.replacing import note_replaced, replace_output
from gristmill.storage.staging import (
    ATTEMPTS,
    FINAL,
    READY,
    Staging,
    is_published,
    recover_output,
    remove_tree,
    staging_path,
    write_durably,
)
from gristmill.storage.targets import with_mark

__all__ = ["SUCCESS", "LeftOutput", "OutputCommit", "recover_output"]

_COLUMN_FORMATS = (".csv", ".parquet", ".orc", ".avro")


class OutputCommit:
    """One job's output on its way. Made by :meth:`prepare` or :meth:`adopt`; ends by :meth:`commit` or :meth:`abort`.

    Attributes:
        output: the folder that it becomes.
        staging: where attempts write: ``attempts/`` is there for them.
        published: an earlier process has put it in its place already.
    """

    def __init__(
        self,
        output: Path,
        job: str,
        staging: Staging,
        overwrite: bool,
        made_parents: Sequence[Path],
        published: bool = False,
        append: bool = False,
    ) -> None:
        self.output = output
        self.staging = staging.path
        self.published = published
        self._job = job
        self._parts: Sequence[PartFile] = ()  # of a commit that has begun
        self._folder = staging
        self._overwrite = overwrite
        self._append = append
        self._made_parents = made_parents  # by us, innermost first

    @property
    def place(self) -> str:
        """Where it appears."""
        return str(self.output)

    @property
    def staged_at(self) -> str:
        """Where attempts write."""
        return str(self.staging)

    @classmethod
    def prepare(
        cls, output: Path, job: str, overwrite: bool, needed_by: Path | None = None, *, append: bool = False
    ) -> OutputCommit:
        """See that the output can be written, and make its staging folder. Missing parents are made.

        Args:
            output: the folder that is to appear.
            job: the job's id.
            overwrite: whether it may replace what is there.
            needed_by: while this path exists, another process may take the job up and :meth:`adopt` its output.
            append: whether files are to be added to what is there.

        Raises:
            OutputExists: it is there (be it a file or a dangling link), and is neither to be replaced nor added to.
            OutputNotWritable: its folder cannot be written.
            DiskFull: no space is left there.
        """
        output = _absolute(output, append)
        made: list[Path] = []
        with _translated(output, "cannot be written"):
            recover_output(output)
            _check(output, overwrite, append)
            staging = cls._make_staging(output, job, needed_by, made)
            if overwrite:
                note_replaced(staging.path, output)
        failpoint("prepare.done")
        return cls(output, job, staging, overwrite, made, append=append)

    @classmethod
    def adopt(
        cls,
        output: Path,
        job: str,
        overwrite: bool,
        parts: Sequence[PartFile],
        needed_by: Path | None = None,
        kept: Path | None = None,
        *,
        append: bool = False,
    ) -> OutputCommit:
        """Take over the output of a job whose process is gone, wherever in its life that was.

        Args:
            output: the folder that is to appear.
            job: the job's id.
            overwrite: whether it may replace what is there.
            parts: the files of the accepted attempts: those that a commit had given their final names get their
                former ones back.
            needed_by: see :meth:`prepare`.
            kept: where :meth:`abort` has moved what was staged.
            append: whether files are to be added to what is there.

        Raises:
            OutputExists: somebody else's output is there, and is neither to be replaced nor added to.
            OutputNotWritable: its folder cannot be written, or the process lives after all.
            DiskFull: no space is left there.
        """
        output = _absolute(output, append)
        made: list[Path] = []
        path = staging_path(output, job)
        with _translated(output, "cannot be written"):
            recover_output(output)
            published = is_published(output, job)
            if not published:
                _check(output, overwrite, append)
            if path.is_dir():
                staging = Staging.take_over(path)
                made = staging.made_parents
                if not published:  # else what is in there is the output that was replaced
                    _unname(path, job, parts, append)
            else:
                staging = cls._make_staging(output, job, needed_by, made)
            if kept is not None:
                with suppress(OSError):  # there is nothing, or it is out of reach: those tasks run again
                    kept.rename(path / ATTEMPTS)
        return cls(output, job, staging, overwrite, made, published, append)

    @staticmethod
    def _make_staging(output: Path, job: str, needed_by: Path | None, made: list[Path]) -> Staging:
        try:
            _make_parents(output.parent, made)
            failpoint("prepare.parents-made")
            return Staging.make(output, job, needed_by, made)
        except OSError:
            _remove_empty(made)
            raise

    def commit(self, parts: Sequence[PartFile], summary: Mapping[str, Any]) -> None:
        """Put the output in its place. Only ``parts`` are in it; what else was staged is gone.

        Args:
            parts: the files of the accepted attempts.
            summary: goes into ``_SUCCESS``, with a list of the files.

        Raises:
            OutputExists: somebody has made the output in the meantime, or put something into what is to be replaced.
            OutputNotWritable: a rename failed, or a staged file is not there.
            DiskFull: no space is left.
        """
        failpoint("commit.begun")
        self._parts = parts
        with _translated(self.output, "cannot be completed"):
            if not self.published:
                self._assemble(_renamed(_with_columns(parts), self._job, self._append), summary)
                try:
                    self._publish()
                except FileExistsError as error:
                    raise _exists(self.output) from error
                self.published = True
            failpoint("commit.published")
            sync_folder(self.output.parent)
        failpoint("commit.cleaning")
        with suppress(OSError):  # the output is there; what is left, the next run tries to remove again
            self._folder.remove()
            recover_output(self.output, clear=True)
        failpoint("commit.cleaned")

    def abort(self, keep: Path | None = None) -> None:
        """Leave nothing behind. May be called again, and does nothing after a commit.

        Args:
            keep: move what was staged there, if that is one rename: the job may be taken up again, by :meth:`adopt`.
        """
        failpoint("abort.begun")
        if keep is not None and not self.published:
            with suppress(OSError):  # on another file system, say: those tasks would run again
                _unname(self.staging, self._job, self._parts, self._append)
                remove_tree(keep)
                (self.staging / ATTEMPTS).rename(keep)
        with suppress(OSError):  # the next run tries again
            self._folder.remove()
        _remove_empty(self._made_parents)

    def leave(self) -> None:
        """Let what is staged stay where it is, hidden beside the output: another :meth:`adopt` may take it over.

        Raises:
            OSError: it cannot be put right.
        """
        try:
            if not self.published:
                _unname(self.staging, self._job, self._parts, self._append)
        finally:
            self._folder.release()

    def release(self) -> None:
        """Let go of what is staged, as it is: somebody else takes it over."""
        self._folder.release()

    def _assemble(self, parts: Sequence[PartFile], summary: Mapping[str, Any]) -> None:
        final = self.staging / FINAL
        final.mkdir()
        folders = {final}
        real = os.path.realpath(self.staging)
        parts = self._with_one_schema(parts, final)
        for number, part in enumerate(parts):
            target = final / part.final
            if target.parent not in folders:
                target.parent.mkdir(parents=True, exist_ok=True)
                folders.add(target.parent)
            if not os.path.lexists(target):  # else it was written again
                self._see_plain(part, real)
                rename_new(self.staging / part.staged, target)
            if number == 0:
                failpoint("commit.first-part-named")
        failpoint("commit.parts-named")
        (final / SUCCESS).touch()
        for part in parts:
            sync_file(final / part.final)
        named = {**summary, "job_id": self._job} if self._append else summary
        write_durably(final / SUCCESS, manifest.describe(parts, named))
        failpoint("commit.success-written")
        for folder in folders:
            sync_folder(folder)
        failpoint("commit.synced")

    def _see_plain(self, part: PartFile, real: str) -> None:
        """See that a part is a file in the staging folder: this process may be allowed to move what executors are not.

        Raises:
            OSError: it is a link, or one leads to it, or it is not there.
        """
        path = self.staging / part.staged
        plain = stat.S_ISREG(path.lstat().st_mode)
        if not plain or not os.path.realpath(path.parent).startswith(real + os.sep):
            raise OSError(errno.EPERM, "is no file that an attempt has written", str(path))

    def _with_one_schema(self, parts: Sequence[PartFile], final: Path) -> list[PartFile]:
        """Write parts whose columns have not the types of the others' again, under their final names."""
        staging = self.staging
        schema, others = schemas.to_be_rewritten(parts, lambda part: _opened(staging / part.staged))
        again: dict[str, PartFile] = {}
        for part in others:
            target = final / part.final
            target.parent.mkdir(parents=True, exist_ok=True)
            with _opened(staging / part.staged) as source, target.open("wb") as file:
                fits = schemas.rewrite(source, file, schema)
            if fits:
                again[part.final] = replace(part, size_bytes=target.stat().st_size)
            else:
                target.unlink()
        return [again.get(part.final, part) for part in parts]

    def _publish(self) -> None:
        final = self.staging / FINAL
        if not os.path.lexists(self.output) or not (self._append or self._overwrite):
            try:
                rename_new(final, self.output)
                return
            except FileExistsError:
                if not self._append:
                    raise
        if self._append:
            append_files(self.staging, final, self.output)
        elif self.output.is_dir() and not self.output.is_symlink():
            with locked(self.output):  # files may be being added to it just now
                replace_output(self.staging, final, self.output)
        else:
            replace_output(self.staging, final, self.output)


class LeftOutput:
    """The output of a job whose process is gone, and which is not to go on: its staging folder can be removed.

    Args:
        output: the folder that it would have become.
        job: the job's id.
    """

    def __init__(self, output: Path, job: str) -> None:
        self._output = Path(os.path.abspath(output))  # noqa: PTH100 - as in OutputCommit.prepare
        self._job = job

    def commit(self, parts: Sequence[PartFile], summary: Mapping[str, Any]) -> None:  # noqa: ARG002
        """Never called."""
        raise AssertionError("the job is not to be run")

    def abort(self, keep: Path | None = None) -> None:  # noqa: ARG002 - nobody will take it up
        """Leave nothing behind, unless it is in its place.

        Raises:
            OSError: something cannot be removed, or the process lives after all.
        """
        path = staging_path(self._output, self._job)
        if path.is_dir() and not is_published(self._output, self._job):
            staging = Staging.take_over(path)
            made = staging.made_parents
            staging.remove()
            _remove_empty(made)


def _opened(part: Path) -> BinaryIO:
    return os.fdopen(open_plain(part), "rb")


def _unname(staging: Path, job: str, parts: Sequence[PartFile], append: bool) -> None:
    """Give the parts of a commit that did not come to its end their former names back."""
    final = staging / FINAL
    if is_published(staging / READY, job):
        (staging / READY).rename(final)
    if not final.is_dir():
        return
    for part in _renamed(parts, job, append):
        if os.path.lexists(final / part.final) and not os.path.lexists(staging / part.staged):
            (final / part.final).rename(staging / part.staged)
    remove_tree(final)


def _renamed(parts: Sequence[PartFile], job: str, append: bool) -> Sequence[PartFile]:
    """Parts by the names that they get: those that are added to an output have the job's id in them."""
    return [replace(part, final=with_mark(part.final, job)) for part in parts] if append else parts


def _absolute(output: Path, append: bool) -> Path:
    """``..`` is resolved by name; a link is kept, but not where files are added to what it points to."""
    output = Path(os.path.abspath(output))  # noqa: PTH100
    return output.resolve() if append and output.is_dir() else output


@contextmanager
def _translated(output: Path, problem: str) -> Iterator[None]:
    with translate_os_error(output):
        try:
            yield
        except OSError as error:
            if is_disk_full(error):
                raise
            where = Path(error.filename) if error.filename else output.parent
            if where.name.startswith(f".{output.name}."):  # the staging folder is nobody's business
                where = output.parent
            reason = f"{error.strerror or error} ({where})"
            raise OutputNotWritable(f"The output {output} {problem}: {reason}. Name another one.") from error


def _check(output: Path, overwrite: bool, append: bool) -> None:
    if not output.name:
        raise OutputNotWritable(f"The output cannot be {output} itself; name a folder in it.")
    if not os.path.lexists(output):
        return
    if append:
        if not output.is_dir():
            raise OutputNotWritable(f"The output {output} is not a folder; nothing can be added to it.")
        if output.is_mount():
            raise OutputNotWritable(f"Nothing can be added to {output}: it is a mount point. Name a folder in it.")
        return
    if not overwrite:
        raise _exists(output)
    if output.is_symlink():
        return  # only the link will be replaced
    real = output.resolve()
    for place in (Path.cwd(), Path(os.path.expanduser("~")).resolve()):  # noqa: PTH111 - raises nothing
        if real == place or real in place.parents:
            raise OutputNotWritable(f"The output {output} cannot be replaced: {place} is in it. Name another one.")
    if output.is_mount():
        raise OutputNotWritable(f"The output {output} cannot be replaced: it is a mount point. Name a folder in it.")


def _exists(output: Path) -> OutputExists:
    return OutputExists(f"The output {output} exists already. Name another one, or replace it with --overwrite.")


def _make_parents(folder: Path, made: list[Path]) -> None:
    missing = []
    while not os.path.lexists(folder):
        missing.append(folder)
        folder = folder.parent
    for folder in reversed(missing):
        folder.mkdir(exist_ok=True)
        made.insert(0, folder)


def _remove_empty(folders: Sequence[Path]) -> None:
    for folder in folders:
        with suppress(OSError):  # not empty: somebody else uses it by now
            folder.rmdir()


def _with_columns(parts: Sequence[PartFile]) -> list[PartFile]:
    """Leave out parts with columns and without rows: those are not known, and readers of the folder stumble."""
    full = [part for part in parts if part.rows or not any(suffix in part.final for suffix in _COLUMN_FORMATS)]
    return full or list(parts)
