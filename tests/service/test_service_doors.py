"""Every way in, tried by everybody who must not get in: listed from the router and from the .proto themselves."""

from __future__ import annotations

import json
import queue
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import grpc
import pytest
from doors_kit import JOB, PEOPLE, Visitor, bearer, facts_in, path_of, tokens_of

from gristmill.config import PYTHON_VERSION, VERSION
from gristmill.runtime.protocol import agents as pb
from gristmill.runtime.transport.seal import opened, sealed
from gristmill.service.doors.roles import Door, Role
from gristmill.service.doors.tokens import TOKENS, add_token, remove_token
from gristmill.service.server import Server, ServeSettings

ROLES = {
    ("GET", "/livez"): Role.ANYONE,
    ("GET", "/readyz"): Role.ANYONE,
    ("GET", "/metrics"): Role.VIEWER,
    ("GET", "/api/v1/jobs"): Role.VIEWER,
    ("POST", "/api/v1/jobs"): Role.SUBMITTER,
    ("GET", "/api/v1/jobs/{job}"): Role.VIEWER,
    ("POST", "/api/v1/jobs/{job}/cancel"): Role.SUBMITTER,
    ("POST", "/api/v1/jobs/{job}/retry"): Role.SUBMITTER,
    ("POST", "/api/v1/jobs/{job}/code"): Role.SUBMITTER,
    ("GET", "/api/v1/jobs/{job}/tasks"): Role.VIEWER,
    ("GET", "/api/v1/jobs/{job}/tasks/{task}/attempts"): Role.VIEWER,
    ("GET", "/api/v1/jobs/{job}/logs"): Role.VIEWER,
    ("GET", "/api/v1/jobs/{job}/result"): Role.VIEWER,
    ("GET", "/api/v1/jobs/{job}/events"): Role.VIEWER,
    ("GET", "/api/v1/jobs/{job}/trace"): Role.VIEWER,
    ("GET", "/api/v1/builtin"): Role.VIEWER,
    ("GET", "/api/v1/events"): Role.VIEWER,
    ("GET", "/api/v1/workers"): Role.VIEWER,
    ("DELETE", "/api/v1/workers/{worker}"): Role.ADMIN,
    ("GET", "/api/v1/join"): Role.WORKER,
    ("GET", "/api/v1/openapi.json"): Role.VIEWER,
    ("GET", "/api/v1/docs"): Role.VIEWER,
    ("HEAD", "/api/v1/blobs/{name}"): Role.SUBMITTER,
    ("GET", "/api/v1/blobs/{name}"): Role.WORKER,
    ("PUT", "/api/v1/blobs/{name}"): Role.SUBMITTER,
    ("POST", "/api/v1/sessions"): Role.SUBMITTER,
    ("POST", "/api/v1/sessions/{session}/renew"): Role.SUBMITTER,
    ("DELETE", "/api/v1/sessions/{session}"): Role.SUBMITTER,
    ("POST", "/api/v1/sessions/{session}/jobs"): Role.SUBMITTER,
    ("PUT", "/api/v1/sessions/{session}/blobs/{name}"): Role.SUBMITTER,
    ("DELETE", "/api/v1/sessions/{session}/broadcasts/{digest}"): Role.SUBMITTER,
    ("GET", "/api/v1/sessions/{session}/kept/{kept}"): Role.SUBMITTER,
    ("GET", "/api/v1/sessions/{session}/kept/{kept}/{place}"): Role.SUBMITTER,
    ("DELETE", "/api/v1/sessions/{session}/kept/{kept}"): Role.SUBMITTER,
    ("GET", "/login"): Role.ANYONE,
    ("POST", "/login"): Role.ANYONE,
    ("POST", "/logout"): Role.VIEWER,
    ("GET", "/"): Role.VIEWER,
    ("GET", "/live"): Role.VIEWER,
    ("GET", "/history"): Role.VIEWER,
    ("GET", "/workers"): Role.VIEWER,
    ("GET", "/workers/live"): Role.VIEWER,
    ("POST", "/workers/{worker}/drain"): Role.ADMIN,
    ("GET", "/jobs/{job}"): Role.VIEWER,
    ("GET", "/jobs/{job}/live"): Role.VIEWER,
    ("GET", "/jobs/{job}/actions"): Role.VIEWER,
    ("GET", "/jobs/{job}/tasks"): Role.VIEWER,
    ("GET", "/jobs/{job}/tasks/{task}"): Role.VIEWER,
    ("GET", "/jobs/{job}/at"): Role.VIEWER,
    ("GET", "/jobs/{job}/logs"): Role.VIEWER,
    ("GET", "/jobs/{job}/log/{attempt}"): Role.VIEWER,
    ("POST", "/jobs/{job}/cancel"): Role.SUBMITTER,
    ("POST", "/jobs/{job}/retry"): Role.SUBMITTER,
    ("GET", "/submit"): Role.SUBMITTER,
    ("POST", "/submit"): Role.SUBMITTER,
    ("GET", "/static/login/{name}"): Role.ANYONE,
    ("GET", "/static/{name:path}"): Role.VIEWER,
}
"""Every way in, and who may take it. A new route is added here by whoever has thought about that."""

ROLES |= {
    ("HEAD", path): role for (method, path), role in ROLES.items() if method == "GET" and ("HEAD", path) not in ROLES
}

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "BREW")
SAFE = ("GET", "HEAD", "OPTIONS")
_addresses = count(2)


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
    visitor = Visitor(server, f"127.0.{next(_addresses)}.1")  # who has guessed wrong elsewhere is another
    yield visitor
    visitor.close()


@pytest.fixture(autouse=True)
def nothing_happens(server: Server, data_dir: Path, tmp_path: Path) -> Iterator[None]:
    """Whatever a test here asks for must not be done."""
    before = facts_in(data_dir)
    yield
    assert facts_in(data_dir) == before
    assert not (tmp_path / "out").exists()


def body_for(door: Door, folder: Path) -> tuple[bytes | None, dict[str, str]]:
    """What would be carried out, if it got in."""
    if door.method not in ("POST", "PUT"):
        return None, {}
    (folder / "in.txt").write_text("a b\n")
    if door.path == "/submit":
        return f"job=wordcount&inputs={folder}/in.txt&output={folder}/out".encode(), {
            "Content-Type": "application/x-www-form-urlencoded"
        }
    wish = {"job": "wordcount", "inputs": [f"{folder}/in.txt"], "output": f"{folder}/out"}
    return json.dumps(wish).encode(), {"Content-Type": "application/json"}


def closed(server: Server) -> list[Door]:
    return [door for door in server.keys.doors if door.role is not Role.ANYONE]


def test_every_route_is_in_the_list(server: Server) -> None:
    assert {(door.method, door.path): door.role for door in server.keys.doors} == ROLES
    assert {path for (_, path), role in ROLES.items() if role is Role.ANYONE} == {
        "/livez", "/readyz", "/login", "/static/login/{name}",
    }  # fmt: skip


def test_nobody_gets_in_without_a_token(server: Server, visitor: Visitor, tmp_path: Path) -> None:
    for door in closed(server):
        body, headers = body_for(door, tmp_path)
        answer = visitor.ask(door.method, path_of(door), body, **headers)
        assert answer.status == 401, door
        assert answer.headers["WWW-Authenticate"] == "Bearer", door


@pytest.mark.parametrize(
    "given",
    [
        "Bearer",
        "Bearer wrong",
        "Basic {token}",
        "{token}",
        "Bearer {token}x",
        "Bearer x{token}",
        "Bearer ü",
        "Bearer \x01",
    ],
)
def test_nobody_gets_in_with_a_wrong_token(
    server: Server, visitor: Visitor, tokens: dict[Role, str], tmp_path: Path, given: str
) -> None:
    for door in closed(server):
        body, headers = body_for(door, tmp_path)
        authorization = given.format(token=tokens[Role.ADMIN])
        answer = visitor.ask(door.method, path_of(door), body, Authorization=authorization, **headers)
        assert answer.status in (400, 401), door  # what is no header at all is a bad request


def test_a_token_in_the_wrong_place_is_none(server: Server, visitor: Visitor, tokens: dict[Role, str]) -> None:
    """Links log browsers in where people go. Programs bring their token in a header."""
    token = tokens[Role.ADMIN]
    for door in closed(server):
        path = path_of(door)
        if door.path.startswith("/api/") or door.method not in ("GET", "HEAD"):
            assert visitor.ask(door.method, f"{path}?token={token}").status == 401, door
        for name in (f"gristmill-{server.url.rpartition(':')[2]}", "token"):
            assert visitor.ask(door.method, path, Cookie=f"{name}={token}").status == 401, door


@pytest.mark.parametrize("role", PEOPLE)
def test_nobody_gets_in_with_a_role_that_is_too_small(
    server: Server, visitor: Visitor, tokens: dict[Role, str], tmp_path: Path, role: Role
) -> None:
    tried = 0
    for door in closed(server):
        if not role.opens(door.role):
            body, headers = body_for(door, tmp_path)
            answer = visitor.ask(door.method, path_of(door), body, **bearer(tokens[role]), **headers)
            assert answer.status == 403, (door, answer.body)
            tried += 1
    assert tried or role is Role.ADMIN


@pytest.mark.parametrize(
    "host", ["evil.test", "evil.test:80", "127.0.0.1.evil.test", "localhost.evil.test", "192.0.2.7", "[2001:db8::7]:80",
             "user@127.0.0.1", "127.0.0.1/", "127.0.0.1:x", " ", "a b", "ü"],
)  # fmt: skip
def test_nobody_gets_in_under_the_name_of_another_site(
    server: Server, visitor: Visitor, tokens: dict[Role, str], tmp_path: Path, host: str
) -> None:
    for door in server.keys.doors:
        body, headers = body_for(door, tmp_path)
        answer = visitor.ask(door.method, path_of(door), body, Host=host, **bearer(tokens[Role.ADMIN]), **headers)
        assert answer.status == 400, door


@pytest.mark.parametrize(
    "origin", ["http://evil.test", "null", "https://{host}.evil.test", "http://127.0.0.1", "http://localhost:1", "ftp://{host}",
               "http://user@{host}", "http://{host}/", "{host}", ""],
)  # fmt: skip
def test_no_page_of_another_site_gets_in(
    server: Server, visitor: Visitor, tokens: dict[Role, str], tmp_path: Path, origin: str
) -> None:
    for door in server.keys.doors:
        body, headers = body_for(door, tmp_path)
        given = origin.format(host=visitor.host)
        answer = visitor.ask(door.method, path_of(door), body, Origin=given, **bearer(tokens[Role.ADMIN]), **headers)
        assert answer.status == 403, door


@pytest.mark.parametrize(
    ("who", "headers", "refused"),
    [
        ("nobody", {}, 401),
        ("nobody", {"Authorization": "Bearer wrong"}, 401),
        ("viewer", {}, 403),
        ("submitter", {}, 403),
        ("worker", {}, 403),
        ("admin", {}, 403),
        ("admin", {"Host": "evil.test"}, 400),
        ("admin", {"Origin": "http://evil.test"}, 403),
    ],
    ids=["no token", "wrong token", "viewer", "submitter", "worker", "admin", "foreign host", "foreign origin"],
)
def test_every_method_of_every_path(
    server: Server, tokens: dict[Role, str], tmp_path: Path, who: str, headers: dict[str, str], refused: int
) -> None:
    """Whatever is asked of whatever there is: it is refused, or it is no way in, unless the caller may."""
    role = Role.ANYONE if who == "nobody" else Role(who)
    given = headers if role is Role.ANYONE else {**bearer(tokens[role]), **headers}
    led_astray = bool(headers.keys() & {"Host", "Origin"})
    open_paths = {path for (_, path), least in ROLES.items() if least is Role.ANYONE}
    tried = 0
    for number, path in enumerate({path for _, path in ROLES}):
        visitor = Visitor(server, f"127.3.{number}.1")  # who guesses too often is told less
        for method in METHODS:
            least = ROLES.get((method, path))
            if not led_astray and least is not None and (role.opens(least) or least is Role.ANYONE):
                continue  # it is for them
            door = Door(method, path, least or Role.ANYONE)
            body, more = body_for(door, tmp_path)
            answer = visitor.ask(method, path_of(door), body, **given, **more)
            if led_astray or least is not None or (role is Role.ANYONE and path not in open_paths):
                expected = (refused, 400) if method == "CONNECT" else (refused,)
            else:
                expected = (400, 404, 405) if method == "CONNECT" else (404, 405)
            assert answer.status in expected, (method, path)
            tried += 1
        visitor.close()
    assert tried >= (len(METHODS) - 4) * len({path for _, path in ROLES})


@pytest.mark.parametrize(
    "path", ["/nowhere", "/api", "/api/v1", "/docs", "/redoc", "/openapi.json", "/static", "/static/", "//", "/METRICS",
             "/static/login/../app.js", "/static/login/%2e%2e/app.js", "/livez/", "/livez/../metrics", "/%2e/metrics",
             "/login/x", "/metrics/"],
)  # fmt: skip
def test_what_is_not_there_is_not_told_to_strangers(visitor: Visitor, path: str) -> None:
    assert visitor.ask("GET", path).status == 401


# With a login


def log_in(visitor: Visitor, token: str) -> str:
    answer = visitor.ask("GET", f"/?token={token}")
    assert answer.status == 303, answer
    return str(answer.headers["Set-Cookie"].partition(";")[0])


def test_the_link_logs_in_and_shows_the_token_no_more(server: Server, visitor: Visitor) -> None:
    path = server.link.removeprefix(server.url)
    answer = visitor.ask("GET", path)
    token = path.partition("=")[2]
    assert (answer.status, answer.headers["Location"]) == (303, "/")
    cookie = answer.headers["Set-Cookie"]
    assert token not in str(answer.headers) and token not in answer.body.decode()
    assert answer.headers["Referrer-Policy"] == "no-referrer" and answer.headers["Cache-Control"] == "no-store"
    assert all(part in cookie for part in ("HttpOnly", "SameSite=Strict", "Path=/", "Max-Age="))
    assert visitor.ask("GET", "/api/v1/jobs", Cookie=cookie.partition(";")[0]).status == 200


def test_a_link_on_somebodys_page_changes_no_login(visitor: Visitor, tokens: dict[Role, str]) -> None:
    """Or else users would work as whoever has put the link there. Browsers send no cookie along with the first call."""
    cookie, link = log_in(visitor, tokens[Role.ADMIN]), f"/workers?token={tokens[Role.VIEWER]}&a=b"
    foreign = visitor.ask("GET", link, Sec_Fetch_Site="cross-site", Sec_Fetch_Mode="navigate")
    assert (foreign.status, foreign.headers["Set-Cookie"]) == (200, None)
    assert link.replace("&", "&amp;") in foreign.body.decode()
    for site in ("same-origin", "same-site", "cross-site"):
        answer = visitor.ask("GET", link, Sec_Fetch_Site=site, Sec_Fetch_Mode="navigate", Cookie=cookie)
        assert (answer.status, answer.headers["Location"]) == (303, "/workers?a=b"), site
        assert answer.headers["Set-Cookie"] is None
    for headers in ({"Sec-Fetch-Site": "same-origin"}, {"Sec-Fetch-Site": "none", "Cookie": cookie}):
        answer = visitor.ask("GET", link, Sec_Fetch_Mode="navigate", **headers)  # whoever has none, or types it
        assert (answer.status, answer.headers["Location"]) == (303, "/workers?a=b") and answer.headers["Set-Cookie"]


def test_a_login_changes_nothing_but_from_our_own_page(
    server: Server, visitor: Visitor, tokens: dict[Role, str], tmp_path: Path
) -> None:
    cookie = log_in(visitor, tokens[Role.ADMIN])
    for door in closed(server):
        if door.method not in SAFE:
            body, headers = body_for(door, tmp_path)
            for more in (
                {},
                {"Sec-Fetch-Site": "cross-site"},
                {"Sec-Fetch-Site": "same-site"},
                {"Sec-Fetch-Site": "none"},
            ):
                answer = visitor.ask(door.method, path_of(door), body, Cookie=cookie, **headers, **more)
                assert answer.status == 403, door


def test_our_own_page_may(visitor: Visitor, tokens: dict[Role, str]) -> None:
    cookie = log_in(visitor, tokens[Role.SUBMITTER])
    for more in ({"Origin": f"http://{visitor.host}"}, {"Sec-Fetch-Site": "same-origin"}):
        assert visitor.ask("POST", f"/api/v1/jobs/{JOB}/cancel", Cookie=cookie, **more).status == 404


def test_a_login_ends(visitor: Visitor, data_dir: Path) -> None:
    """By logging out, and with the token that it stands for."""
    token = add_token(data_dir / TOKENS, "soon-gone", Role.VIEWER)
    one, other = log_in(visitor, token), log_in(visitor, token)
    assert visitor.ask("GET", "/api/v1/jobs", Cookie=one).status == 200
    assert visitor.ask("POST", "/logout", Cookie=one, Origin=f"http://{visitor.host}").status == 303
    assert visitor.ask("GET", "/api/v1/jobs", Cookie=one).status == 401
    assert visitor.ask("GET", "/api/v1/jobs", Cookie=other).status == 200
    remove_token(data_dir / TOKENS, "soon-gone")
    assert visitor.ask("GET", "/api/v1/jobs", Cookie=other).status == 401
    assert visitor.ask("GET", "/api/v1/jobs", **bearer(token)).status == 401


def test_the_form_logs_in(visitor: Visitor, tokens: dict[Role, str]) -> None:
    def post(token: str, after: str, **headers: str) -> tuple[int, str | None]:
        body = f"token={token}&next={after}".encode()
        form = {"Content-Type": "application/x-www-form-urlencoded", **headers}
        answer = visitor.ask("POST", "/login", body, **form)
        return answer.status, answer.headers["Location"]

    token = tokens[Role.VIEWER]
    assert post(token, "/jobs/x") == (303, "/jobs/x")
    for elsewhere in ("//evil.test", "https://evil.test", "/\\evil.test", "/%0d%0aSet-Cookie:x", "javascript:1"):
        assert post(token, elsewhere) == (303, "/")
    assert post("wrong", "/")[0] == 401
    assert post(tokens[Role.WORKER], "/")[0] == 401, "a worker's token is not for people"
    assert post(token, "/", **{"Sec-Fetch-Site": "cross-site"})[0] == 403
    assert visitor.ask("POST", "/login", b"x" * 100_000).status == 413


def test_people_see_a_form_and_programs_a_problem(visitor: Visitor) -> None:
    page = visitor.ask("GET", "/jobs/x?a=1", Accept="text/html,*/*")
    assert page.status == 401 and b"<form" in page.body and b"/jobs/x?a=1" in page.body
    assert "script-src 'self'" in page.headers["Content-Security-Policy"]
    assert visitor.ask("GET", "/jobs/x").problem["title"] == "Not authorized"


def test_a_visit_from_a_link_elsewhere_comes_back_with_its_cookie(visitor: Visitor) -> None:
    """Browsers keep a strict cookie back when another site's page has a link; not when our own page goes on."""
    visit = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Accept": "text/html"}
    answer = visitor.ask("GET", f"/jobs/{JOB}", **visit)
    assert answer.status == 200 and f'url=/jobs/{JOB}"' in answer.body.decode()


def test_wrong_guesses_are_slowed_down_and_right_tokens_are_not(
    server: Server, visitor: Visitor, tokens: dict[Role, str]
) -> None:
    begun = time.monotonic()
    found = [visitor.ask("GET", "/api/v1/jobs", **bearer(f"guess-{n}")).status for n in range(400)]
    assert found[:150] == [401] * 150
    assert found.count(401) <= 201 + 10 * (time.monotonic() - begun)
    assert visitor.ask("GET", "/api/v1/jobs", **bearer(tokens[Role.VIEWER])).status == 200
    other = Visitor(server, "127.1.1.1")
    assert other.ask("GET", "/api/v1/jobs", **bearer("guess")).status == 401
    other.close()


# Agents


def agents_address(visitor: Visitor, tokens: dict[Role, str]) -> str:
    answer = visitor.ask("GET", "/api/v1/join", **bearer(tokens[Role.WORKER]))
    return str(json.loads(answer.body)["grpc"])


def grpc_methods() -> list[str]:
    """All that agents.proto has, and one that it has not."""
    file = pb.Join.DESCRIPTOR.file
    return [
        *(f"/{name.full_name}/{method.name}" for name in file.services_by_name.values() for method in name.methods),
        f"/{next(iter(file.services_by_name.values())).full_name}/Nothing",
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    ]


def test_the_list_of_methods_is_not_empty() -> None:
    assert "/gristmill.agents.Agents/Attend" in grpc_methods()


@pytest.mark.parametrize("method", grpc_methods())
def test_every_method_of_the_proto_wants_a_workers_token(
    visitor: Visitor, tokens: dict[Role, str], method: str
) -> None:
    given = [None, "", "Bearer", "Bearer wrong", "Bearer {worker}x", "{worker}", "Basic {worker}", "bearer {worker}",
             "Bearer {viewer}", "Bearer {submitter}"]  # fmt: skip
    names = {role.value: token for role, token in tokens.items()}
    address = agents_address(visitor, tokens)
    for authorization in given:
        more = () if authorization is None else (("authorization", authorization.format(**names)),)
        assert refused(address, method, ("host", address), *more) is grpc.StatusCode.UNAUTHENTICATED, authorization


@pytest.mark.parametrize("method", grpc_methods())
@pytest.mark.parametrize(
    "host",
    ["", "evil.test", "evil.test:{port}", "127.0.0.1.evil.test:{port}", "192.0.2.7:{port}", "user@127.0.0.1:{port}",
     "127.0.0.1:{port}/", "a b"],
)  # fmt: skip
def test_no_method_of_the_proto_answers_under_the_name_of_another_site(
    visitor: Visitor, tokens: dict[Role, str], method: str, host: str
) -> None:
    """Nor if none is named, or several are."""
    address = agents_address(visitor, tokens)
    named, known = host.format(port=address.rpartition(":")[2]), ("authorization", f"Bearer {tokens[Role.ADMIN]}")
    for hosts in ([("host", named)], [] if not host else [("host", address), ("host", named)]):
        assert refused(address, method, known, *hosts) is grpc.StatusCode.PERMISSION_DENIED, hosts


@pytest.mark.parametrize("method", grpc_methods())
def test_no_page_calls_a_method_of_the_proto(
    server: Server, visitor: Visitor, tokens: dict[Role, str], method: str
) -> None:
    address = agents_address(visitor, tokens)
    for origin in ("http://evil.test", "null", server.url, f"http://{address}", ""):
        given = (("authorization", f"Bearer {tokens[Role.ADMIN]}"), ("host", address), ("origin", origin))
        assert refused(address, method, *given) is grpc.StatusCode.PERMISSION_DENIED, origin


def refused(address: str, method: str, *metadata: tuple[str, str]) -> grpc.StatusCode:
    """With what a call is refused, be it of a stream or of a message."""
    codes = set()
    with grpc.insecure_channel(address) as channel:
        for call in (
            lambda: list(channel.stream_stream(method)(iter([b"", b"x"]), timeout=60, metadata=metadata)),
            lambda: channel.unary_unary(method)(b"x", timeout=60, metadata=metadata),
        ):
            with pytest.raises(grpc.RpcError) as failed:
                call()
            codes.add(failed.value.code())
    [code] = codes
    assert isinstance(code, grpc.StatusCode)
    return code


def test_a_workers_token_opens_the_stream(visitor: Visitor, tokens: dict[Role, str]) -> None:
    address = agents_address(visitor, tokens)
    with grpc.insecure_channel(address) as channel:
        for role in (Role.WORKER, Role.ADMIN):
            with pytest.raises(grpc.RpcError) as failed:
                metadata = (("authorization", f"Bearer {tokens[role]}"), ("host", address))
                list(
                    channel.stream_stream("/gristmill.agents.Agents/Attend")(iter([b""]), timeout=60, metadata=metadata)
                )
            assert failed.value.code() is grpc.StatusCode.INVALID_ARGUMENT, "it is let in, and says nothing sensible"


def test_a_stream_ends_when_its_token_is_taken_back(
    server: Server, visitor: Visitor, tokens: dict[Role, str], data_dir: Path
) -> None:
    token = add_token(data_dir / TOKENS, "short-lived", Role.WORKER)
    said: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
    join = pb.Join(
        session="0" * 32, name="w", python=PYTHON_VERSION, version=VERSION, machine="m", flight="h:1", cpus=1
    )
    said.put(sealed(pb.FromAgent(join=join)))
    address = agents_address(visitor, tokens)
    with grpc.insecure_channel(address) as channel:
        attend = channel.stream_stream("/gristmill.agents.Agents/Attend")
        metadata = (("authorization", f"Bearer {token}"), ("host", address))
        call = attend(iter(said.get, None), timeout=60, metadata=metadata)
        assert opened(pb.ToAgent, next(call)).HasField("welcome")
        said.put(sealed(pb.FromAgent(beat=pb.Beat(number=1))))
        while opened(pb.ToAgent, next(call)).beat < 1:
            pass
        remove_token(data_dir / TOKENS, "short-lived")
        said.put(sealed(pb.FromAgent(beat=pb.Beat(number=2))))
        assert all(opened(pb.ToAgent, answer).beat < 2 for answer in call), "it is not heard any more"
        said.put(None)
