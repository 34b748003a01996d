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
