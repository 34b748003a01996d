"""How many connections there may be, and what gives way; tokens and logins by themselves."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sqlite3
import stat
import threading
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from doors_kit import Visitor, bearer, path_of

from gristmill.cli.main import main
from gristmill.errors import UsageError
from gristmill.runtime.coordinator.registry import RunningJob
from gristmill.runtime.files.jobfolder import JobFolder
from gristmill.runtime.journal.journal import JOURNAL, Journal
from gristmill.runtime.process.private import claim_folder
from gristmill.service.doors.limits import Exchange, Guesses
from gristmill.service.doors.logins import LOGIN_SECONDS, LOGINS, Logins
from gristmill.service.doors.roles import Role
from gristmill.service.doors.site import is_same_site, site_of
from gristmill.service.doors.tokens import TOKENS, Tokens, add_token, read_tokens, remove_token, server_token
from gristmill.service.drivers import token_of
from gristmill.service.server import Server, ServeSettings


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("server")
    folder.chmod(0o755)  # somebody has made it, and has not thought of others
    with closing(Journal(folder / JOURNAL)) as journal:
        journal.open()
    (folder / JOURNAL).chmod(0o644)  # as earlier versions have left it
    return folder


@pytest.fixture(scope="module")
def server(data_dir: Path) -> Iterator[Server]:
    with Server(ServeSettings(port=0, data_dir=data_dir)) as server:
        yield server


def raw(server: Server) -> socket.socket:
    parts = urlsplit(server.url)
    return socket.create_connection((parts.hostname or "", parts.port or 0), timeout=20)


# Connections


def test_those_who_say_nothing_whole_give_way(server: Server) -> None:
    """More of them than there are places: and whoever says what it wants is answered at once."""
    slow = [raw(server) for _ in range(1200)]
    try:
        for number, one in enumerate(slow):
            one.sendall(b"GET /livez HTTP/1.1\r\nHost: 127.0.0.1\r\n" if number % 2 else b"")
        visitor = Visitor(server)
        assert visitor.ask("GET", "/livez").status == 200
        visitor.close()
        assert closed(slow[0]), "the one that has waited longest; it would be told if it were given up for its slowness"
    finally:
        for one in slow:
            one.close()


def closed(one: socket.socket) -> bool:
    try:
        return one.recv(1) == b""
    except ConnectionError:
        return True


def test_a_request_without_end_is_cut_off(server: Server) -> None:
    with raw(server) as one:
        one.sendall(b"GET /livez HTTP/1.1\r\nHost: 127.0.0.1\r\nX: ")
        answer = b""
        with suppress(ConnectionError):
            for _ in range(200):
                one.sendall(b"x" * 1024)
            answer = one.recv(100)
        assert not answer.startswith(b"HTTP/1.1 408"), "nor because it was slow"


def test_two_hosts_are_none(server: Server) -> None:
    with raw(server) as one:
        one.sendall(b"GET /livez HTTP/1.1\r\nHost: 127.0.0.1\r\nHost: evil.test\r\nConnection: close\r\n\r\n")
        assert one.recv(100).startswith(b"HTTP/1.1 400")
    with raw(server) as one:
        one.sendall(b"GET /livez HTTP/1.0\r\n\r\n")
        assert one.recv(100).startswith(b"HTTP/1.1 400"), "an old client that names none"


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_body_that_does_not_come() -> None:
    clock = Clock()

    async def slow() -> Any:
        clock.now += 29
        return {"type": "http.request", "body": b"x", "more_body": True}

    async def nothing(_message: Any) -> None:
        """Stands for a client that takes the answer."""

    async def read() -> int:
        exchange = Exchange(slow, nothing, lambda: True, clock)
        count = 0
        while True:
            try:
                await exchange.receive()
            except Exception as error:
                assert getattr(error, "status_code", 0) == 408
                return count
            count += 1

    assert asyncio.run(read()) in (1, 2), "one byte each time is too slow, however often"


def test_a_stream_ends_with_its_token() -> None:
    """What is sent for long is sent for as long as its reader is known."""
    clock, sent = Clock(), []

    async def receive() -> Any:
        if clock.now == 1000.0:
            return {"type": "http.request", "body": b"", "more_body": False}
        await asyncio.sleep(60)

    async def send(message: Any) -> None:
        sent.append(message)

    async def stream() -> None:
        exchange = Exchange(receive, send, lambda: clock.now < 1005, clock)
        await exchange.receive()
        gone = asyncio.create_task(exchange.receive())
        for _ in range(20):
            clock.now += 1.5
            await exchange.send({"type": "http.response.body", "body": b"x", "more_body": True})
        assert await asyncio.wait_for(gone, 60) == {"type": "http.disconnect"}

    asyncio.run(stream())
    assert len(sent) == 3


def test_guesses_are_counted_by_address_and_forgotten() -> None:
    clock = Clock()
    guesses = Guesses(clock)
    assert sum(guesses.is_too_fast("192.0.2.1") for _ in range(300)) == 100
    assert not guesses.is_too_fast("192.0.2.2")
    clock.now += 10
    assert sum(guesses.is_too_fast("192.0.2.1") for _ in range(300)) > 190
    assert sum(guesses.is_too_fast(f"2001:db8::{n:x}") for n in range(300)) == 100, "one machine has many of these"
    for number in range(20_000):
        guesses.is_too_fast(f"10.0.{number // 256}.{number % 256}")
    assert len(guesses._left) <= 10_000


# Names


@pytest.mark.parametrize(
    ("host", "named", "here"),
    [
        ("127.0.0.1", "127.0.0.1:7077", True),
        ("127.0.0.1", "localhost", True),
        ("127.0.0.1", "LOCALHOST.:80", True),
        ("127.0.0.1", "[::1]:7077", True),
        ("127.0.0.1", "127.9.9.9", True),
        ("127.0.0.1", "192.0.2.1", False),
        ("127.0.0.1", socket.gethostname(), False),
        ("0.0.0.0", socket.gethostname(), True),
        ("0.0.0.0", "192.0.2.1:7077", True),
        ("0.0.0.0", "[2001:db8::1]", True),
        ("0.0.0.0", "mill.test", False),
        ("mill.test", "mill.test:7077", True),
        ("0.0.0.0", "proxy.test", True),
        ("127.0.0.1", "proxy.test", True),
        ("0.0.0.0", "0x7f.1", False),
        ("0.0.0.0", "", False),
    ],
)
def test_which_names_are_ours(host: str, named: str, here: bool) -> None:
    assert site_of(host, ("Proxy.test.",)).is_here(named) is here


@pytest.mark.parametrize(
    ("origin", "host", "scheme", "same"),
    [
        ("http://a.test", "a.test", "http", True),
        ("http://a.test:80", "a.test", "http", True),
        ("https://a.test", "a.test:443", "https", True),
        ("https://a.test", "a.test", "http", True),
        ("http://a.test", "a.test", "https", False),
        ("http://a.test:8080", "a.test", "http", False),
        ("http://A.test", "a.TEST", "http", True),
        ("http://[::1]:1", "[::1]:1", "http", True),
        ("http://a.test:x", "a.test", "http", False),
    ],
)
def test_which_pages_are_ours(origin: str, host: str, scheme: str, same: bool) -> None:
    assert is_same_site(origin, host, scheme) is same


# Tokens and logins


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_files_are_their_owners_alone_and_hold_no_token(server: Server, data_dir: Path) -> None:
    token = add_token(data_dir / TOKENS, "private", Role.VIEWER)
    visitor = Visitor(server)
    cookie = visitor.ask("GET", f"/?token={token}").headers["Set-Cookie"].partition(";")[0].partition("=")[2]
    visitor.close()
    assert mode(data_dir) == 0o700
    with closing(sqlite3.connect(data_dir / JOURNAL)) as journal:  # what SQLite puts beside it is there meanwhile
        journal.execute("SELECT count(*) FROM facts").fetchall()
        for name in ("token", TOKENS, LOGINS, "server.json", JOURNAL, f"{JOURNAL}-wal", f"{JOURNAL}-shm"):
            assert mode(data_dir / name) == 0o600, name
    for name in (TOKENS, LOGINS):
        text = (data_dir / name).read_text()
        assert token not in text and cookie not in text


def test_a_journal_is_its_owners_alone_whatever_the_umask_says(tmp_path: Path) -> None:
    folder, before = tmp_path / "data", os.umask(0)
    try:
        make_job = JobFolder.create(folder, {}, 1.0)
        with closing(Journal(folder / JOURNAL)) as journal:
            journal.open()
    finally:
        os.umask(before)
    assert mode(folder) == mode(folder / "jobs") == mode(make_job.path) == 0o700 and mode(folder / JOURNAL) == 0o600
    make_job.remove()


@pytest.mark.skipif(os.geteuid() != 0, reason="nobody else can give a folder away")
def test_a_data_directory_of_another_user_is_said(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    assert claim_folder(tmp_path) == "" and mode(tmp_path) == 0o700
    os.chown(tmp_path, 12345, -1)
    assert "belongs to another user" in claim_folder(tmp_path)


def test_what_is_everybodys_is_no_data_directory(tmp_path: Path) -> None:
    tmp_path.chmod(0o1777)
    with pytest.raises(UsageError, match="is everybody's"), Server(ServeSettings(port=0, data_dir=tmp_path)):
        pass
    assert mode(tmp_path) == 0o777 | 0o1000


def test_tokens_come_and_go_while_a_server_runs(tmp_path: Path) -> None:
    tokens = Tokens("the-administrators-own", tmp_path / TOKENS)
    assert tokens.find("the-administrators-own") is not None
    token = add_token(tmp_path / TOKENS, "ann", Role.SUBMITTER)
    found = tokens.find(token)
    assert found is not None and (found.name, found.role) == ("ann", Role.SUBMITTER)
    assert tokens.opens(token, Role.VIEWER) and not tokens.opens(token, Role.WORKER)
    for wrong in ("", token[:-1], token + "x", "\udcff", "x" * 100_000):
        assert tokens.find(wrong) is None
    remove_token(tmp_path / TOKENS, "ann")
    assert tokens.find(token) is None
    (tmp_path / TOKENS).write_text("{")
    assert tokens.find(token) is None and tokens.find("the-administrators-own") is not None


def test_many_are_added_at_once(tmp_path: Path) -> None:
    threads = [
        threading.Thread(target=add_token, args=(tmp_path / TOKENS, f"user-{n}", Role.VIEWER)) for n in range(16)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {entry.name for entry in read_tokens(tmp_path / TOKENS)} == {f"user-{n}" for n in range(16)}


@pytest.mark.parametrize("name", ["", "a b", "../x", "ü", "a" * 65, "-a", "a\n", "admin"])
def test_names_that_are_none(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError):
        add_token(tmp_path / TOKENS, name, Role.VIEWER)


def test_logins_outlive_their_server_and_end_in_time(tmp_path: Path) -> None:
    clock = Clock()
    tokens = Tokens("the-administrators-own")
    value = Logins(tokens, tmp_path / LOGINS, clock).begin("the-administrators-own")
    assert value is not None
    again = Logins(tokens, tmp_path / LOGINS, clock)
    assert again.find(value) is not None and again.find(value + "x") is None and again.find("") is None
    assert Logins(Tokens("another-administrators"), tmp_path / LOGINS, clock).find(value) is None
    clock.now += LOGIN_SECONDS + 1
    assert again.find(value) is None


def test_many_logins_by_one_token_end_nobody_elses(tmp_path: Path) -> None:
    add_token(tmp_path / TOKENS, "ann", Role.VIEWER)
    eager = add_token(tmp_path / TOKENS, "eager", Role.VIEWER)
    tokens = Tokens("the-administrators-own", tmp_path / TOKENS)
    logins = Logins(tokens, tmp_path / LOGINS)
    first = logins.begin("the-administrators-own")
    many = [logins.begin(eager) for _ in range(1100)]
    assert first is not None and logins.find(first) is not None
    assert [value is not None and logins.find(value) is not None for value in many] == [False] * 1080 + [True] * 20
    give_up = time.monotonic() + 60
    while (last := many[-1]) is None or Logins(tokens, tmp_path / LOGINS).find(last) is None:  # a moment later
        assert time.monotonic() < give_up
        time.sleep(0.05)


@pytest.mark.parametrize("text", ["", "short", "with a space in the middle", "ü" * 20])
def test_files_that_hold_no_token(tmp_path: Path, text: str) -> None:
    (tmp_path / "own").write_text(text)
    with pytest.raises(UsageError, match="does not hold a token"):
        server_token(tmp_path, tmp_path / "own")


def test_a_token_is_drawn_once(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        token = server_token(tmp_path / "new", None)
    finally:
        os.umask(before)
    assert server_token(tmp_path / "new", None) == token and len(token) >= 43
    assert mode(tmp_path / "new" / "token") == 0o600


def test_the_commands(server: Server, data_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    where = ["--data-dir", str(data_dir)]
    assert main(["token", "add", "bob", "--role", "submitter", *where]) == 0
    shown = capsys.readouterr()
    token = shown.out.strip()
    assert token not in shown.err
    visitor = Visitor(server)
    assert visitor.ask("GET", "/api/v1/jobs", **bearer(token)).status == 200
    assert main(["token", "list", "--json", *where]) == 0
    listed = json.loads(capsys.readouterr().out)["tokens"]
    assert {"name": "bob", "role": "submitter"}.items() <= next(one for one in listed if one["name"] == "bob").items()
    assert main(["token", "list", *where]) == 0
    assert "bob" in capsys.readouterr().out
    assert main(["token", "add", "bob", "--role", "viewer", *where]) == 2
    assert main(["token", "remove", "bob", *where]) == 0
    assert visitor.ask("GET", "/api/v1/jobs", **bearer(token)).status == 401
    assert main(["token", "remove", "bob", *where]) == 2
    assert "There is no token for bob" in capsys.readouterr().err
    visitor.close()


def test_a_drivers_token_opens_what_is_its_own_alone(
    server: Server, data_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Tried on every way in: it may begin a session or a job and upload code, and has none yet."""
    script = tmp_path / "script.py"
    script.write_text("import gristmill as gm\ngm.range(3).collect()\n")
    assert main(["submit", str(script), "--server", server.url, "--data-dir", str(data_dir)]) == 0
    job = capsys.readouterr().out.strip()
    running = server.coordinator.find(job)
    assert isinstance(running, RunningJob)
    token = token_of(job, running.held.prepared.spec.ticket)
    visitor = Visitor(server)
    opened = set()
    for door in server.keys.doors:
        if door.role is not Role.ANYONE:
            answer = visitor.ask(door.method, path_of(door), b"{}", **bearer(token))
            if answer.status != 403:
                opened.add((door.method, door.path))
    assert opened == {
        ("POST", "/api/v1/jobs"), ("POST", "/api/v1/sessions"),
        ("HEAD", "/api/v1/blobs/{name}"), ("PUT", "/api/v1/blobs/{name}"),
    }  # fmt: skip
    server.jobs.cancel(job)
    assert running.wait(60) is not None
    assert visitor.ask("POST", "/api/v1/sessions", b"{}", **bearer(token)).status == 401, "it is over"
    visitor.close()
