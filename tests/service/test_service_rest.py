"""The REST interface of a real server without workers: who may ask, what is refused, and in which words."""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import pytest

from gristmill import MapReduce
from gristmill.api import client as client_module
from gristmill.api.client import MissingBlobs, ServerClient, connect
from gristmill.api.job import Job
from gristmill.api.loading import job_of_class
from gristmill.api.messages import SUBMISSION_TYPE, VERSION_HEADERS, JobStatus, SeenFile, SubmitRequest
from gristmill.api.pickling import pickle_code
from gristmill.api.prepare import Submission
from gristmill.api.remote import RemoteHandle, submit
from gristmill.config import PYTHON_VERSION, VERSION, JobOptions
from gristmill.errors import (
    GristmillError,
    JobCancelled,
    KeyTaken,
    NotAuthorized,
    OutputExists,
    PathNotShared,
    ServerUnreachable,
    UsageError,
    VersionMismatch,
)
from gristmill.plan.stages import InputSpec
from gristmill.runtime.files.blobs import digest_of
from gristmill.service.server import Server, ServeSettings
from gristmill.service.submission.jobs import JobService


class Answer(NamedTuple):
    status: int
    headers: Any
    body: Any


class Words(MapReduce):
    """Counts words."""

    def mapper(self, _: None, line: str) -> Iterator[tuple[str, int]]:
        yield line, 1

    def reducer(self, word: str, counts: Iterator[int]) -> Iterator[tuple[str, int]]:
        yield word, sum(counts)


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("server")


@pytest.fixture(scope="module")
def server(data_dir: Path) -> Iterator[Server]:
    with Server(ServeSettings(port=0, data_dir=data_dir)) as server:
        yield server


@pytest.fixture
def token(data_dir: Path) -> str:
    return (data_dir / "token").read_text().strip()


@pytest.fixture
def client(server: Server, token: str) -> ServerClient:
    return ServerClient(server.url, token)


@pytest.fixture
def job() -> Job:
    return job_of_class(Words)


@pytest.fixture
def words(tmp_path: Path) -> Path:
    path = tmp_path / "words.txt"
    path.write_text("a\nb\na\n")
    return path


def ask(server: Server, method: str, path: str, body: bytes | None = None, **headers: str) -> Answer:
    """One call, without any of our client's kindness."""
    connection = http.client.HTTPConnection(urlsplit(server.url).netloc, timeout=20)
    try:
        connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
        reply = connection.getresponse()
        data = reply.read()
        return Answer(reply.status, reply.headers, json.loads(data) if data and method != "HEAD" else None)
    finally:
        connection.close()


def post_job(client: ServerClient, body: Any, headers: dict[str, str] | None = None) -> Any:
    """Post what our own clients post."""
    return client.post("/jobs", body, {"Content-Type": SUBMISSION_TYPE, **(headers or {})})


def request(job: Job, words: Path, output: Path) -> tuple[SubmitRequest, bytes]:
    code = pickle_code(job.code, stable=True)
    options = job.resolve(JobOptions(), output)
    submission = Submission(
        name=job.name, code=b"", plan=job.plan(options, private=False), inputs=(InputSpec((str(words),)),),
        output=str(output), options=options,
    )  # fmt: skip
    return SubmitRequest(submission, digest_of(code)), code


# Who may ask


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/api/v1/jobs"),
        ("POST", "/api/v1/jobs"),
        ("GET", "/api/v1/jobs/x"),
        ("POST", "/api/v1/jobs/x/cancel"),
        ("GET", "/api/v1/jobs/x/logs"),
        ("GET", "/api/v1/join"),
        ("GET", f"/api/v1/blobs/{'0' * 64}"),
        ("PUT", f"/api/v1/blobs/{'0' * 64}"),
        ("GET", "/api/v1/openapi.json"),
        ("GET", "/nowhere"),
    ],
)
@pytest.mark.parametrize(
    "authorization", ["", "Bearer", "Bearer wrong", "Basic {token}", "bearer {token}x", "Bearer ü"]
)
def test_nothing_is_told_without_the_token(
    server: Server, token: str, method: str, path: str, authorization: str
) -> None:
    answer = ask(server, method, path, Authorization=authorization.format(token=token))
    assert answer.status == 401
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.headers["WWW-Authenticate"] == "Bearer"
    assert answer.body["type"] == "urn:gristmill:error:NotAuthorized"


def test_that_it_lives_is_told_to_everybody(server: Server) -> None:
    assert ask(server, "GET", "/livez").body == {"status": "ok"}


def test_workers_are_told_how_to_join(client: ServerClient) -> None:
    facts = client.get("/join")
    assert facts["version"] == VERSION and facts["python"] == PYTHON_VERSION
    assert facts["heartbeat_seconds"] == 1.0 and facts["lost_seconds"] == 10.0
    host, _, port = facts["grpc"].rpartition(":")
    assert host == "127.0.0.1" and int(port) > 0


def test_the_token_is_drawn_once_and_is_its_owners_alone(tmp_path: Path) -> None:
    with Server(ServeSettings(port=0, data_dir=tmp_path / "new")):
        first = (tmp_path / "new" / "token").read_text()
        assert (tmp_path / "new" / "token").stat().st_mode & 0o777 == 0o600
        assert (tmp_path / "new" / "server.json").stat().st_mode & 0o777 == 0o600
        assert len(first.strip()) >= 32
    assert not (tmp_path / "new" / "server.json").exists()
    with Server(ServeSettings(port=0, data_dir=tmp_path / "new")):
        assert (tmp_path / "new" / "token").read_text() == first


# One server


def test_a_data_directory_has_one_server(server: Server, data_dir: Path) -> None:
    with (
        pytest.raises(UsageError, match=rf"{server.url}, process {os.getpid()}"),
        Server(ServeSettings(port=0, data_dir=data_dir)),
    ):
        pass


def test_a_port_that_is_taken(server: Server, tmp_path: Path) -> None:
    port = urlsplit(server.url).port
    assert port
    with (
        pytest.raises(UsageError, match=r"Address already in use.*--port"),
        Server(ServeSettings(port=port, data_dir=tmp_path)),
    ):
        pass


def test_a_limit_below_the_heartbeat_is_refused() -> None:
    with pytest.raises(UsageError, match="at least twice --heartbeat"):
        ServeSettings(beat_seconds=5, lost_seconds=6)


def test_a_token_file_without_a_token(tmp_path: Path) -> None:
    (tmp_path / "t").write_text("short\n")
    with (
        pytest.raises(UsageError, match="does not hold a token"),
        Server(ServeSettings(port=0, data_dir=tmp_path / "d", token_file=tmp_path / "t")),
    ):
        pass


# Blobs


def test_a_blob_comes_back_as_it_went(client: ServerClient, server: Server, token: str, data_dir: Path) -> None:
    data = os.urandom(3_000_000)
    name = hashlib.sha256(data).hexdigest()
    bearer = {"Authorization": f"Bearer {token}"}
    assert ask(server, "HEAD", f"/api/v1/blobs/{name}", **bearer).status == 404
    client.call("PUT", f"/blobs/{name}", data)
    assert ask(server, "HEAD", f"/api/v1/blobs/{name}", **bearer).status == 200
    connection = http.client.HTTPConnection(urlsplit(server.url).netloc, timeout=20)
    connection.request("GET", f"/api/v1/blobs/{name}", headers=bearer)
    assert connection.getresponse().read() == data
    connection.close()
    assert [path.name for path in (data_dir / "blobs").iterdir() if path.name.startswith("partial")] == []


def test_a_blob_that_is_not_what_it_says_is_refused(client: ServerClient, data_dir: Path) -> None:
    with pytest.raises(UsageError, match="another SHA-256"):
        client.call("PUT", f"/blobs/{'1' * 64}", b"something else")
    assert not (data_dir / "blobs" / ("1" * 64)).exists()
    assert [path.name for path in (data_dir / "blobs").iterdir() if path.name.startswith("partial")] == []


@pytest.mark.parametrize("name", ["..%2f..%2ftoken", "abc", "G" * 64])
def test_a_blob_has_no_other_names(server: Server, token: str, name: str) -> None:
    assert ask(server, "GET", f"/api/v1/blobs/{name}", Authorization=f"Bearer {token}").status in (400, 404)


# Jobs


def test_a_job_asks_for_its_code_first(client: ServerClient, job: Job, words: Path, tmp_path: Path) -> None:
    class Other(Words):
        params = {"drawn": os.urandom(8).hex()}  # noqa: RUF012

    wanted, code = request(job_of_class(Other), words, tmp_path / "out")
    with pytest.raises(MissingBlobs) as missing:
        post_job(client, wanted.to_json())
    assert missing.value.names == (digest_of(code),)
    client.call("PUT", f"/blobs/{digest_of(code)}", code)
    assert post_job(client, wanted.to_json())["id"]


def test_one_key_is_one_job(client: ServerClient, job: Job, words: Path, tmp_path: Path) -> None:
    wanted, code = request(job, words, tmp_path / "out")
    client.call("PUT", f"/blobs/{digest_of(code)}", code)
    ids: list[str] = []

    def post() -> None:
        ids.append(post_job(client, wanted.to_json(), {"Idempotency-Key": "one"})["id"])

    threads = [threading.Thread(target=post) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(ids) == 4 and len(set(ids)) == 1
    assert [job["id"] for job in client.get("/jobs")["jobs"]].count(ids[0]) == 1


def test_a_key_is_one_request(
    client: ServerClient, server: Server, token: str, job: Job, words: Path, tmp_path: Path
) -> None:
    wanted, code = request(job, words, tmp_path / "out")
    client.call("PUT", f"/blobs/{digest_of(code)}", code)
    first = post_job(client, wanted.to_json(), {"Idempotency-Key": "mine"})["id"]
    again = replace(wanted, seen=(SeenFile(str(words), 1, 2.0),), seen_files=1)
    assert post_job(client, again.to_json(), {"Idempotency-Key": "mine"})["id"] == first
    other = replace(wanted, submission=replace(wanted.submission, output=str(tmp_path / "elsewhere"))).to_json()
    bearer = {"Authorization": f"Bearer {token}", "Idempotency-Key": "mine", **VERSION_HEADERS}
    bearer["Content-Type"] = SUBMISSION_TYPE
    answer = ask(server, "POST", "/api/v1/jobs", json.dumps(other).encode(), **bearer)
    assert (answer.status, answer.body["title"], answer.body["taken_by"]) == (422, "Key taken", first)
    with pytest.raises(KeyTaken, match=rf"used before, for another request: that is job {first}\.") as taken:
        post_job(client, other, {"Idempotency-Key": "mine"})
    assert (taken.value.job, taken.value.exit_code) == (first, 2)
    client.post(f"/jobs/{first}/cancel")


def test_a_job_is_shown_cancelled_and_leaves_nothing(
    server: Server, data_dir: Path, client: ServerClient, job: Job, words: Path, tmp_path: Path
) -> None:
    options = JobOptions(on=server.url, data_dir=data_dir)
    handle = submit(job, [str(words)], tmp_path / "out", options)
    status = handle.status()
    assert status.view.name == "Words" and status.view.state.value == "running"
    assert status.output == str(tmp_path / "out")
    assert JobStatus.from_json(json.loads(json.dumps(status.to_json()))) == status
    with pytest.raises(TimeoutError, match=handle.job_id):
        handle.wait(timeout=0.2)
    listed = client.get("/jobs")["jobs"][0]
    assert listed["id"] == handle.job_id and listed["state"] == "running" and listed["name"] == "Words"
    handle.cancel()
    with pytest.raises(JobCancelled):
        handle.wait(timeout=20)
    assert handle.status().summary()["state"] == "cancelled"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["words.txt"]


def test_a_wait_ends_with_the_job(server: Server, data_dir: Path, job: Job, words: Path, tmp_path: Path) -> None:
    handle = submit(job, [str(words)], tmp_path / "out", JobOptions(on=server.url, data_dir=data_dir))
    timer = threading.Timer(0.3, handle.cancel)
    timer.start()
    began = time.monotonic()
    assert RemoteHandle(connect(server.url, None, data_dir), handle.job_id).status(wait_seconds=20).is_over
    assert time.monotonic() - began < 19
    timer.join()


def test_jobs_that_are_not_there(client: ServerClient) -> None:
    for call in (
        lambda: client.get("/jobs/nope"),
        lambda: client.get("/jobs/nope/logs"),
        lambda: client.post("/jobs/nope/cancel"),
    ):
        with pytest.raises(UsageError, match="knows no job nope"):
            call()


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"{", "not JSON"),
        (b"[]", "not a job"),
        (b"{}", "not a job"),
        (b'{"name": 3}', "not a job"),
        (b'{"name": "x", "plan": [{"wrong": 1}]}', "not a job"),
    ],
)
def test_what_is_not_a_job(server: Server, token: str, body: bytes, words: str) -> None:
    headers = {"Authorization": f"Bearer {token}", "Content-Type": SUBMISSION_TYPE, **VERSION_HEADERS}
    answer = ask(server, "POST", "/api/v1/jobs", body, **headers)
    assert answer.status in (400, 422)
    assert words in answer.body["detail"]


def test_another_version_is_refused_with_both_named(server: Server, token: str) -> None:
    theirs = {"Gristmill-Version": "9.9.9", "Gristmill-Python": "3.99", "Content-Type": SUBMISSION_TYPE}
    answer = ask(server, "POST", "/api/v1/jobs", b"{}", Authorization=f"Bearer {token}", **theirs)
    assert answer.status == 409 and answer.body["type"] == "urn:gristmill:error:VersionMismatch"
    assert all(text in answer.body["detail"] for text in ("9.9.9", "3.99", VERSION, PYTHON_VERSION))


def test_the_client_knows_that_error_again(
    client: ServerClient, monkeypatch: pytest.MonkeyPatch, job: Job, words: Path, tmp_path: Path
) -> None:
    monkeypatch.setattr(client_module, "VERSION_HEADERS", {"Gristmill-Version": "9.9.9", "Gristmill-Python": "3.99"})
    with pytest.raises(VersionMismatch, match=r"9\.9\.9"):
        post_job(client, request(job, words, tmp_path / "out")[0].to_json())


# Paths that only the client sees


@pytest.mark.parametrize(
    ("name", "size_bytes", "changed", "why"),
    [
        ("gone.txt", 6, 0.0, "No such file"),
        ("words.txt", 7, 0.0, "is another file on the server"),
        ("words.txt", 6, 0.0, "was changed at another time"),
    ],
)
def test_an_input_that_is_another_one_on_the_server(
    client: ServerClient, job: Job, words: Path, tmp_path: Path, name: str, size_bytes: int, changed: float, why: str
) -> None:
    wanted, code = request(job, words, tmp_path / "out")
    client.call("PUT", f"/blobs/{digest_of(code)}", code)
    seen = SeenFile(str(tmp_path / name), size_bytes, changed)
    with pytest.raises(PathNotShared, match=why):
        post_job(client, replace(wanted, seen=(seen,), seen_files=1).to_json())
    assert [path.name for path in tmp_path.iterdir()] == ["words.txt"]


def test_more_files_than_the_client_sees(client: ServerClient, job: Job, words: Path, tmp_path: Path) -> None:
    wanted, code = request(job, words, tmp_path / "out")
    client.call("PUT", f"/blobs/{digest_of(code)}", code)
    with pytest.raises(PathNotShared, match="1 files on the server and 2"):
        post_job(client, replace(wanted, seen_files=2).to_json())
    assert [path.name for path in tmp_path.iterdir()] == ["words.txt"]


def test_an_output_folder_that_is_another_one_on_the_server(
    client: ServerClient, job: Job, words: Path, tmp_path: Path
) -> None:
    wanted, code = request(job, words, tmp_path / "out")
    client.call("PUT", f"/blobs/{digest_of(code)}", code)
    with pytest.raises(PathNotShared, match="is another one on the server"):
        post_job(client, replace(wanted, probe=str(tmp_path / ".probe")).to_json())


def test_an_output_that_is_there(server: Server, data_dir: Path, job: Job, words: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(OutputExists):
        submit(job, [str(words)], tmp_path / "out", JobOptions(on=server.url, data_dir=data_dir))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "words.txt"]


def test_a_job_on_a_server_needs_an_output(server: Server, data_dir: Path, job: Job, words: Path) -> None:
    with pytest.raises(UsageError, match="needs an output"):
        submit(job, [str(words)], None, JobOptions(on=server.url, data_dir=data_dir))


def test_relative_paths_are_the_clients(
    server: Server, data_dir: Path, job: Job, words: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    options = JobOptions(on=server.url, data_dir=data_dir)
    for name, path in (("out", "out"), ((tmp_path / "an output").as_uri(), "an output")):
        handle = submit(job, ["words.txt"], name, options)
        assert handle.status().output == str(tmp_path / path)
        handle.cancel()


# The client


def test_a_second_submission_uploads_nothing(
    server: Server, data_dir: Path, job: Job, words: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = JobOptions(on=server.url, data_dir=data_dir)
    submit(job, [str(words)], tmp_path / "one", options).cancel()
    calls: list[str] = []
    call = ServerClient.call

    def noted(self: ServerClient, method: str, *rest: Any, **named: Any) -> Any:
        calls.append(method)
        return call(self, method, *rest, **named)

    monkeypatch.setattr(ServerClient, "call", noted)
    submit(job, [str(words)], tmp_path / "two", options).cancel()
    assert calls == ["POST", "POST"]


def test_a_wrong_token_is_explained(server: Server) -> None:
    with pytest.raises(NotAuthorized, match=rf"{server.url} does not know this token.*--token-file"):
        ServerClient(server.url, "wrong").get("/jobs")


def test_a_token_is_not_shown_to_strangers(data_dir: Path, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GRISTMILL_TOKEN", raising=False)
    with pytest.raises(NotAuthorized, match=r"no token for the server http://elsewhere\.example:7077"):
        connect("http://elsewhere.example:7077", None, data_dir)
    assert connect(None, None, data_dir).url == server.url


def test_where_nobody_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "FIRST_PATIENCE_SECONDS", 0.1)
    with pytest.raises(ServerUnreachable, match=r"No server answers at http://127\.0\.0\.1:9: Connection refused"):
        ServerClient("http://127.0.0.1:9", "x").get("/jobs")


def test_what_is_no_address() -> None:
    with pytest.raises(UsageError, match="not the address"):
        ServerClient("http://127.0.0.1:port", "x").get("/jobs")
    with pytest.raises(UsageError, match="not the address"):
        connect("127.0.0.1:7077", None, Path())


def test_a_defect_of_the_server_is_told_and_logged(
    client: ServerClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(JobService, "page", lambda *_: 1 / 0)
    with pytest.raises(GristmillError, match="ZeroDivisionError") as raised:
        client.get("/jobs")
    assert raised.value.exit_code == 1
    assert "GET /api/v1/jobs failed" in caplog.text


def test_errors_of_the_server_are_problems(server: Server, token: str) -> None:
    answer = ask(server, "GET", "/api/v1/nothing", Authorization=f"Bearer {token}")
    assert answer.status == 404 and answer.headers["Content-Type"] == "application/problem+json"
    with pytest.raises(GristmillError):
        ServerClient(server.url, token).get("/nothing")
