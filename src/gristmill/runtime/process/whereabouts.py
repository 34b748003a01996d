"""Where this process is: how others reach it, and which files it sees."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from gristmill.errors import ServerUnreachable


def address_towards(host: str) -> str:
    """The address of this machine from which another one is reached.

    Raises:
        ServerUnreachable: the other one is not known.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, 9, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.connect(address)  # sends nothing
            return str(probe.getsockname()[0])
    except OSError as error:
        raise ServerUnreachable(f"The coordinator's host {host} is not known: {error.strerror or error}.") from error


def machine_seen() -> str:
    """Tells which file system this process sees: the same for all processes that can read each other's files."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        # The network, too: whoever puts workers into networks of their own wants them to be like other machines.
        spaces = [os.readlink(f"/proc/self/ns/{name}") for name in ("mnt", "net")]  # noqa: PTH115 - no path
    except OSError:
        return socket.gethostname()
    return " ".join((boot, *spaces))
