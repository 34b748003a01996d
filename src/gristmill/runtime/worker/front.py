"""What a worker asks of the coordinator's REST interface: where to connect, and the code of jobs."""

from __future__ import annotations

import http.client
import json
import ssl
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from gristmill.config import PYTHON_VERSION, VERSION
from gristmill.errors import NotAuthorized, ServerUnreachable, UsageError, VersionMismatch
from gristmill.runtime.transport.tls import Trust, distrust, speaks_tls

_TIMEOUT_SECONDS = 3.0  # between two pieces of an answer
_MAX_ANSWER_BYTES = 1 << 20


@dataclass(frozen=True)
class JoinFacts:
    """What a coordinator says before it is joined.

    Attributes:
        address: of its server for agents, ``HOST:PORT``.
        tls: whether that speaks TLS …
        client_certificates: … and wants to see a certificate of the worker's.
        beat_seconds: how often it wants a sign of life.
        lost_seconds: without one for so long it gives a worker up.
    """

    address: str
    beat_seconds: float
    lost_seconds: float
    tls: bool = False
    client_certificates: bool = False


class Front:
    """The REST interface of a coordinator.

    Args:
        url: ``http://HOST:PORT``.
        token: what it wants to see.
        trust: whom to believe, if it speaks TLS.
    """

    def __init__(self, url: str, token: str, trust: Trust | None = None) -> None:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise UsageError(f"{url!r} is not the address of a coordinator, such as http://HOST:PORT.")
        self.url = parts._replace(query="", fragment="").geturl().rstrip("/")
        self.host = parts.hostname
        self._token = token
        # A coordinator is a neighbour: the proxy that leads to the world does not lead there.
        self.trust = trust or Trust()
        handlers = [self.trust.handler()] if parts.scheme == "https" else []
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), *handlers)

    def join_facts(self) -> JoinFacts:
        """Where to connect.

        Raises:
            ServerUnreachable: it does not answer, or not like a coordinator; trying again may help.
            NotAuthorized: it does not know the token.
            VersionMismatch: it is of another version.
            UsageError: it does not speak TLS, or is not to be trusted.
        """
        data = self._get("/api/v1/join", _MAX_ANSWER_BYTES)
        try:
            facts: dict[str, Any] = json.loads(data)
            host, _, port = str(facts["grpc"]).rpartition(":")
            versions = str(facts["python"]), str(facts["version"])
            beat_seconds, lost_seconds = float(facts["heartbeat_seconds"]), float(facts["lost_seconds"])
            tls, certificates = bool(facts.get("tls")), bool(facts.get("client_certificates"))
        except (ValueError, KeyError, TypeError) as error:
            raise ServerUnreachable(f"{self.url} does not answer like a coordinator of Gristmill.") from error
        if versions != (PYTHON_VERSION, VERSION):
            raise VersionMismatch(version_mismatch("The coordinator", *versions, "this worker"))
        if host.strip("[]") in ("", "0.0.0.0", "::"):  # all its addresses: so also the one that we know
            host = f"[{self.host}]" if ":" in self.host else self.host
        return JoinFacts(f"{host}:{port}", beat_seconds, lost_seconds, tls, certificates)

    def blob(self, name: str) -> bytes:
        """What is kept there under this SHA-256.

        Raises:
            ServerUnreachable: it does not answer, or has no such blob.
            NotAuthorized: it does not know the token.
        """
        return self._get(f"/api/v1/blobs/{name}", None)

    def _get(self, path: str, limit: int | None) -> bytes:
        request = urllib.request.Request(self.url + path, headers={"Authorization": f"Bearer {self._token}"})
        try:
            with self._opener.open(request, timeout=_TIMEOUT_SECONDS) as answer:
                data: bytes = answer.read() if limit is None else answer.read(limit)
                return data
        except urllib.error.HTTPError as error:
            with error:
                if error.code == 400 and (detail := _detail(error)):
                    raise UsageError(f"{self.url} refuses: {detail}") from error
                if error.code in (401, 403):
                    raise NotAuthorized(
                        f"The coordinator at {self.url} does not know this token. "
                        "Name the right file with --token-file: the file `token` of its data directory, or what "
                        "`gristmill token add NAME --role worker` has printed there."
                    ) from error
                raise ServerUnreachable(f"{self.url}{path} answers {error.code} {error.reason}.") from error
        except (OSError, ValueError, http.client.HTTPException) as error:  # time-outs, half an answer, what is no HTTP
            cause = getattr(error, "reason", None) or error
            if isinstance(cause, ssl.SSLError):
                raise distrust(self.url, cause) from error
            if speaks_tls(self.url, cause):
                raise UsageError(f"{self.url} speaks TLS: write https:// for it.") from error
            reason = getattr(cause, "strerror", None) or cause
            raise ServerUnreachable(f"No coordinator answers at {self.url}: {reason}.") from error


def _detail(error: urllib.error.HTTPError) -> str:
    """What a problem document says."""
    try:
        return str(json.loads(error.read(_MAX_ANSWER_BYTES))["detail"])
    except (OSError, ValueError, KeyError, TypeError, http.client.HTTPException):
        return ""


def version_mismatch(one: str, python: str, version: str, other: str) -> str:
    """What to say when two cannot work together.

    Args:
        one: who has these versions.
        python: its Python.
        version: its Gristmill.
        other: who has the versions of this process.
    """
    return (
        f"{one} runs Gristmill {version} on Python {python}, and {other} runs Gristmill {VERSION} on Python "
        f"{PYTHON_VERSION}. Both must be the same, for code travels between them."
    )
