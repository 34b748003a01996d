"""Which jobs a list shows. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

STATES = ("queued", "running", "succeeded", "failed", "cancelled")
OVER = ("succeeded", "failed", "cancelled")
PAGE = 50
_MOST_CHARACTERS = 200


@dataclass(frozen=True)
class JobFilter:
    """Which jobs, the newest first.

    Attributes:
        state: in this state; empty: in any.
        user: of this user; empty: of all.
        name: with this in their names.
        before: older than this job.
    """

    state: str = ""
    user: str = ""
    name: str = ""
    before: str = ""

    @classmethod
    def of(cls, query: Mapping[str, str]) -> JobFilter:
        """From the query of an URL. What makes no sense is left out."""
        given = {name: query.get(name, "").strip()[:_MOST_CHARACTERS] for name in ("state", "user", "name", "before")}
        return cls(**{**given, "state": given["state"] if given["state"] in STATES else ""})

    @property
    def is_all(self) -> bool:
        """Whether every job gets through."""
        return not (self.state or self.user or self.name or self.before)

    def arguments(self) -> dict[str, Any]:
        """As arguments of ``JobService.page``."""
        given = {"state": self.state, "user": self.user, "name": self.name, "before": self.before}
        return {**{name: value or None for name, value in given.items()}, "limit": PAGE}

    def query(self, **changes: str) -> str:
        """As the query of an URL, with some of it changed."""
        values = {"state": self.state, "user": self.user, "name": self.name, "before": self.before, **changes}
        return urlencode({name: value for name, value in values.items() if value})
