"""Where a server listens, and who answers there: a thread with an event loop."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import ExitStack
from typing import Any

import uvicorn

from gristmill.errors import UsageError
from gristmill.runtime.transport.cluster import AgentTls
from gristmill.service.doors.connections import HEADER_BYTES, Places, run_loop
from gristmill.service.doors.site import is_loopback

WILDCARDS = ("0.0.0.0", "::", "")
_UP_SECONDS = 15.0
_DOWN_SECONDS = 5.0
_GRACE_SECONDS = 2  # for calls that are being answered when the server ends


def listen(host: str, port: int) -> socket.socket:
    """A socket at an address; port 0: a free one.

    Raises:
        UsageError: it is taken, or not of this machine.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=512)
    except OSError as error:
        reason = (error.strerror or str(error)).partition(" (while ")[0]  # Python adds the address to it
        raise UsageError(
            f"Nothing can listen on {host}:{port}: {reason}. Name another --port (0: any free one) or --host."
        ) from error


def url_of(scheme: str, host: str, port: int) -> str:
    """The address as it is written."""
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def public_name(host: str, tls: AgentTls | None) -> str:
    """By which name other machines call it."""
    if tls is not None and not is_loopback(host) and tls.identity.name in tls.identity.names:
        return tls.identity.name
    return socket.gethostname() if host in WILDCARDS else host


def serve(app: Any, listening: socket.socket, close: ExitStack, tls: AgentTls | None) -> threading.Thread:
    """Answer calls, from a thread of its own, until ``close``.

    Raises:
        UsageError: it does not begin.
    """
    config = uvicorn.Config(
        app,
        http=Places().protocol(),
        h11_max_incomplete_event_size=HEADER_BYTES,
        proxy_headers=False,  # whoever calls from this machine could name any address
        server_header=False,
        log_level="critical",
        access_log=False,  # links to log in have tokens in them
        ssl_context_factory=None if tls is None else lambda *_: tls.identity.server_context(),
        lifespan="off",
        ws="none",
        timeout_graceful_shutdown=_GRACE_SECONDS,
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(
        target=lambda: run_loop(server.serve(sockets=[listening])), name="gristmill-rest", daemon=True
    )

    def end() -> None:
        server.should_exit = True
        thread.join(_DOWN_SECONDS)

    close.callback(end)
    thread.start()
    give_up = time.monotonic() + _UP_SECONDS
    while not server.started:
        if not thread.is_alive() or time.monotonic() > give_up:
            raise UsageError("The server could not begin to listen.")
        time.sleep(0.01)
    return thread
