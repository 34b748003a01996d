"""A session on a server."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gristmill.config import JobOptions
from gristmill.errors import UsageError

if TYPE_CHECKING:
    from gristmill.api.result import JobResult
    from gristmill.api.rows import Rows
    from gristmill.plan.logical import Node
    from gristmill.plan.stages import OutputSink


class RemoteEngine:
    """See :class:`~gristmill.api.session.Engine`."""

    def __init__(self, options: JobOptions) -> None:
        raise UsageError(f"Datasets do not run on a server yet: {options.on}.")

    def rows(self, node: Node, name: str) -> Rows:
        """Run a job for its elements."""
        raise NotImplementedError

    def write(self, node: Node, name: str, sink: OutputSink, output: str, mode: str) -> JobResult:
        """Run a job for its output."""
        raise NotImplementedError

    def unpersist(self, kept: str) -> None:
        """Forget what is kept under a name."""

    def close(self) -> None:
        """Nothing."""
