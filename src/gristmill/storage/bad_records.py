"""Records set aside: what failed, where it came from, and why."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from gristmill.errors import FailureReport
from gristmill.storage.contracts import PartFile
from gristmill.storage.targets import ObjectTarget, open_target, with_mark


class BadRecords:
    """One attempt's file of bad records, a JSON object a line. The file is made with its first record.

    Args:
        staging: the output's staging folder, or where else the attempts of its job write.
        staged: the file's name for now, relative to ``staging``.
        final: its name in the output, as ``_bad_records/r-00000.jsonl``.
    """

    def __init__(self, staging: Path | str, staged: str, final: str) -> None:
        self.count = 0
        self._target = open_target(staging)
        if isinstance(self._target, ObjectTarget):  # there it has its last name from the start
            staged = final = with_mark(final, Path(staged).stem)
        self._staged = staged
        self._final = final
        self._file: BinaryIO | None = None
        self._closed = False

    def add(self, report: FailureReport, record_text: str) -> None:
        """Set a record aside.

        Raises:
            DiskFull: no space is left.
            OutputUnreachable: the object store does not take it.
        """
        line = json.dumps(_entry(report, record_text)) + "\n"  # in ASCII: the record may hold what UTF-8 has not
        with self._target.errors(self._staged):
            if self._file is None:
                self._file = self._target.create(self._staged)
            self._file.write(line.encode("ascii"))
        self.count += 1

    def close(self) -> PartFile | None:
        """Complete the file; None if there was no bad record."""
        if self._file is None:
            return None
        with self._target.errors(self._staged):
            size_bytes = self._file.tell()
            self._file.close()
        self._closed = True
        return PartFile(self._staged, self._final, self.count, size_bytes)

    def discard(self) -> None:
        """Remove the file, unless it was closed. May be called at any time, and again."""
        if self._closed or self._file is None:
            return
        self._closed = True
        with suppress(OSError):
            self._file.close()
        self._target.remove(self._staged)


def _entry(report: FailureReport, record_text: str) -> dict[str, object]:
    return {
        "file": report.source,
        "offset": report.offset,
        "function": report.function,
        "error": report.exception or report.error,
        "message": report.message,
        "traceback": "".join(
            f'  File "{frame.file}", line {frame.line}, in {frame.function}\n    {frame.source}\n'
            for frame in report.frames
        ),
        "record": record_text,
    }
