"""Every failure has a name. This is the whole tree:

::

    GristmillError
    ├── UsageError                  wrong use; nothing was started (exit code 2)
    │   ├── InputMissing            an input matches no file
    │   ├── InputUnreadable         an input exists but is not what its format says
    │   ├── OutputExists            the output is there and --overwrite was not given
    │   ├── OutputNotWritable       the output's folder cannot be written
    │   ├── UnpicklableCode         the job's code holds something that cannot be sent to another process
    │   ├── JobNotFound             no such file, module or class; or it is not a job
    │   ├── PathNotShared           an input or output is not what all workers see under its name
    │   ├── PathNotAllowed          an input or output is outside of what the server lets jobs read and write
    │   ├── SettingInvalid          gristmill.toml or a variable of the environment says what makes no sense
    │   ├── KeyTaken                an idempotency key was used before, for another job
    │   ├── RetryRefused            a job cannot be tried again: it is not over, has succeeded, or is not kept
    │   ├── VersionMismatch         another minor version of Python, or another version of Gristmill
    │   ├── NotAuthorized           the server does not know the token
    │   ├── SessionClosed           a dataset's session was closed, or has expired
    │   └── BroadcastDestroyed      a broadcast was destroyed, and is used after that
    ├── EmptyDataset                an action needs an element, and the dataset has none
    ├── CollectTooLarge             what collect() would bring here is larger than its limit
    ├── ServerUnreachable           no server there: try again (exit code 75)
    │   ├── ServerFull              it is there, and takes no more now (exit code 75)
    │   └── RayUnreachable          the Ray cluster does not answer, or lets nobody in (exit code 75)
    │       └── RayFull             it has had no room for a single task in all that time (exit code 75)
    ├── JournalFailed               the journal cannot be written or read (exit code 75)
    ├── PayloadAltered              what the journal holds of a job is not what the server has accepted
    ├── TaskError                   one attempt failed; carries a FailureReport
    │   ├── UserCodeError           a user's function raised
    │   ├── KeyTypeRefused          a key of a type that has no order and stable hash here
    │   ├── LengthsDiffer           datasets that are zipped have different numbers of elements
    │   ├── RecordTooLong           a record is longer than the limit
    │   ├── RecordMalformed         an input of csv, jsonl, parquet, … holds what cannot be read
    │   ├── InputUnreachable        the storage of an input does not give what is read
    │   ├── BadRecordLimit          one attempt alone set more records aside than --max-bad-records allows
    │   ├── OutputUnencodable       a record cannot be written in the output's format
    │   ├── ExecutorDied            the process ended by exit code or signal
    │   ├── AnswerInvalid           an attempt's answer cannot be what its task made
    │   ├── AttemptNotBegun         the slot went away before the attempt's turn came; nothing was done
    │   ├── MemoryLimitExceeded     the process grew beyond its limit
    │   ├── ProcessLimitExceeded    more processes were started than --max-processes allows
    │   ├── FileTooLarge            a file became larger than --max-file-size allows
    │   ├── TaskTimeout             the attempt ran longer than --task-timeout
    │   ├── DiskFull                no space left; names the path
    │   ├── OutputUnreachable       the storage of the output does not take what is written
    │   ├── DataDirFailed           a data directory of a worker cannot be read or written any more
    │   ├── BlockCorrupt            a block's checksum or row count is wrong
    │   ├── BlockMissing            a block is not where it was
    │   └── BlockUnreachable        the worker that keeps a block does not answer
    ├── JobFailed                   the job ended without output; its cause is a TaskError
    │   └── TooManyBadRecords       more records failed than --max-bad-records allows
    └── JobCancelled                by cancel() or Ctrl-C

A ``TaskError`` crosses processes as a :class:`FailureReport`, which is plain data: the coordinator never
unpickles what user code made.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import Enum
from typing import Any, ClassVar


class FailureKind(Enum):
    """Which budget a failed attempt is counted against (see ``scheduling``)."""

    USER = "user"  # the same input will most likely fail again: --max-attempts
    FATAL = "fatal"  # it will surely fail again: no retry
    DEATH = "death"  # the process died: 20
    MEMORY = "memory"  # the process was too large: few
    LOST = "lost"  # the machine or slot went away: not the task's fault
    FETCH = "fetch"  # an input block is gone: its maker runs again


def plain(text: str) -> str:
    """A text that UTF-8 has: a half of a surrogate pair in it becomes an escape, such as ``\\ud800``.

    Raises:
        TypeError: it is no text.
    """
    if not isinstance(text, str):
        raise TypeError(f"{type(text).__name__} is no text")
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()


@dataclass(frozen=True)
class Frame:
    """One line of a user's traceback."""

    file: str
    line: int
    function: str
    source: str  # the text of the line, stripped; empty when it cannot be read

    def __post_init__(self) -> None:
        """As in a report."""
        for name in ("file", "function", "source"):
            object.__setattr__(self, name, plain(getattr(self, name)))


@dataclass(frozen=True)
class FailureReport:
    """What went wrong in one attempt, as plain data.

    Attributes:
        error: name of a TaskError subclass of this module.
        message: one sentence: what happened.
        frames: the user's frames, outermost first; the last one is where it was raised. No engine frames.
        exception: the user's exception type, as ``ValueError``; empty when none.
        record: repr of the record in work, cut to 500 characters; empty when none.
        source: file of that record (or ``partition 3``); empty when unknown.
        offset: byte offset of the record in its file (row number for parquet); -1 when unknown.
        function: the role that failed: mapper, combiner, reducer, partitioner …
        details: figures that belong to the message: exit code, signal, peak and limit in bytes …
        log_tail: the attempt's last lines of stdout and stderr.
        advice: what to do, one sentence; empty when there is none.
    """

    error: str
    message: str
    frames: tuple[Frame, ...] = ()
    exception: str = ""
    record: str = ""
    source: str = ""
    offset: int = -1
    function: str = ""
    details: Mapping[str, int | float | str] = field(default_factory=dict)
    log_tail: str = ""
    advice: str = ""

    def __post_init__(self) -> None:
        """Make every text one that can be written anywhere: users' exceptions may say what UTF-8 has not."""
        for name in _TEXTS:
            object.__setattr__(self, name, plain(getattr(self, name)))
        if self.details:
            details = {plain(name): plain(one) if isinstance(one, str) else one for name, one in self.details.items()}
            object.__setattr__(self, "details", details)

    @property
    def what(self) -> str:
        """What happened, with the name of the exception, if there is one and the message does not have it."""
        if not self.exception or self.exception.rpartition(".")[2] in self.message:
            return self.message
        return f"{self.exception}: {self.message}" if self.message else self.exception

    def to_json(self) -> dict[str, Any]:
        """As values that ``json.dumps`` takes."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> FailureReport:
        """The inverse of :meth:`to_json`."""
        fields = dict(data)
        fields["frames"] = tuple(Frame(**frame) for frame in fields.get("frames", ()))
        return cls(**fields)


_TEXTS = ("error", "message", "exception", "record", "source", "function", "log_tail", "advice")


class GristmillError(Exception):
    """The root. ``str()`` says what happened, where, and what to do."""

    exit_code: int = 1


class UsageError(GristmillError):
    """Wrong use: nothing was started and nothing was changed."""

    exit_code = 2


class SettingInvalid(UsageError):
    """What ``gristmill.toml`` or a variable of the environment says makes no sense."""


class InputMissing(UsageError):
    """An input matches no file."""


class InputUnreadable(UsageError):
    """An input exists but cannot be read as its format."""


class OutputExists(UsageError):
    """The output exists already and replacing it was not asked for."""


class OutputNotWritable(UsageError):
    """The folder in which the output is to appear cannot be written."""


class UnpicklableCode(UsageError):
    """The job's code refers to something that cannot travel to another process."""


class JobNotFound(UsageError):
    """The named file, module or class does not exist or is not a job."""


class PathNotShared(UsageError):
    """An input or output is not what all workers see under its name."""


class PathNotAllowed(UsageError):
    """An input or output is below none of the roots that the server's operator allows."""


class KeyTaken(UsageError):
    """An idempotency key was used before, for another job.

    Attributes:
        job: that job's id.
    """

    def __init__(self, job: str) -> None:
        self.job = job
        super().__init__(
            f"This idempotency key was used before, for another request: that is job {job}. Use another key for "
            "another job."
        )


class RetryRefused(UsageError):
    """A job cannot be tried again: it is not over, it has succeeded, or what it needs is not kept."""


class VersionMismatch(UsageError):
    """Another minor version of Python, or another version of Gristmill, than the server's."""


class NotAuthorized(UsageError):
    """The server does not know the token."""


class SessionClosed(UsageError):
    """A dataset's session was closed, or has expired: what it kept is gone, and nothing runs in it any more."""


class BroadcastDestroyed(UsageError):
    """A broadcast was destroyed, and is used after that."""


class EmptyDataset(GristmillError, ValueError):
    """An action such as ``reduce`` needs at least one element, and the dataset has none."""


class CollectTooLarge(GristmillError):
    """What ``collect`` would bring into the caller's memory is larger than its limit."""


class ServerUnreachable(GristmillError):
    """There is no server, or it cannot answer now. Trying again later may help."""

    exit_code = 75


class ServerFull(ServerUnreachable):
    """The server is there, and takes no more now. Trying again later may help."""


class RayUnreachable(ServerUnreachable):
    """The Ray cluster does not answer, or does not know the token. Trying again later may help."""


class RayFull(RayUnreachable):
    """The Ray cluster had no room for a single task in all the time. Trying again later may help."""


class JournalFailed(GristmillError):
    """The journal cannot be written, or what it holds cannot be read."""

    exit_code = 75


class PayloadAltered(GristmillError):
    """What the journal holds of a job is not what the server has accepted: nobody runs it."""


class TaskError(GristmillError):
    """One attempt of one task failed.

    Args:
        report: what happened. A plain string makes a report with that message.
    """

    kind: ClassVar[FailureKind] = FailureKind.FATAL

    def __init__(self, report: FailureReport | str) -> None:
        if isinstance(report, str):
            report = FailureReport(error=type(self).__name__, message=report)
        self.report = report
        super().__init__(report.message)


class UserCodeError(TaskError):
    """A user's function raised."""

    kind = FailureKind.USER


class KeyTypeRefused(TaskError):
    """A key of a type that has no total order and stable hash here."""


class LengthsDiffer(TaskError):
    """Datasets that are zipped have different numbers of elements."""


class RecordTooLong(TaskError):
    """A record is longer than the limit (--max-record-size, 64 MiB)."""


class RecordMalformed(TaskError):
    """The input holds something that is not in its format."""

    kind = FailureKind.USER


class InputUnreachable(TaskError):
    """The storage of an input does not give what is read; trying again may help."""

    kind = FailureKind.USER


class BadRecordLimit(TaskError):
    """One attempt alone set more records aside than --max-bad-records allows. The report is the last record's."""


class OutputUnencodable(TaskError):
    """A record cannot be written in the output's format."""


class ExecutorDied(TaskError):
    """The executor process ended: exit code or signal."""

    kind = FailureKind.DEATH


class AnswerInvalid(TaskError):
    """An attempt's answer cannot be what its task made: user code has spoken in its executor's name."""

    kind = FailureKind.USER


class AttemptNotBegun(TaskError):
    """The slot went away before the attempt's turn came. It is free to begin elsewhere."""

    kind = FailureKind.LOST


class MemoryLimitExceeded(TaskError):
    """The executor process grew beyond its limit."""

    kind = FailureKind.MEMORY


class ProcessLimitExceeded(TaskError):
    """The attempt had more processes at a time than --max-processes allows."""

    kind = FailureKind.USER


class FileTooLarge(TaskError):
    """A file that the attempt wrote became larger than --max-file-size, or its file system, allows."""

    kind = FailureKind.USER


class TaskTimeout(TaskError):
    """The attempt ran longer than --task-timeout."""

    kind = FailureKind.USER


class DiskFull(TaskError):
    """No space is left at a path."""


class OutputUnreachable(TaskError):
    """The storage of the output does not take what is written; trying again may help."""

    kind = FailureKind.USER


class DataDirFailed(TaskError):
    """A data directory of a worker cannot be read or written any more. Another directory, or worker, may do."""

    kind = FailureKind.DEATH


class BlockCorrupt(TaskError):
    """A block's checksum or row count is not what its maker wrote."""

    kind = FailureKind.FETCH


class BlockMissing(TaskError):
    """A block is not where its maker left it."""

    kind = FailureKind.FETCH


class BlockUnreachable(TaskError):
    """The worker that keeps a block does not answer. It may have died, or be about to be found so."""

    kind = FailureKind.FETCH


class JobFailed(GristmillError):
    """The job ended without output.

    Its cause is the TaskError that its report describes. It is made when it is asked for: if it were set, Python would
    print it in front of the traceback, though the message says all of it.

    Attributes:
        report: the failure that ended it, or None.
        job_folder: where blocks and logs were kept, or empty.
    """

    def __init__(self, message: str, report: FailureReport | None = None, job_folder: str = "") -> None:
        self.report = report
        self.job_folder = job_folder
        self._cause: BaseException | None = None
        super().__init__(message)

    @property
    def __cause__(self) -> BaseException | None:
        if self._cause is None and self.report is not None:
            self._cause = task_error(self.report)
        return self._cause

    @__cause__.setter
    def __cause__(self, cause: BaseException | None) -> None:
        self._cause = cause


class TooManyBadRecords(JobFailed):
    """More records failed than --max-bad-records allows."""


class JobCancelled(GristmillError):
    """The job was cancelled."""

    exit_code = 130


def task_error(report: FailureReport) -> TaskError:
    """The exception that a report describes."""
    cls = TASK_ERRORS.get(report.error, UserCodeError)
    return cls(report)


TASK_ERRORS: dict[str, type[TaskError]] = {
    "TaskError": TaskError,  # a failure of the engine itself
    **{cls.__name__: cls for cls in TaskError.__subclasses__()},
}
