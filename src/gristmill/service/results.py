"""Results of jobs, as bytes for whoever asks: the files of an output one after another, within bounds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

from gristmill.api.output_parts import OutputPart, output_parts, real_place
from gristmill.config import GIB, MIB, format_size
from gristmill.errors import GristmillError
from gristmill.service.refusals import NothingThere, WrongState
from gristmill.service.submission.jobs import JobService

LIMIT_BYTES = 64 * MIB
MOST_BYTES = 1024 * GIB
_LINES = {"text": "text/plain; charset=utf-8", "csv": "text/csv; charset=utf-8", "jsonl": "application/x-ndjson"}
_BINARY = {"parquet": "application/vnd.apache.parquet", "avro": "application/avro", "orc": "application/octet-stream"}
_COMPRESSED = {".gz": "application/gzip", ".bz2": "application/x-bzip2", ".zst": "application/zstd"}
_WHY = {"failed": "it has failed", "cancelled": "it was cancelled"}


@dataclass(frozen=True)
class Result:
    """What is to be sent.

    Attributes:
        parts: the files, in order.
        limit: at most so many bytes of them.
        media_type: what they hold.
        lines: whether to end with a whole line, if not all is sent.
        file_name: for whoever saves it.
    """

    parts: Sequence[OutputPart]
    limit: int
    media_type: str
    lines: bool
    file_name: str

    @property
    def size_bytes(self) -> int:
        """How much there is."""
        return sum(part.size_bytes for part in self.parts)

    @property
    def is_cut(self) -> bool:
        """Whether not all of it is sent."""
        return self.size_bytes > self.limit

    def chunks(self) -> Iterator[bytes]:
        """The bytes, in pieces."""
        left = self.limit
        for part in self.parts:
            if left <= 0:
                return
            for chunk in part.chunks():
                if len(chunk) < left:
                    left -= len(chunk)
                    yield chunk
                    continue
                last = chunk[:left]
                left = 0
                yield last[: last.rfind(b"\n") + 1] if self.lines and self.is_cut else last
                break


def begun(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """The same, when the first is there: what cannot be opened is said before anything is answered.

    Raises:
        GristmillError: it cannot be read.
    """
    try:
        return chain([next(chunks, b"")], chunks)
    except OSError as error:
        raise GristmillError(f"The output cannot be read: {error}.") from error


class ResultService:
    """Answers for results.

    Args:
        jobs: the server's jobs.
    """

    def __init__(self, jobs: JobService) -> None:
        self._jobs = jobs

    def open(self, job: str, limit: int, part: int | None) -> Result | None:
        """The result of a job; None if there is no such job.

        Args:
            job: the job.
            limit: at most so many bytes.
            part: only this file of it.

        Raises:
            NothingThere: it has no such file.
            WrongState: it has none, or not yet; or its files make no sense one after another.
            GristmillError: it is gone, or cannot be read.
        """
        status = self._jobs.status(job)
        if status is None:
            return None
        state = status.view.state.value
        if state != "succeeded":
            raise WrongState(f"Job {job} has no result: {_WHY.get(state, 'it is not over')}.")
        if status.output is None:
            raise WrongState(f"Job {job} has no output that could be read: its program has the result.")
        place = real_place(self._jobs.result_place(job) or status.output)
        self._jobs.check_paths([place])
        parts = output_parts(place, job)
        if part is not None:
            if part >= len(parts):
                raise NothingThere(f"The output of job {job} has {len(parts):,} files; they are counted from 0.")
            parts = [parts[part]]
        return _result_of(parts, status.format, limit, f"{job}-{part}" if part is not None else job)


def _result_of(parts: list[OutputPart], format: str, limit: int, name: str) -> Result:
    suffixes = {suffix for part in parts for suffix in _COMPRESSED if part.name.endswith(suffix)}
    size = sum(part.size_bytes for part in parts)
    if suffixes:
        suffix = min(suffixes)
        return Result(parts, limit, _COMPRESSED[suffix], False, f"{name}.{format}{suffix}")
    if format in _LINES:
        return Result(parts, limit, _LINES[format], True, f"{name}.{'txt' if format == 'text' else format}")
    if len(parts) > 1:
        raise WrongState(
            f"The output has {len(parts):,} files of {format}, which make no sense one after another. Ask for one of "
            f"them: ?part=0 to ?part={len(parts) - 1}."
        )
    if size > limit:
        raise WrongState(f"The file is {format_size(size)}, and a part of it makes no sense. Ask with ?limit={size}.")
    return Result(parts, limit, _BINARY.get(format, "application/octet-stream"), False, f"{name}.{format}")
