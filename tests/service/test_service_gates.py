"""What HTTP promises beside what is asked for: shares of live streams, kinds of problems, keys, HEAD, queries."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncGenerator, Iterator
from contextlib import ExitStack
from hashlib import sha256
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from doors_kit import JOB, Answer, Visitor, bearer, tokens_of
from starlette.exceptions import HTTPException

from gristmill.errors import KeyTaken, OutputExists, ServerFull
from gristmill.runtime.journal.facts import JobTakenUp
from gristmill.service.doors.connections import most_connections
from gristmill.service.doors.roles import Role
from gristmill.service.doors.seats import Seats
from gristmill.service.problems import ERRORS, STATUSES, problem, status_of, title_of
from gristmill.service.server import Server, ServeSettings


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("server")


@pytest.fixture(scope="module")
def server(data_dir: Path) -> Iterator[Server]:
    with Server(ServeSettings(port=0, data_dir=data_dir)) as server:
        yield server


@pytest.fixture(scope="module")
def tokens(server: Server, data_dir: Path) -> dict[Role, str]:
    return tokens_of(server, data_dir)


@pytest.fixture
def visitor(server: Server) -> Iterator[Visitor]:
    visitor = Visitor(server)
    yield visitor
    visitor.close()


# Live streams


def seated(seats: Seats, user: str) -> AsyncGenerator[bytes]:
    async def stream() -> AsyncGenerator[bytes]:
        while True:
            yield b"x"

    found = seats.seated(user, stream())
    assert isinstance(found, AsyncGenerator)
    return found


def test_each_user_has_a_share_and_some_seats_are_left_to_those_who_have_few() -> None:
    async def run() -> None:
        seats, open_streams = Seats(most=48, of_a_user=30), []

        async def take(user: str, count: int) -> int:
            for number in range(count):
                try:
                    stream = seated(seats, user)
                except HTTPException as error:
                    assert error.status_code == 429 and error.headers and error.headers["Retry-After"] == "5"
                    return number
                await anext(stream)
                open_streams.append(stream)
            return count

        assert await take("eager", 100) == 30
        assert await take("other", 100) == 12, "the last are for those who have few"
        assert [await take(name, 1) for name in ("ann", "bob", "other")] == [1, 1, 0]
        for _ in range(3):
            await open_streams.pop(0).aclose()
        seated(seats, "eager")  # one that breaks off before it begins takes none
        assert await take("eager", 100) == 1 and await take("ann", 1) == 1
        for stream in open_streams:
            await stream.aclose()
        assert await take("eager", 31) == 30
        with seats.seat_if_free("eager") as no, seats.seat_if_free("ann") as yes:
            assert (no, yes) == (False, True)

    asyncio.run(run())


def test_one_viewer_locks_nobody_out_of_live_pages(server: Server, tokens: dict[Role, str]) -> None:
    parts = urlsplit(server.url)

    def look(path: str, role: Role) -> tuple[socket.socket, bytes]:
        one = socket.create_connection((parts.hostname or "", parts.port or 0), timeout=20)
        head = f"GET {path} HTTP/1.1\r\nHost: {parts.netloc}\r\nAuthorization: Bearer {tokens[role]}\r\n\r\n"
        one.sendall(head.encode())
        return one, one.recv(4000)

    with ExitStack() as close:
        share = Seats().of_a_user
        assert share < most_connections() / 3
        for number in range(share + 3):
            one, answer = look("/live" if number % 2 else "/workers/live", Role.VIEWER)
            close.enter_context(one)
            expected = b"HTTP/1.1 200" if number < share else b"HTTP/1.1 429"
            assert answer.startswith(expected), (number, answer)
        assert b"\r\nretry-after: 5\r\n" in answer.lower()
        for path, status in ((f"/api/v1/jobs/{JOB}/events", b"404"), ("/live", b"200"), ("/workers/live", b"200")):
            one, answer = look(path, Role.ADMIN)
            close.enter_context(one)
            assert answer.split()[1] == status, path


# Problems


def test_each_kind_of_problem_has_a_type_and_a_title() -> None:
    assert json.loads(bytes(problem(404, "x").body))["type"] == "urn:gristmill:error:NotFound"
    found = json.loads(bytes(problem(status_of(OutputExists("x")), "x", OutputExists).body))
    assert (found["type"], found["title"], found["status"]) == (
        "urn:gristmill:error:OutputExists", "Output exists", 409,
    )  # fmt: skip
    full = problem(status_of(ServerFull("x")), "x", ServerFull)
    assert full.status_code == 503 and full.headers["Retry-After"] and b'"Server full"' in full.body
    assert status_of(KeyTaken("j")) == 422
    kinds = [kind for kind, _ in STATUSES.values()] + [title_of(cls).replace(" ", "") for cls, _ in ERRORS]
    assert len({kind.lower() for kind in kinds}) == len(kinds) - 1, "NotAuthorized is both"


def test_every_answer_of_later_says_when_and_is_described_so(visitor: Visitor, tokens: dict[Role, str]) -> None:
    document = visitor.ask("GET", "/api/v1/openapi.json", **bearer(tokens[Role.VIEWER])).problem
    for path, item in document["paths"].items():
        for method, operation in item.items():
            for status in ("429", "503"):
                assert "Retry-After" in operation["responses"][status]["headers"], (method, path)


# Idempotency-Key


def test_a_retry_with_the_same_key_is_one(
    server: Server, visitor: Visitor, tokens: dict[Role, str], tmp_path: Path
) -> None:
    """Without workers the job waits until it is cancelled, again and again."""
    (tmp_path / "in.txt").write_text("a\n")
    wish = {"job": "wordcount", "inputs": [str(tmp_path / "in.txt")], "output": str(tmp_path / "out")}
    admin = {**bearer(tokens[Role.ADMIN]), "Content-Type": "application/json"}

    def post(path: str, body: object = None, key: str | None = None) -> Answer:
        headers = admin if key is None else {**admin, "Idempotency-Key": key}
        return visitor.ask("POST", f"/api/v1/{path}", b"" if body is None else json.dumps(body).encode(), **headers)

    job = post("jobs", wish, '"k1"').problem["id"]
    assert post("jobs", wish, "k1").problem["id"] == job, "a quoted key is the same one"

    def end() -> None:
        assert post(f"jobs/{job}/cancel", key="c").status == 202 and post(f"jobs/{job}/cancel", key="c").status == 202
        assert visitor.ask("GET", f"/api/v1/jobs/{job}?wait=20", **admin).problem["state"] == "cancelled"

    def state() -> str:
        return str(visitor.ask("GET", f"/api/v1/jobs/{job}", **admin).problem["state"])

    end()
    assert post(f"jobs/{job}/retry", key="again").status == 202 and state() in ("queued", "running")
    assert post(f"jobs/{job}/retry", key="again").status == 202, "it is not over; but it is the same call"
    assert post(f"jobs/{job}/retry", key="other").status == 409
    end()
    assert post(f"jobs/{job}/retry", key='"again"').status == 202 and state() == "cancelled"
    assert post(f"jobs/{job}/retry", key="other").status == 202 and state() in ("queued", "running")
    end()
    facts = server.jobs.histories.journal.facts(job)
    assert [fact.key for fact in facts if isinstance(fact, JobTakenUp)] == ["again", "other"]


def test_a_session_with_the_same_key_is_one(visitor: Visitor, tokens: dict[Role, str]) -> None:
    def begin(role: Role, key: str) -> str:
        answer = visitor.ask("POST", "/api/v1/sessions", b"", **bearer(tokens[role]), Idempotency_Key=key)
        assert answer.status == 201
        return str(answer.problem["id"])

    first = begin(Role.ADMIN, "s")
    assert begin(Role.ADMIN, '"s"') == first
    assert len({first, begin(Role.ADMIN, "t"), begin(Role.SUBMITTER, "s")}) == 3
    assert visitor.ask("DELETE", f"/api/v1/sessions/{first}", **bearer(tokens[Role.ADMIN])).status == 204
    assert begin(Role.ADMIN, "s") != first, "that one is over"


@pytest.mark.parametrize("key", ["", " ", '""', '"', '"a', 'a"b"c"'[1:], '"a";b', '"a\\n"'])
@pytest.mark.parametrize("path", ["jobs", f"jobs/{JOB}/retry", f"jobs/{JOB}/cancel", "sessions"])
def test_a_key_that_is_none_is_refused(visitor: Visitor, tokens: dict[Role, str], path: str, key: str) -> None:
    more = {"Content-Type": "application/json", "Idempotency-Key": key}
    answer = visitor.ask("POST", f"/api/v1/{path}", b"{}", **bearer(tokens[Role.ADMIN]), **more)
    assert answer.status == 400 and "Idempotency-Key" in answer.problem["detail"]


# What HTTP has besides


def test_head_is_answered_as_get_is(server: Server, visitor: Visitor, tokens: dict[Role, str]) -> None:
    """Also of streams, which come to an end by it."""
    for path in (
        "/livez",
        "/readyz",
        "/metrics",
        "/",
        "/live",
        "/api/v1/jobs",
        "/api/v1/openapi.json",
        "/static/page.css",
    ):
        answer = visitor.ask("HEAD", path, **bearer(tokens[Role.VIEWER]))
        assert (answer.status, answer.body) == (200, b""), path
        if path != "/live":
            got = visitor.ask("GET", path, **bearer(tokens[Role.VIEWER]))
            assert answer.headers["Content-Type"] == got.headers["Content-Type"], path
    for path, status in (
        ("/api/v1/jobs/x", 404),
        ("/nowhere", 404),
        ("/api/v1/jobs/x/cancel", 405),
        ("/api/v1/join", 403),
    ):
        assert visitor.ask("HEAD", path, **bearer(tokens[Role.VIEWER])).status == status, path
    assert visitor.ask("HEAD", "/metrics").status == 401


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        ("jobs?limt=3", {"limt": "there is no such parameter here; there is before, limit, name, since, state, user"}),
        (f"jobs/{JOB}?wait=1&x=", {"x": "there is no such parameter here; there is wait"}),
        ("workers?a=1&b=2", {"a": "no parameter is known here", "b": "no parameter is known here"}),
        ("jobs?before=nonsense", {"before": "String should match pattern '^\\d{8}-\\d{6}-[0-9a-z]{1,40}$'"}),
    ],
)
def test_what_a_query_does_not_know_is_refused_by_name(
    visitor: Visitor, tokens: dict[Role, str], path: str, fields: dict[str, str]
) -> None:
    answer = visitor.ask("GET", f"/api/v1/{path}", **bearer(tokens[Role.VIEWER]))
    assert (answer.status, answer.problem["fields"]) == (422, fields)


def test_what_is_made_says_where_it_is(visitor: Visitor, tokens: dict[Role, str], tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_text("a\n")
    wish = {"job": "wordcount", "inputs": [str(tmp_path / "in.txt")], "output": str(tmp_path / "out")}
    admin = {**bearer(tokens[Role.ADMIN]), "Content-Type": "application/json"}
    made = visitor.ask("POST", "/api/v1/jobs", json.dumps(wish).encode(), **admin)
    place = made.headers["Location"]
    assert (made.status, place) == (201, f"/api/v1/jobs/{made.problem['id']}")
    assert visitor.ask("GET", place, **admin).status == 200
    ended = visitor.ask("POST", f"{place}/cancel", b"", **admin)
    assert (ended.status, ended.headers["Location"]) == (202, place)
    blob = sha256(b"x").hexdigest()
    put = visitor.ask("PUT", f"/api/v1/blobs/{blob}", b"x", **bearer(tokens[Role.ADMIN]))
    assert (put.status, put.headers["Location"]) == (201, f"/api/v1/blobs/{blob}")


def test_a_whole_url_as_target_names_this_server_or_is_refused(server: Server, tokens: dict[Role, str]) -> None:
    parts = urlsplit(server.url)

    def ask(target: str, host: str = parts.netloc) -> bytes:
        with socket.create_connection((parts.hostname or "", parts.port or 0), timeout=20) as one:
            head = f"GET {target} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {tokens[Role.VIEWER]}\r\n"
            one.sendall(f"{head}Connection: close\r\n\r\n".encode())
            return one.makefile("rb").read().split()[1]

    assert ask(f"{server.url}/api/v1/jobs?limit=1") == b"200"
    assert ask(f"{server.url}/api/v1/jobs?limit=0") == b"422"
    for target in (
        "http://evil.test/api/v1/jobs",
        "http://169.254.169.254/",
        "https://evil.test:443/livez",
        "http:///x",
    ):
        assert ask(target) == b"400", target
    assert ask(f"{server.url}/livez", "evil.test") == b"400", "both must be this server's"


def test_the_number_in_a_workers_name_is_written_so(visitor: Visitor, tokens: dict[Role, str]) -> None:
    answer = visitor.ask("DELETE", "/api/v1/workers/vm", **bearer(tokens[Role.ADMIN]))
    assert answer.status == 404 and "vm%231" in answer.problem["detail"]
