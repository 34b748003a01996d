"""What only a server refuses. Each becomes an answer of its own."""

from __future__ import annotations

from gristmill.errors import UsageError


class MissingBlobs(UsageError):
    """The client must upload these first."""

    def __init__(self, names: list[str]) -> None:
        self.names = names
        super().__init__(f"Not uploaded yet: {', '.join(names)}.")


class NothingThere(UsageError):
    """There is nothing of this name."""


class WrongState(UsageError):
    """A job is not in a state in which this can be done with it."""


class NotTheirs(UsageError):
    """A job or a session is somebody else's."""
