"""Under which names this server is called, and from which pages: what others write into Host and Origin.

A page of somebody else's, open in a browser that reaches this server, must not get at it: neither by calls of its own
(Origin), nor by giving its own name our address (Host).
"""

from __future__ import annotations

import socket
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from urllib.parse import urlsplit

from starlette.types import Scope

_WILDCARDS = ("0.0.0.0", "::", "")
_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True)
class Site:
    """The names of a server.

    Attributes:
        names: its host names, in small letters.
        addresses: whether it may also be called by any address. No page of others has an address of ours as its name.
    """

    names: frozenset[str]
    addresses: bool = False

    def is_here(self, host: str) -> bool:
        """Whether what stands in Host means this server."""
        name = host_of(host)
        if name is None:
            return False
        if (address := _address(name)) is not None:
            return self.addresses or address.is_loopback or name in self.names
        return name in self.names


def site_of(host: str, allowed: Iterable[str] = ()) -> Site:
    """The names of a server that listens on an address.

    Args:
        host: the address, or its name.
        allowed: further names that lead there.
    """
    names = {"localhost", host.lower(), *(name.lower().rstrip(".") for name in allowed)} - {""}
    if is_loopback(host):
        return Site(frozenset(names))
    machine = socket.gethostname().lower()
    return Site(frozenset({*names, machine, machine.partition(".")[0]}), addresses=True)


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches what listens there."""
    if host in _WILDCARDS:
        return False
    address = _address(host)
    return host.lower() == "localhost" if address is None else address.is_loopback


def host_of(host: str) -> str | None:
    """The name in ``NAME:PORT``, without the brackets of an IPv6 address; None if it is none."""
    try:
        parts = urlsplit(f"//{host}")
        if parts.netloc != host or parts.username is not None or not parts.hostname:
            return None
        _ = parts.port  # one that is none raises
    except ValueError:
        return None
    return parts.hostname.rstrip(".")


def in_origin_form(scope: Scope) -> tuple[Scope, str | None]:
    """A call with the path alone as its target, and the host that was named in front of it.

    Proxies are called by whole URLs, and servers must understand them; the host is None if there is none.
    """
    scheme, slashes, rest = scope["path"].partition("://")
    if not slashes or scheme.lower() not in _PORTS:
        return scope, None
    host, _, path = rest.partition("/")
    raw = scope.get("raw_path", b"").partition(b"://")[2].partition(b"/")[2]
    return {**scope, "path": f"/{path}", "raw_path": b"/" + raw}, host


def is_same_site(origin: str, host: str, scheme: str) -> bool:
    """Whether a page of this origin is one of this server's, as it was called.

    Args:
        origin: as it stands in Origin, ``https://NAME:PORT``.
        host: as it stands in Host.
        scheme: by which the call came. One that came as http may have been https in front of a proxy.
    """
    try:
        parts = urlsplit(origin)
        if parts.scheme not in _PORTS or origin != f"{parts.scheme}://{parts.netloc}" or "@" in parts.netloc:
            return False
        if scheme == "https" and parts.scheme != "https":
            return False
        own = urlsplit(f"//{host}")
        port = _PORTS[parts.scheme]
        return bool(own.hostname) and (parts.hostname, parts.port or port) == (own.hostname, own.port or port)
    except ValueError:
        return False


def is_from_our_page(headers: Mapping[bytes, bytes]) -> bool:
    """Whether a browser says that a page of this server's calls. Its Origin was found to be right, or missing."""
    fetch_site = headers.get(b"sec-fetch-site", b"")
    return fetch_site == b"same-origin" if fetch_site else b"origin" in headers


def _address(name: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(name)
    except ValueError:
        return None
