"""A server that runs a few jobs, and those whom it tells of them: a web server and a mail server, for its tests."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session
from chaos_cluster_kit import free_port

from gristmill.service.server import Server

PATIENCE = 60.0


class Call(NamedTuple):
    """What a web server was sent."""

    path: str
    headers: Any
    body: bytes


@dataclass
class Heard:
    """What others were told."""

    calls: list[Call] = field(default_factory=list)
    mails: list[EmailMessage] = field(default_factory=list)
    answers: list[int] = field(default_factory=list)  # the statuses of the next answers; 204 after these

    def wait(self, calls: int = 0, mails: int = 0) -> None:
        """Wait until so many have come."""
        give_up = time.monotonic() + PATIENCE
        while len(self.calls) < calls or len(self.mails) < mails:
            assert time.monotonic() < give_up, self
            time.sleep(0.02)

    def bodies(self, path: str) -> list[Any]:
        """What was posted to a path."""
        return [json.loads(call.body) for call in self.calls if call.path == path]


@contextmanager
def web_server(heard: Heard) -> Iterator[str]:
    """A web server that keeps what it is sent."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            status = heard.answers.pop(0) if heard.answers else 204
            heard.calls.append(Call(self.path, dict(self.headers), body))
            self.send_response(status)
            self.send_header("Location", "/elsewhere")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join(60)
        server.server_close()


@contextmanager
def mail_server(heard: Heard) -> Iterator[str]:
    """An SMTP server that keeps what it is sent."""

    class Handler:
        async def handle_DATA(self, _server: SMTP, _session: Session, envelope: Envelope) -> str:
            assert isinstance(envelope.content, bytes)
            found = message_from_bytes(envelope.content, policy=policy.default)
            assert isinstance(found, EmailMessage)
            found["X-Recipients"] = ", ".join(envelope.rcpt_tos)
            heard.mails.append(found)
            return "250 OK"

    controller = Controller(Handler(), hostname="127.0.0.1", port=free_port())
    controller.start()
    try:
        yield f"smtp://127.0.0.1:{controller.port}"
    finally:
        controller.stop()


class Answer(NamedTuple):
    """What the server answered."""

    status: int
    headers: Any
    body: bytes

    @property
    def json(self) -> Any:
        """Its body."""
        return json.loads(self.body)


def ask(server: Server, method: str, path: str, body: Any = None, **headers: str) -> Answer:
    """One call, with the server's token."""
    token = server.token_file.read_text().strip()
    known = {"Authorization": f"Bearer {token}", "Content-Type": "application/json", **headers}
    connection = http.client.HTTPConnection(urlsplit(server.url).netloc, timeout=30)
    try:
        connection.request(method, path, None if body is None else json.dumps(body), known)
        reply = connection.getresponse()
        return Answer(reply.status, reply.headers, reply.read())
    finally:
        connection.close()


def finish(server: Server, job: str) -> str:
    """Wait for the end of a job; its state."""
    give_up = time.monotonic() + PATIENCE
    while (found := ask(server, "GET", f"/api/v1/jobs/{job}?wait=10").json)["state"] in ("queued", "running"):
        assert time.monotonic() < give_up, found
    return str(found["state"])


def write_job(path: Path, text: str) -> str:
    """A job's file."""
    path.write_text(text)
    return str(path)
