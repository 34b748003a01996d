"""What the commands that ask a server have in common."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from gristmill.config import default_data_dir

if TYPE_CHECKING:
    from gristmill.api.client import ServerClient


def server_of(server: str | None, token_file: Path | None, data_dir: Path | None) -> ServerClient:
    """The server that the options name."""
    from gristmill.api.client import connect

    return connect(server, token_file, data_dir or default_data_dir())


def newest_job(server: ServerClient) -> str:
    """The id of the job that was submitted last: the one that is meant when none is named.

    Raises:
        UsageError: there is none.
    """
    from gristmill.api.remote import job_list
    from gristmill.errors import UsageError

    known = job_list(server)
    if not known:
        raise UsageError(f"The server {server.url} has no jobs yet.")
    return str(known[0]["id"])
