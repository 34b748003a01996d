"""What a finished job gives back."""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from gristmill.errors import GristmillError
from gristmill.runtime.coordinator.tally import summary_of
from gristmill.runtime.views import JobView

if TYPE_CHECKING:
    import pyarrow

    from gristmill.runtime.files.jobfolder import JobFolder
    from gristmill.storage.manifest import ListedFile


class JobResult:
    """The result of a job that succeeded. Iterate over it for its (key, value) pairs, as often as wanted.

    Pairs are read when they are asked for, part by part; a result may be larger than memory. With an output, keys and
    values come back as its format keeps them: text gives strings. Without one they are the very values that the job
    yielded, and their files go when this object does, at the latest when the program ends; ``close`` and ``with`` do
    it sooner.
    """

    def __init__(self, view: JobView, place: Path | str, format: str, private: JobFolder | None) -> None:
        self._view = view
        self._place = place  # a folder, or the URI of a place on an object store
        self._format = format
        self._private = private is not None
        self._closed = False
        self._remove = weakref.finalize(self, private.remove) if private is not None else None

    @property
    def job_id(self) -> str:
        """The job's id."""
        return self._view.job

    @property
    def state(self) -> str:
        """``succeeded``: a job that does not succeed raises instead."""
        return self._view.state.value

    @property
    def counters(self) -> Mapping[str, Mapping[str, int]]:
        """The job's counters: group → name → sum over all tasks."""
        return self._view.counters

    @property
    def output(self) -> Path | str | None:
        """The folder with the result, or its URI; None if the job was run without output."""
        return None if self._private else self._place

    @property
    def view(self) -> JobView:
        """The job's last view, with figures by stage."""
        return self._view

    @property
    def stored_bytes(self) -> int:
        """How large the result is, as it is stored."""
        if isinstance(self._place, Path):
            return sum(part.stat().st_size for part in self._parts(self._place))
        return sum(file.size_bytes for file in self._listed())

    def summary(self) -> dict[str, Any]:
        """The job in figures, as ``--json`` prints them."""
        return summary_of(self._view, None if self._private else str(self._place))

    def __iter__(self) -> Iterator[tuple[Any, Any]]:
        """The pairs, part by part in order."""
        for keys, values in self._chunks():
            yield from zip(keys, values, strict=True)

    def _chunks(self) -> Iterator[tuple[list[Any], list[Any]]]:
        if self._closed:
            raise GristmillError(f"The result of job {self.job_id} was closed, and its files are gone.")
        from gristmill.storage.writers import read_part

        if not isinstance(self._place, Path):
            raise GristmillError(
                f"The result is in {self._place}, and is not read from there by this object. Read it as a dataset: "
                f"gristmill.read_{self._format}({self._place!r})."
            )
        for part in self._parts(self._place):
            yield from read_part(part, self._format)

    def _parts(self, folder: Path) -> list[Path]:
        """The job's own files: there may be those of others, which it has added to."""
        if names := {file.name for file in self._listed()}:
            return [folder / name for name in sorted(names)]
        return sorted(folder.rglob("part-*"))

    def _listed(self) -> list[ListedFile]:
        from gristmill.storage import manifest

        found = manifest.load(self._place)
        files = [] if found is None else [file for file in found.files if "part-" in file.name]
        own = [file for file in files if self.job_id in file.name]
        return own or files

    def lines(self) -> Iterator[str]:
        """The pairs as lines of text, some thousand at a time, as the format ``text`` writes them."""
        from gristmill.storage.writers.text import join_text

        for keys, values in self._chunks():
            yield join_text(keys, values)

    def to_arrow(self) -> pyarrow.Table:
        """The pairs as an Arrow table with the columns ``key`` and ``value``. Must fit in memory.

        Raises:
            GristmillError: keys or values are of types that Arrow cannot hold in one column.
        """
        from gristmill.api.arrow import table_of

        return table_of(self._chunks(), self.job_id)

    def close(self) -> None:
        """Delete what only this object reads. A job's output stays. May be called again."""
        if self._remove is not None:
            self._closed = True
            self._remove()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def __repr__(self) -> str:
        where = "" if self._private else f" in {self._place}"
        return f"<JobResult {self.job_id}: {self.state}, {self._view.records_out} records{where}>"
