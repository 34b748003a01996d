"""Budgets and pauses: how often a task may fail, by kind of failure, and how long it rests in between."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from hashlib import blake2b

from gristmill.errors import FailureKind
from gristmill.scheduling.events import RetryPolicy, TaskId

_NO_PAUSE = (FailureKind.LOST, FailureKind.FETCH)


@dataclass(slots=True)
class Trouble:
    """What went wrong with one task since it was last done. Most tasks never have one."""

    failures: dict[FailureKind, int] = field(default_factory=dict)
    slot: str = ""  # where the last attempt failed: the next one prefers another …
    avoid: set[str] = field(default_factory=set)  # … and none of the workers where one failed
    blamed: set[str] = field(default_factory=set)  # those of them where it or they did something wrong
    unread: set[str] = field(default_factory=set)  # those of them where its input could not be read

    def count(self, kind: FailureKind) -> int:
        """Count one more failure of this kind and say how many there are now."""
        self.failures[kind] = self.failures.get(kind, 0) + 1
        return self.failures[kind]

    @property
    def pauses(self) -> int:
        """Failures that lengthen the next pause. What was not the task's fault does not."""
        return sum(count for kind, count in self.failures.items() if kind not in _NO_PAUSE)


def attempts_allowed(policy: RetryPolicy, kind: FailureKind) -> int:
    """How many attempts at one task may fail in this way; the last of them ends the job."""
    if policy.deaths_expected and kind in (FailureKind.DEATH, FailureKind.LOST):
        return sys.maxsize
    match kind:
        case FailureKind.USER:
            return policy.user_attempts
        case FailureKind.DEATH:
            return policy.death_attempts
        case FailureKind.MEMORY:
            return policy.memory_attempts
        case FailureKind.LOST:
            return policy.lost_attempts
        case FailureKind.FETCH:
            return policy.fetch_attempts
        case FailureKind.FATAL:
            return 1


def backoff_seconds(policy: RetryPolicy, seed: int, task: TaskId, failures: int) -> float:
    """The pause after this many failures of a task: doubled each time up to a limit, less a jitter of up to half.

    The jitter keeps tasks that failed together (a service was away, say) from coming back together. It is a hash, not
    a random number, so that the same events always make the same commands.
    """
    whole = policy.backoff_seconds * 2.0 ** min(max(failures, 1) - 1, 60)
    name = f"{seed}/{task.job}/{task.stage}/{task.index}/{failures}".encode()
    jitter = int.from_bytes(blake2b(name, digest_size=7).digest(), "big") / 2.0**56  # in [0, 1)
    return min(whole, policy.backoff_limit_seconds) * (1.0 - jitter / 2)
