"""TLS: certificates that are shown, and those that are believed.

What is wrong with a certificate is found before it is used, by a handshake in memory with all that it is for: so it is
said in words when a server or worker starts, and not by a connection that breaks somewhere later.
"""

from __future__ import annotations

import http.client
import os
import re
import socket
import ssl
import urllib.request
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from gristmill.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

TLS_CA = "GRISTMILL_TLS_CA"
TLS_NAME = "GRISTMILL_TLS_NAME"
TLS_PEERS_CA = "GRISTMILL_TLS_PEERS_CA"

_PEM = re.compile(rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----\s*", re.DOTALL)
_LOOK_SECONDS = 0.5
_HANDSHAKE, _ALERT = b"\x16", b"\x15"  # how an answer to a handshake begins
_ROUNDS = 10  # of a handshake in memory: it takes three


@dataclass(frozen=True)
class Identity:
    """A certificate with its key, as a server or a worker shows it.

    Attributes:
        certificate: the file, in PEM; what follows the first one leads to the CA.
        key: the file of its private key.
        chain: what is in the first.
        private: what is in the second.
        names: what the certificate is for, as it says itself.
    """

    certificate: Path
    key: Path
    chain: bytes
    private: bytes
    names: tuple[str, ...]

    @property
    def name(self) -> str:
        """A name that the certificate is for."""
        return next((name for name in self.names if "*" not in name), self.names[0].replace("*", "gristmill"))

    @property
    def own(self) -> bytes:
        """The certificate alone, without what leads to the CA."""
        return _first(self.chain)

    def server_context(self) -> ssl.SSLContext:
        """To serve with."""
        return _server_context(self.certificate, self.key)

    def check_issued(self, ca: Path) -> None:
        """See that whoever believes this CA takes the certificate from a client.

        Raises:
            UsageError: not so.
        """
        server = self.server_context()
        server.verify_mode = ssl.CERT_REQUIRED
        _believe(server, ca)
        try:
            _shake(server, _client_context(self))
        except ssl.SSLError as error:
            raise UsageError(
                f"The certificate {self.certificate} is not one of a client that {ca} has issued "
                f"({_reason(error)}), so the server's own worker cannot join with it. Give a certificate of that CA "
                "for servers and clients, or --executors 0 and start workers with certificates of their own."
            ) from error


def load_identity(certificate: Path, key: Path) -> Identity:
    """A certificate and its key, checked.

    Raises:
        UsageError: they cannot be read, do not belong together, or the certificate is not valid now.
    """
    chain, private = _read(certificate, "certificate"), _read(key, "key")
    if not _PEM.search(chain):
        raise UsageError(f"{certificate} holds no certificate in PEM form (-----BEGIN CERTIFICATE-----).")
    server = _server_context(certificate, key)
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    client.load_verify_locations(cadata=_first(chain).decode())
    try:
        shown = _shake(server, client)
    except ssl.SSLError as error:
        raise UsageError(f"The certificate {certificate} cannot be used: {_reason(error)}. Renew it.") from error
    names = [name for kind, name in shown.get("subjectAltName", ()) if kind in ("DNS", "IP Address")]
    if not names:
        raise UsageError(f"The certificate {certificate} is for no host name: it has no subjectAltName. Get another.")
    return Identity(certificate, key, chain, private, tuple(names))


@dataclass(frozen=True)
class Trust:
    """Whom to believe.

    Attributes:
        ca: a file with certificates in PEM: of CAs, or a server's own. None: the CAs of the system.
        name: what the server's certificate must be for; empty: the host by which it is called.
    """

    ca: Path | None = None
    name: str = ""

    @classmethod
    def from_environment(cls, ca: Path | None = None) -> Trust:
        """What the environment says, unless the user names another CA."""
        named = os.environ.get(TLS_CA, "")
        return cls(ca or (Path(named) if named else None), os.environ.get(TLS_NAME, ""))

    def context(self, identity: Identity | None = None) -> ssl.SSLContext:
        """To call servers with.

        Raises:
            UsageError: the CA's file cannot be used.
        """
        context = _client_context(identity, system=self.ca is None)
        context.check_hostname = True
        context.verify_mode = ssl.CERT_REQUIRED
        if self.ca is not None:
            _believe(context, self.ca)
        return context

    def handler(self) -> urllib.request.HTTPSHandler:
        """What urllib is to speak https with."""
        return _Handler(self.context(), self.name)

    def roots(self) -> bytes | None:
        """The CAs, in PEM, for gRPC; None: the system's.

        Raises:
            UsageError: the file cannot be read.
        """
        return None if self.ca is None else _read(self.ca, "CA")


def distrust(url: str, error: ssl.SSLError, name: str = "") -> UsageError:
    """What to say when a server is not believed.

    Args:
        url: the server.
        error: why not.
        name: the name that its certificate should have had.
    """
    code = getattr(error, "verify_code", 0)
    if not isinstance(error, ssl.SSLCertVerificationError):
        return UsageError(
            f"{url} does not answer as https: {error.reason or error}. A server without TLS is written http://HOST:PORT."
        )
    if code == 10:
        advice = "Its certificate has expired. Renew it there, and start it again."
    elif code in (62, 64):  # the name of the host, the address
        advice = (
            f"{error.verify_message}. Call it by a name that its certificate is for, or set {TLS_NAME} to that name."
        )
    elif name and "mismatch" in str(error).lower():
        advice = f"Its certificate is not for {name}."
    else:
        advice = (
            f"{error.verify_message or error.reason}. If a CA of your own has issued its certificate, name the file of "
            f"that CA with --tls-ca or {TLS_CA}."
        )
    return UsageError(f"The server {url} cannot be trusted: {advice}")


def speaks_tls(url: str, error: object) -> bool:
    """Whether a call without TLS failed since the other end speaks it: it answers to nothing but a handshake."""
    if not isinstance(error, (http.client.BadStatusLine, ConnectionResetError)):
        return False
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # nothing is said to whoever it is
    parts = urlsplit(url)
    try:
        with socket.create_connection((parts.hostname or "", parts.port or 80), _LOOK_SECONDS) as plain:
            # Not by wrap_socket, which leaves a socket open if the other end has hung up already.
            incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
            with suppress(ssl.SSLWantReadError):
                context.wrap_bio(incoming, outgoing).do_handshake()
            plain.sendall(outgoing.read())
            return plain.recv(1) in (_HANDSHAKE, _ALERT)
    except OSError:
        return False


def check_roots(ca: Path) -> bytes:
    """The certificates in a file of CAs.

    Raises:
        UsageError: there are none.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    _believe(context, ca)
    return _read(ca, "CA")


class _Handler(urllib.request.HTTPSHandler):
    """Speaks https with servers that are called by one name and have a certificate for another."""

    def __init__(self, context: ssl.SSLContext, name: str) -> None:
        super().__init__(context=context)
        self._gristmill = context, name

    def https_open(self, request: urllib.request.Request) -> http.client.HTTPResponse:
        context, name = self._gristmill
        kind: Callable[..., Any] = partial(_Connection, context=context, name=name)
        return self.do_open(kind, request)


class _Connection(http.client.HTTPSConnection):
    def __init__(self, host: str, *, context: ssl.SSLContext, name: str, **more: Any) -> None:
        super().__init__(host, context=context, **more)
        self._believed, self._name = context, name

    def connect(self) -> None:
        if not self._name:
            super().connect()
            return
        http.client.HTTPConnection.connect(self)
        self.sock = self._believed.wrap_socket(self.sock, server_hostname=self._name)


def _server_context(certificate: Path, key: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(certificate, key, password=partial(_refuse_password, key))
    except ssl.SSLError as error:
        raise UsageError(
            f"The key {key} does not belong to the certificate {certificate}, or one of them is damaged: "
            f"{_reason(error)}."
        ) from error
    return context


def _client_context(identity: Identity | None, *, system: bool = False) -> ssl.SSLContext:
    context = ssl.create_default_context() if system else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if identity is not None:
        context.load_cert_chain(identity.certificate, identity.key)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _believe(context: ssl.SSLContext, ca: Path) -> None:
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # a file may hold the server's own certificate alone
    try:
        context.load_verify_locations(ca)
    except ssl.SSLError as error:
        raise UsageError(f"{ca} holds no certificates of a CA in PEM form: {_reason(error)}.") from error
    except OSError as error:
        raise UsageError(f"The CA in {ca} cannot be read: {error.strerror}.") from error


def _shake(server: ssl.SSLContext, client: ssl.SSLContext) -> dict[str, Any]:
    """A handshake in memory; the server's certificate as the client saw it.

    Raises:
        SSLError: one of them does not believe the other.
    """
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [client.wrap_bio(to_client, to_server), server.wrap_bio(to_server, to_client, server_side=True)]
    done = [False, False]
    for _ in range(_ROUNDS):
        for place, end in enumerate(ends):
            try:
                if not done[place]:
                    end.do_handshake()
                    done[place] = True
            except ssl.SSLWantReadError:
                pass
    return dict(ends[0].getpeercert() or {})


def _first(chain: bytes) -> bytes:
    found = _PEM.search(chain)
    return b"" if found is None else found[0]


def _reason(error: ssl.SSLError) -> str:
    message = getattr(error, "verify_message", "") or error.reason or str(error)
    return str(message).replace("_", " ").lower()


def _refuse_password(key: Path) -> str:
    raise UsageError(f"The key {key} is encrypted: give one that is not, in a file that only its owner can read.")


def _read(path: Path, what: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageError(f"The {what} in {path} cannot be read: {error.strerror}.") from error
