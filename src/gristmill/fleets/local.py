"""The local fleet: an agent inside the caller's process, executors beside it."""

from __future__ import annotations

from gristmill.runtime.agent.agent import Agent, AgentSettings
from gristmill.runtime.contracts import JobSpec, Post, TaskSpec
from gristmill.scheduling.events import AttemptId
from gristmill.shuffle.contracts import BlockInfo


class LocalFleet:
    """Executors on this machine, for as long as the caller lives. See :class:`~gristmill.runtime.contracts.Fleet`.

    Args:
        executors: how many processes.
        settings: how often the agent looks, and how long it is patient.
    """

    def __init__(self, executors: int, settings: AgentSettings | None = None) -> None:
        self._agent = Agent(executors, settings=settings)

    def start(self, post: Post) -> None:
        """Begin to offer slots. Returns at once: call it early, and executors come up during other work."""
        self._agent.start(post)

    def add_job(self, job: JobSpec) -> None:
        """Make a job's code known before its first launch."""
        self._agent.add_job(job)

    def launch(self, slot: str, spec: TaskSpec) -> None:
        """Run an attempt in a slot."""
        self._agent.launch(slot, spec)

    def cancel(self, attempt: AttemptId, recalled: bool = False) -> None:
        """End an attempt, and every process it started."""
        self._agent.cancel(attempt, recalled)

    def free(self, block: BlockInfo) -> None:
        """Delete a block that nothing will read again."""
        self._agent.free(block)

    def drop_job(self, job: str) -> None:
        """Forget a job's code; its attempts are over."""
        self._agent.drop_job(job)

    def keep_job(self, job: str) -> None:
        """Forget a job's code; its blocks stay, as they do anyway."""
        self._agent.drop_job(job)

    def drop_worker(self, worker: str) -> None:
        """Nothing: the one worker lives and dies with its caller."""

    def drain_worker(self, worker: str) -> None:
        """Nothing: likewise."""

    def close(self) -> None:
        """End every process of the fleet, within 5 seconds. May be called again."""
        self._agent.close()
