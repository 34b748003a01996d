"""A server of whose doors the tests try the handles."""

from __future__ import annotations

import http.client
import json
import re
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from gristmill.runtime.journal.journal import JOURNAL, Journal
from gristmill.service.doors.roles import Door, Role
from gristmill.service.doors.tokens import TOKENS, add_token
from gristmill.service.server import Server

PEOPLE = (Role.VIEWER, Role.SUBMITTER, Role.ADMIN, Role.WORKER)
JOB = "20261121-101112-abcd"
_FILLED = {
    "job": JOB, "task": "0-0", "attempt": f"{JOB}-s0-t00000-a1", "session": "s-1", "name": "0" * 64, "digest": "0" * 64,
    "kept": "result", "place": "0", "worker": "vm-1", "name:path": "page.css",
}  # fmt: skip


class Answer(NamedTuple):
    """What came back."""

    status: int
    headers: Any
    body: bytes

    @property
    def problem(self) -> Any:
        return json.loads(self.body)


class Visitor:
    """Calls a server as anybody might, over one connection as long as that lasts.

    Args:
        server: the server.
        address: this machine's, from which to call: wrong tokens are counted by it.
    """

    def __init__(self, server: Server, address: str = "127.0.0.1") -> None:
        self.host = urlsplit(server.url).netloc
        self._address = address
        self._open: http.client.HTTPConnection | None = None

    def ask(self, method: str, path: str, body: bytes | None = None, **headers: str) -> Answer:
        """One call; ``Host`` and all else may be given."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        for last in (False, True):
            if self._open is None:
                self._open = http.client.HTTPConnection(self.host, timeout=20, source_address=(self._address, 0))
            try:
                self._open.request(method, path, body, named)
                reply = self._open.getresponse()
                answer = Answer(reply.status, reply.headers, reply.read())
                if reply.will_close:
                    self.close()
                return answer
            except (http.client.HTTPException, OSError):
                self.close()
                if last:
                    raise
        raise AssertionError

    def close(self) -> None:
        if self._open is not None:
            self._open.close()
            self._open = None


def tokens_of(server: Server, data_dir: Path) -> dict[Role, str]:
    """A token of each role."""
    path = data_dir / TOKENS
    made = {role: add_token(path, f"a-{role.value}", role) for role in PEOPLE}
    return {**made, Role.ADMIN: (data_dir / "token").read_text().strip()}


def path_of(door: Door) -> str:
    """Something that the door leads to, or would if it were there."""
    return re.sub(r"\{([^}]*)\}", lambda name: _FILLED[name[1]], door.path)


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def facts_in(data_dir: Path) -> int:
    """How much has happened in a server's jobs."""
    journal = Journal(data_dir / JOURNAL)
    try:
        return sum(bool(fact.job) for fact in journal.facts())  # workers come and go
    finally:
        journal.close()
