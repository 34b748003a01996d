"""A server's job API, as a client calls it: patient while the server is away, and with its errors as exceptions.

A call that got no answer is made again: every call may be, since a submission carries a key by which the server knows
it. Before the first answer the patience is short, for there may be no server at all; after that it outlasts a restart.
"""

from __future__ import annotations

import http.client
import json
import os
import random
import shutil
import ssl
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from gristmill.config import VERSION_HEADERS, default_data_dir
from gristmill.errors import GristmillError, KeyTaken, NotAuthorized, ServerUnreachable, UsageError
from gristmill.runtime.transport.tls import Trust, distrust, speaks_tls
from gristmill.storage.uris import shown

FIRST_PATIENCE_SECONDS = 5.0
PATIENCE_SECONDS = 600.0
_API = "/api/v1"
_CALL_SECONDS = 30.0
_COPY_BYTES = 1024 * 1024
_PAUSE_SECONDS = 0.2
_LONGEST_PAUSE_SECONDS = 5.0
_TRY_AGAIN = (429, 502, 503, 504)
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


class MissingBlobs(UsageError):
    """The server needs these blobs first. Never seen by users."""

    def __init__(self, names: tuple[str, ...]) -> None:
        self.names = names
        super().__init__(f"The server has not been sent {', '.join(names)}.")


class ServerClient:
    """One server.

    Args:
        url: where it listens.
        token: what it knows its clients by.
        patience_seconds: for how long to go on without any answer, once there was one.
        expected: the server is known to have been there, so that it is waited for as patiently before its first answer.
        trust: whom to believe, if it speaks TLS; None: as the environment says.

    Attributes:
        is_here: whether it runs on this machine.
        on_silence: is called before a call is made again, if anybody wants to know.
    """

    def __init__(
        self,
        url: str,
        token: str,
        patience_seconds: float = PATIENCE_SECONDS,
        *,
        expected: bool = False,
        trust: Trust | None = None,
    ) -> None:
        self.url = url.rstrip("/")
        self._token = token
        self._patience_seconds = patience_seconds
        self._answered = False
        self._expected = expected
        self.on_silence: Callable[[], None] | None = None
        self.is_here = urllib.parse.urlsplit(url).hostname in _LOOPBACK
        # No proxy leads to this machine, whatever the environment says of others.
        handlers: list[urllib.request.BaseHandler] = [urllib.request.ProxyHandler({})] if self.is_here else []
        if self.url.startswith("https:"):
            handlers.append((trust or Trust.from_environment()).handler())
        self._opener = urllib.request.build_opener(*handlers)

    def get(self, path: str, *, seconds: float = _CALL_SECONDS) -> Any:
        """What is at a path of the API."""
        return self.call("GET", path, seconds=seconds)

    def post(self, path: str, value: Any = None, headers: Mapping[str, str] | None = None) -> Any:
        """The answer to a value."""
        data = b"" if value is None else json.dumps(value).encode()
        return self.call("POST", path, data, {"Content-Type": "application/json", **(headers or {})})

    def delete(self, path: str) -> None:
        """Delete what is at a path of the API."""
        self.call("DELETE", path)

    def text(self, path: str) -> str:
        """The text at a path of the API."""
        found: list[bytes] = []
        self.call("GET", path, read=lambda reply: found.append(reply.read()))
        return found[-1].decode()

    def download(self, path: str, target: Path) -> None:
        """Write the bytes at a path of the API into a file."""

        def write(reply: Any) -> None:
            with target.open("wb") as file:
                shutil.copyfileobj(reply, file, _COPY_BYTES)
            if reply.length:
                raise http.client.IncompleteRead(b"", reply.length)

        self.call("GET", path, read=write)

    def call(
        self,
        method: str,
        path: str,
        data: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        *,
        seconds: float = _CALL_SECONDS,
        read: Callable[[Any], Any] | None = None,
    ) -> Any:
        """Make a call, again and again until there is an answer.

        Args:
            method: of HTTP.
            path: below ``/api/v1``.
            data: the body.
            headers: beside the usual ones.
            seconds: how long one try may take.
            read: takes the answer, if that is not JSON.

        Raises:
            ServerUnreachable: nobody answered for too long.
            GristmillError: what the server answered, as the exception that it was there.
        """
        request = urllib.request.Request(
            f"{self.url}{_API}{path}",
            data=data,
            method=method,
            headers={"Authorization": f"Bearer {self._token}", **VERSION_HEADERS, **(headers or {})},
        )
        give_up = time.monotonic() + self.silence_seconds
        pause = _PAUSE_SECONDS
        while True:
            try:
                with self._opener.open(request, timeout=seconds) as reply:
                    answer = reply.read() if read is None else read(reply)
                self._answered = True
                return json.loads(answer) if answer else None
            except urllib.error.HTTPError as error:
                if error.code not in _TRY_AGAIN:
                    self._answered = True
                    raise self._refusal(error) from None
                why = f"it answers {error.code} {error.reason}"
            except ssl.SSLError as error:
                raise distrust(self.url, error) from error
            except urllib.error.URLError as error:
                if isinstance(error.reason, ssl.SSLError):
                    raise distrust(self.url, error.reason) from error
                if speaks_tls(self.url, error.reason):
                    raise UsageError(f"{self.url} speaks TLS: write https:// for it.") from error
                why = str(getattr(error.reason, "strerror", None) or error.reason)
            except http.client.InvalidURL as error:
                raise UsageError(f"{self.url} is not the address of a server: {error}.") from error
            except (OSError, http.client.HTTPException) as error:  # it went away in the middle of its answer
                if speaks_tls(self.url, error):
                    raise UsageError(f"{self.url} speaks TLS: write https:// for it.") from error
                why = str(error) or type(error).__name__
            except ValueError as error:
                raise UsageError(f"{self.url} is not a Gristmill server: its answer is not JSON.") from error
            if time.monotonic() + pause > give_up:
                raise self._unreachable(why)
            if self.on_silence is not None:
                self.on_silence()
            time.sleep(pause * random.uniform(0.7, 1.3))
            pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)

    @property
    def has_answered(self) -> bool:
        """Whether there was any answer yet."""
        return self._answered

    @property
    def silence_seconds(self) -> float:
        """For how long a server that does not answer is asked again."""
        return self._patience_seconds if self._answered or self._expected else FIRST_PATIENCE_SECONDS

    def _unreachable(self, why: str) -> ServerUnreachable:
        if not self._answered and not self._expected:
            return ServerUnreachable(f"No server answers at {self.url}: {why}. Start one with `gristmill serve`.")
        return ServerUnreachable(f"The server {self.url} has not answered for {self._patience_seconds:.0f} s: {why}.")

    def _refusal(self, error: urllib.error.HTTPError) -> GristmillError:
        try:
            problem = json.loads(error.read())
        except (OSError, ValueError, http.client.HTTPException):
            problem = None
        if not isinstance(problem, dict) or "title" not in problem:
            return UsageError(f"{self.url} is not a Gristmill server: it answers {error.code} {error.reason}.")
        if error.code == 401:
            return NotAuthorized(
                f"The server {self.url} does not know this token. Name the right file with --token-file, or set "
                "GRISTMILL_TOKEN. On the server's machine `gristmill token add NAME --role ROLE` makes one for you."
            )
        if problem.get("missing"):
            return MissingBlobs(tuple(map(str, problem["missing"])))
        if problem.get("taken_by"):
            return KeyTaken(str(problem["taken_by"]))
        if problem.get("error"):
            from gristmill.runtime.outcome import error_from_json

            found = error_from_json(problem["error"])
            # A refusal of a kind that only servers know is wrong use all the same.
            return UsageError(str(found)) if type(found) is GristmillError and error.code < 500 else found
        return (GristmillError if error.code >= 500 else UsageError)(str(problem.get("detail") or problem["title"]))


def connect(url: str | None, token_file: Path | None, data_dir: Path, *, expected: bool = False) -> ServerClient:
    """The server that a user means.

    Args:
        url: where it is; None: where ``GRISTMILL_SERVER`` says, else the one that this machine runs on ``data_dir``.
        token_file: holds its token; None: ``GRISTMILL_TOKEN``, else, if it is this machine's, the one in ``data_dir``.
        data_dir: of this machine's server.
        expected: the server is known to have been there.

    Raises:
        UsageError: no server is named, or its token cannot be found.
    """
    url = server_url(url, data_dir)
    return ServerClient(url, token_for(url, token_file, data_dir), expected=expected, trust=_trust(url, data_dir))


def _trust(url: str, data_dir: Path) -> Trust:
    """Whom to believe: as the environment says, else, if it is this machine's server, the certificate that it has."""
    said = Trust.from_environment()
    for folder in () if said.ca is not None else (data_dir, default_data_dir()):
        with suppress(OSError, ValueError, KeyError, TypeError):
            facts = json.loads((folder / "server.json").read_text(encoding="utf-8"))
            if facts["url"] == url.rstrip("/") and Path(facts["tls_ca"]).is_file():
                return Trust(Path(facts["tls_ca"]), str(facts["tls_name"]))
    return said


def server_url(url: str | None, data_dir: Path) -> str:
    """Where the server is; see :func:`connect`.

    Raises:
        UsageError: no server is named.
    """
    url = url or os.environ.get("GRISTMILL_SERVER") or _own_server(data_dir)[0]
    if not url:
        raise UsageError(
            f"No server is named, and none runs on {data_dir}. Name one with --server http://HOST:PORT or "
            "GRISTMILL_SERVER, or start one with `gristmill serve`."
        )
    return checked_url(url)


def checked_url(url: str) -> str:
    """The address of a server, if it has the form of one.

    Raises:
        UsageError: it has not; what to write instead is said.
    """
    plain = shown(url)
    wrong = f"{plain!r} is not the address of a server; one is written http://HOST:PORT"
    if url == "ray" or url.startswith("ray://"):
        raise UsageError(f"{wrong}. On Ray jobs have no server: gristmill run --on {plain}, or ray job submit.")
    if "://" not in url:
        raise UsageError(f"{wrong}: write http://{url}.")
    try:
        parts = urllib.parse.urlsplit(url)
        hidden = "@" in parts.netloc or bool(parts.query)
    except ValueError as error:
        raise UsageError(f"{wrong}.") from error
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UsageError(f"{wrong}.")
    if hidden:  # the link of its page, say: it would stand in messages from then on
        raise UsageError(f"{wrong}, without a token or a user in it: name {plain}, and the token by --token-file.")
    if _API in parts.path:
        raise UsageError(f"{wrong}: leave {parts.path} out.")
    return url


def _own_server(data_dir: Path) -> tuple[str, Path]:
    """Where the server that runs on this machine listens, as it says itself, and where its token is."""
    try:
        facts = json.loads((data_dir / "server.json").read_text(encoding="utf-8"))
        return str(facts["url"]), Path(facts["token_file"])
    except (OSError, ValueError, KeyError, TypeError):
        return "", data_dir / "token"


def token_for(url: str, token_file: Path | None, data_dir: Path) -> str:
    """The token to show a server; see :func:`connect`.

    Raises:
        UsageError: it cannot be found.
    """
    if token_file is not None:
        try:
            return token_file.read_text(encoding="utf-8").strip()
        except OSError as error:
            raise UsageError(f"The token file {token_file} cannot be read: {error.strerror}.") from error
    if named := os.environ.get("GRISTMILL_TOKEN"):
        return named.strip()
    for folder in (data_dir, default_data_dir()):
        own, file = _own_server(folder)
        # A token is shown to nobody but the server that made it.
        if url.rstrip("/") == own or urllib.parse.urlsplit(url).hostname in _LOOPBACK:
            with suppress(OSError):
                return file.read_text(encoding="utf-8").strip()
    raise NotAuthorized(
        f"There is no token for the server {url}. It is in the file DATA_DIR/token on its machine; name a copy of it "
        "with --token-file, or set GRISTMILL_TOKEN."
    )
