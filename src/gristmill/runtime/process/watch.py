"""What an agent decides about a running attempt, and what it reports of one that died. No clock, no processes."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from gristmill.config import GIB, MIB, format_duration, format_size
from gristmill.errors import FailureReport, Frame
from gristmill.runtime.contracts import JobSpec, TaskSpec
from gristmill.runtime.process.limits import Limits, limits_of
from gristmill.runtime.process.processes import ProcessEnd, signal_name

_MIN_SLACK_BYTES = 128 * MIB
_GROWTH_BYTES_A_SECOND = 2 * GIB  # Python fills memory about as fast, at best
_FORKS_A_SECOND = 2500  # about as fast as an executor can be copied
_SHORTEST_LOOK_SECONDS = 0.02  # a look takes 0.1 ms
_SIGKILL = 9
EXIT_CHANNEL_LOST = 71
"""Of an executor that cannot reach its agent: the agent is gone, or user code has closed the channel."""
EXIT_RETIRED = 72
"""Of a server's own worker that was told to leave: the server is to start no other."""
_START_PAUSE_SECONDS = 0.1
_START_PAUSE_LIMIT_SECONDS = 10.0


@dataclass(frozen=True)
class AgentSettings:
    """How often an agent looks, and how long it is patient."""

    beat_seconds: float = 1.0
    watch_seconds: float = 0.25
    stall_seconds: float = 1800.0  # without progress, until the attempt's stack is written to its log
    depth: int = 256  # attempts that a slot takes at a time
    hello_seconds: float = 60.0  # from an executor's start until it must have reported
    orphan_seconds: float = 1.0  # from a channel's end until a process that still lives is ended
    start_attempts: int = 3  # in a row, until the fleet is broken
    limits: Limits = field(default_factory=lambda: limits_of(None, None))  # of each executor


class Ending(Enum):
    """Why the agent ended an executor."""

    CANCELLED = "cancelled"
    TIMEOUT = "timeout"
    MEMORY = "memory"
    PROCESSES = "processes"
    UNREACHABLE = "unreachable"  # the process lives, its channel does not
    FORGED = "forged"  # it said what no executor says


@dataclass(frozen=True)
class Vitals:
    """What was seen of an executor and its attempt, as of now."""

    seconds: float  # since the attempt was launched
    memory_bytes: int
    idle_bytes: int  # the executor's size before its first task
    processes: int = 0  # that run below the executor


def memory_limit(job: JobSpec, idle_bytes: int) -> int:
    """How large an executor may grow.

    The budget is for data. What Python holds besides, and the moment between two looks, needs slack.
    """
    return idle_bytes + max(job.memory_bytes * 3 // 2, job.memory_bytes + _MIN_SLACK_BYTES)


def verdict(job: JobSpec, vitals: Vitals, limits: Limits) -> Ending | None:
    """Whether, and why, an attempt must be ended."""
    if vitals.processes > limits.processes:
        return Ending.PROCESSES
    if job.task_timeout_seconds is not None and vitals.seconds > job.task_timeout_seconds:
        return Ending.TIMEOUT
    if vitals.memory_bytes > memory_limit(job, vitals.idle_bytes):
        return Ending.MEMORY
    return None


def look_again(job: JobSpec, vitals: Vitals, limits: Limits, at_most: float) -> float:
    """In how many seconds to look at an executor again: before it can have used up what it may still take."""
    left = memory_limit(job, vitals.idle_bytes) - vitals.memory_bytes
    soon = left / _GROWTH_BYTES_A_SECOND
    if vitals.processes:  # it has begun to start some
        soon = min(soon, (limits.processes - vitals.processes) / _FORKS_A_SECOND)
    return min(at_most, max(_SHORTEST_LOOK_SECONDS, soon))


def start_pause(failed_starts: int) -> float:
    """How long to wait with the next executor after so many in a row could not start."""
    return float(min(_START_PAUSE_SECONDS * 2 ** (failed_starts - 1), _START_PAUSE_LIMIT_SECONDS))


@dataclass(frozen=True)
class Death:
    """An executor that ended while an attempt ran in it.

    Attributes:
        ending: why the agent ended it; None when it was not the agent.
        oom: the kernel's out-of-memory killer struck meanwhile.
        peak_bytes: the largest size that was seen.
        frames: where user code was when the interpreter crashed, if it could still be told.
        processes: how many there were below it, when it was looked at last.
        max_processes: how many there may be.
        complaint: what was wrong with what it said last.
    """

    end: ProcessEnd
    ending: Ending | None
    oom: bool
    seconds: float
    peak_bytes: int
    idle_bytes: int
    log_tail: str
    frames: tuple[Frame, ...] = ()
    processes: int = 0
    max_processes: int = 0
    complaint: str = ""


def task_name(spec: TaskSpec) -> str:
    """``map task 3, attempt 2``: for people."""
    return f"{spec.stage.name} task {spec.attempt.index}, attempt {spec.attempt.number}"


def not_begun(spec: TaskSpec, why: str) -> FailureReport:
    """An attempt that came to nothing before it began. ``why`` goes on from its name."""
    return FailureReport("AttemptNotBegun", f"{task_name(spec).capitalize()} {why}; it had not begun.")


def death_report(job: JobSpec, spec: TaskSpec, death: Death) -> FailureReport:
    """What happened, for the person whose job it is."""
    if death.ending is Ending.TIMEOUT:
        return _timeout_report(job, spec, death)
    if death.ending is Ending.PROCESSES:
        return _processes_report(spec, death)
    if death.ending is Ending.FORGED:
        return answer_invalid(task_name(spec), death.complaint, death.log_tail)
    killed = death.end.signal == _SIGKILL
    if death.ending is Ending.MEMORY or (killed and death.oom and death.ending is None):
        limit = memory_limit(job, death.idle_bytes) if death.ending is Ending.MEMORY else 0
        return memory_report(job, spec, death.peak_bytes, limit, death.log_tail)
    details: dict[str, int | float | str] = {"peak_bytes": death.peak_bytes, "seconds": round(death.seconds, 3)}
    who = f"The executor of {task_name(spec)}"
    if death.ending is Ending.UNREACHABLE or death.end.exit_code == EXIT_CHANNEL_LOST:
        message = f"{who} lost its channel to the engine and ended."
        advice = "User code closed file descriptors that it had not opened (os.closerange, for example)."
    elif death.end.signal:
        name = signal_name(death.end.signal)
        details |= {"signal": death.end.signal, "signal_name": name}
        message = f"{who} was killed by {name} (signal {death.end.signal})."
        advice = _signal_advice(name)
    else:
        details["exit_code"] = death.end.exit_code
        message = f"{who} exited with code {death.end.exit_code}."
        advice = "User code, or a library it calls, ended the whole process (os._exit, for example)."
    return FailureReport(
        "ExecutorDied", message, frames=death.frames, details=details, log_tail=death.log_tail, advice=advice
    )


def _signal_advice(name: str) -> str:
    if name in ("SIGSEGV", "SIGBUS", "SIGILL", "SIGFPE", "SIGABRT"):
        return "A native extension that the code calls crashed."
    if name == "SIGKILL":
        return "Something outside the engine killed it: a person, or a limit of the container or the system."
    return "Something outside the engine, or user code itself, sent that signal."


def _processes_report(spec: TaskSpec, death: Death) -> FailureReport:
    return FailureReport(
        "ProcessLimitExceeded",
        f"{task_name(spec).capitalize()} had started {death.processes} processes; it may have {death.max_processes} "
        "at a time.",
        details={
            "processes": death.processes,
            "max_processes": death.max_processes,
            "seconds": round(death.seconds, 3),
            "peak_bytes": death.peak_bytes,
        },
        log_tail=death.log_tail,
        advice="Start fewer, wait for those that have ended, or allow more with --max-processes.",
    )


def answer_invalid(who: str, why: str, log_tail: str = "") -> FailureReport:
    """An attempt's answer cannot be what its task made. ``why`` is a clause; ``who`` the attempt."""
    return FailureReport(
        "AnswerInvalid",
        f"{who[:1].upper()}{who[1:]} gave an answer that cannot be: {why}.",
        log_tail=log_tail,
        advice="Most likely user code writes to file descriptors that it has not opened, or counts what is no number.",
    )


def _timeout_report(job: JobSpec, spec: TaskSpec, death: Death) -> FailureReport:
    limit = job.task_timeout_seconds or 0.0
    return FailureReport(
        "TaskTimeout",
        f"{task_name(spec).capitalize()} ran longer than the task time-out of {format_duration(limit)}.",
        details={
            "timeout_seconds": limit,
            "seconds": round(death.seconds, 3),
            "peak_bytes": death.peak_bytes,
        },
        log_tail=death.log_tail,
        advice="Give a longer --task-timeout, or a smaller --split-size so that a task has less to do.",
    )


def memory_report(job: JobSpec, spec: TaskSpec, peak_bytes: int, limit_bytes: int, log_tail: str = "") -> FailureReport:
    """An attempt needed more memory than it may have. ``limit_bytes`` 0: the system ran out before our limit."""
    name = task_name(spec).capitalize()
    if limit_bytes > peak_bytes:  # a MemoryError: the system refused what would have made it larger
        message = (
            f"{name} asked for more memory than there is; it had grown to {format_size(peak_bytes)}, "
            f"and its limit is {format_size(limit_bytes)}."
        )
    elif limit_bytes:
        message = f"{name} grew to {format_size(peak_bytes)} of memory; its limit is {format_size(limit_bytes)}."
    else:
        message = f"{name} ran the system out of memory; it had grown to {format_size(peak_bytes)}."
    return FailureReport(
        "MemoryLimitExceeded",
        message,
        details={
            "peak_bytes": peak_bytes,
            "limit_bytes": limit_bytes,
            "budget_bytes": job.memory_bytes,
        },
        log_tail=log_tail,
        advice="Give more --memory or fewer --executors; a mapper or reducer that collects records should yield them.",
    )
