"""A pickle that would be seen if anybody loaded it, sent wherever bytes can be sent to a server: nobody does.

The server runs in a process of its own and has no executors: code of jobs runs there, and nowhere else.
"""

from __future__ import annotations

import base64
import json
import os
import pickle
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import grpc
import pytest
from doors_kit import Visitor, bearer, path_of
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from pyarrow import flight

from gristmill import MapReduce
from gristmill.api.client import ServerClient
from gristmill.api.loading import job_of_class
from gristmill.api.messages import SUBMISSION_TYPE, SubmitRequest
from gristmill.api.prepare import Submission
from gristmill.config import PYTHON_VERSION, VERSION, JobOptions
from gristmill.plan.stages import InputSpec
from gristmill.runtime.protocol import agents as pb
from gristmill.runtime.transport.seal import opened, sealed
from gristmill.service.doors.roles import Role
from gristmill.service.doors.tokens import TOKENS, add_token
from gristmill.service.server import Server, ServeSettings
from gristmill.shuffle.serve import BlockServer

PATIENCE = 60.0


class Canary:
    """Makes a folder when it is unpickled."""

    def __init__(self, sign: Path) -> None:
        self.sign = sign

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.sign),)


class Words(MapReduce):
    """Counts words."""

    def mapper(self, _: None, line: str) -> Iterator[tuple[str, int]]:
        yield line, 1


class Mill:
    """A server's process, and a canary."""

    def __init__(self, folder: Path) -> None:
        self.data_dir = folder / "data"
        self.sign = folder / "sign"
        self.canary = pickle.dumps(Canary(self.sign))
        self.url = ""

    def start(self) -> subprocess.Popen[bytes]:
        (self.data_dir / "server.json").unlink(missing_ok=True)
        command = [sys.executable, "-m", "gristmill.cli.main", "serve", "--port", "0", "--executors", "0",
                   "--data-dir", str(self.data_dir)]  # fmt: skip
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        give_up = time.monotonic() + PATIENCE
        while not (self.data_dir / "server.json").exists():
            assert process.poll() is None and time.monotonic() < give_up
            time.sleep(0.02)
        self.url = json.loads((self.data_dir / "server.json").read_text())["url"]
        return process

    def token(self, role: Role = Role.ADMIN) -> str:
        if role is Role.ADMIN:
            return (self.data_dir / "token").read_text().strip()
        return add_token(self.data_dir / TOKENS, f"{role.value}-{time.monotonic_ns()}", role)


@pytest.fixture(scope="module")
def mill(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mill]:
    mill = Mill(tmp_path_factory.mktemp("mill"))
    process = mill.start()
    yield mill
    process.terminate()
    process.wait(PATIENCE)


@pytest.fixture
def visitor(mill: Mill) -> Iterator[Visitor]:
    visitor = Visitor(mill)  # type: ignore[arg-type]  # it has an address, as servers have
    yield visitor
    visitor.close()


@pytest.fixture(autouse=True)
def the_canary_lives(tmp_path_factory: pytest.TempPathFactory, mill: Mill, visitor: Visitor) -> Iterator[None]:
    yield
    assert not mill.sign.exists(), "somebody has unpickled what came from outside"
    assert visitor.ask("GET", "/livez").status == 200


def test_the_canary_would_be_seen(tmp_path: Path) -> None:
    pickle.loads(pickle.dumps(Canary(tmp_path / "sign")))
    assert (tmp_path / "sign").exists()


def bodies(canary: bytes) -> list[tuple[bytes, str]]:
    """The canary as it is, and wherever there is room for it in what clients send."""
    text = base64.b64encode(canary).decode()
    plain = canary.decode("latin-1")
    wish = {"job": plain, "inputs": [plain], "output": plain, "params": {"x": plain}, "name": plain, "mapper": plain}
    fields = {
        name: text
        for name in ("code", "plan", "inputs", "options", "params", "submission", "broadcasts", "bundles", "pickle")
    }
    edge = b"--edge\r\nContent-Disposition: form-data; name="
    form = edge + b'"code"; filename="job.py"\r\nContent-Type: text/plain\r\n\r\n' + canary
    form += b"\r\n" + edge + b'"inputs"\r\n\r\n/in\r\n' + edge + b'"output"\r\n\r\n/out\r\n--edge--\r\n'
    return [
        (canary, "application/octet-stream"),
        (canary, "application/python-pickle"),
        (canary, "application/json"),
        (json.dumps(plain).encode(), "application/json"),
        (json.dumps(wish).encode(), "application/json"),
        (json.dumps(fields).encode(), "application/json"),
        (json.dumps({"submission": fields, "code": text}).encode(), SUBMISSION_TYPE),
        (form, "multipart/form-data; boundary=edge"),
    ]


def test_by_every_route_in_every_body(mill: Mill, visitor: Visitor, server_doors: list[Any]) -> None:
    for door in server_doors:
        if door.method in ("POST", "PUT", "DELETE"):
            for body, kind in bodies(mill.canary):
                headers = {"Content-Type": kind, "Gristmill-Version": VERSION, "Gristmill-Python": PYTHON_VERSION}
                answer = visitor.ask(door.method, path_of(door), body, **bearer(mill.token()), **headers)
                assert answer.status < 500, (door, kind, answer.body)


@pytest.fixture(scope="module")
def server_doors(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    with Server(ServeSettings(port=0, data_dir=tmp_path_factory.mktemp("list"))) as server:
        return [door for door in server.keys.doors if door.path not in ("/logout",)]


def test_as_headers_and_in_the_address(mill: Mill, visitor: Visitor) -> None:
    text = base64.urlsafe_b64encode(mill.canary).decode()
    for name in ("Cookie", "Idempotency-Key", "Last-Event-ID", "Gristmill-Version", "X-Pickle"):
        visitor.ask("GET", f"/api/v1/jobs/{text}?wait={text}", **bearer(mill.token()), **{name: text})
    assert visitor.ask("GET", "/api/v1/jobs", **bearer(text)).status == 401


def test_as_the_code_of_a_job(mill: Mill, visitor: Visitor, tmp_path: Path) -> None:
    """Code is a pickle, and is taken in as bytes: it is for executors."""
    name = sha256(mill.canary).hexdigest()
    headers = {**bearer(mill.token()), "Gristmill-Version": VERSION, "Gristmill-Python": PYTHON_VERSION}
    assert visitor.ask("PUT", f"/api/v1/blobs/{name}", mill.canary, **headers).status == 201
    assert visitor.ask("GET", f"/api/v1/blobs/{name}", **headers).body == mill.canary
    (tmp_path / "in.txt").write_text("a\n")
    job = job_of_class(Words)
    options = job.resolve(JobOptions(), tmp_path / "out")
    submission = Submission(
        name="canary", code=b"", plan=job.plan(options, private=False),
        inputs=(InputSpec((str(tmp_path / "in.txt"),)),), output=str(tmp_path / "out"), options=options,
    )  # fmt: skip
    client = ServerClient(mill.url, mill.token())
    made = client.post("/jobs", SubmitRequest(submission, name).to_json(), {"Content-Type": SUBMISSION_TYPE})["id"]
    assert client.get(f"/jobs/{made}")["state"] == "running", "it waits for a worker"
    client.post(f"/jobs/{made}/cancel")


def filled(kind: type[Message], canary: bytes, depth: int = 0) -> Message:
    """A message with the canary in every field of bytes, and in every text."""
    message = kind()
    for field in kind.DESCRIPTOR.fields:
        if field.containing_oneof is not None and not field.has_presence:
            continue
        if field.type == FieldDescriptor.TYPE_BYTES:
            set_field(message, field, canary)
        elif field.type == FieldDescriptor.TYPE_STRING:
            set_field(message, field, base64.b64encode(canary).decode())
        elif field.type == FieldDescriptor.TYPE_MESSAGE and depth < 4:
            inner = filled(getattr(pb, field.message_type.name), canary, depth + 1)
            if field.is_repeated:
                getattr(message, field.name).append(inner)
            else:
                getattr(message, field.name).CopyFrom(inner)
    return message


def set_field(message: Message, field: FieldDescriptor, value: bytes | str) -> None:
    if field.is_repeated:
        getattr(message, field.name).append(value)
    else:
        setattr(message, field.name, value)


def events(canary: bytes) -> list[pb.Event]:
    """Each kind of event, with the canary wherever there is room."""
    made = []
    for field in pb.Event.DESCRIPTOR.fields:
        event = pb.Event()
        if field.type == FieldDescriptor.TYPE_MESSAGE:
            getattr(event, field.name).CopyFrom(filled(getattr(pb, field.message_type.name), canary))
        else:
            setattr(event, field.name, base64.b64encode(canary).decode())
        made.append(event)
    return made


def test_every_event_holds_the_canary(mill: Mill) -> None:
    holding = [event for event in events(mill.canary) if mill.canary in event.SerializeToString()]
    assert {event.WhichOneof("event") for event in holding} >= {"done", "failed", "admitted"}


def test_over_the_stream_of_agents(mill: Mill, visitor: Visitor) -> None:
    token = mill.token(Role.WORKER)
    address = json.loads(visitor.ask("GET", "/api/v1/join", **bearer(token)).body)["grpc"]
    metadata = (("authorization", f"Bearer {token}"), ("host", address))
    join = pb.Join(
        name="w", host="w", python=PYTHON_VERSION, version=VERSION, machine="m", flight="127.0.0.1:1", cpus=1
    )
    with grpc.insecure_channel(address) as channel:
        attend = channel.stream_stream("/gristmill.agents.Agents/Attend")
        for number, event in enumerate(events(mill.canary)):
            join.session = f"{number:032x}"
            first = sealed(pb.FromAgent(join=join))
            then = sealed(pb.FromAgent(first=1, events=[event], beat=pb.Beat(number=1)))
            call = attend(iter([first, then]), timeout=60, metadata=metadata)
            assert opened(pb.ToAgent, next(call)).HasField("welcome")
            drain(call)
        for data in (
            mill.canary,
            pb.Sealed(message=mill.canary, crc32=0).SerializeToString(),
            sealed_bytes(mill.canary),
        ):
            drain(attend(iter([data]), timeout=60, metadata=metadata))
        drain(attend(iter([sealed(filled(pb.FromAgent, mill.canary))]), timeout=60, metadata=metadata))


def sealed_bytes(data: bytes) -> bytes:
    from zlib import crc32

    return pb.Sealed(message=data, crc32=crc32(data)).SerializeToString()


def drain(call: Any) -> None:
    """All that is answered until the other end has had enough."""
    try:
        for _ in range(3):
            next(call)
    except (grpc.RpcError, StopIteration):
        pass
    finally:
        call.cancel()


def test_as_a_ticket_of_flight(mill: Mill, tmp_path: Path) -> None:
    with BlockServer([tmp_path]) as server, flight.FlightClient(f"grpc://127.0.0.1:{server.port}") as client:
        for ticket in (mill.canary, json.dumps({"job": mill.canary.decode("latin-1")}).encode()):
            with pytest.raises((flight.FlightError, OSError)):
                client.do_get(flight.Ticket(ticket), flight.FlightCallOptions(timeout=60)).read_all()


def test_in_every_column_of_the_database(tmp_path: Path) -> None:
    """Whoever can write there is trusted with much, but not with running code in the server."""
    mill = Mill(tmp_path)
    process = mill.start()
    try:
        (tmp_path / "in.txt").write_text("a\n")
        visitor = Visitor(mill)  # type: ignore[arg-type]
        for number in range(4):
            wish = {"job": "wordcount", "inputs": [f"{tmp_path}/in.txt"], "output": f"{tmp_path}/out-{number}"}
            headers = {**bearer(mill.token()), "Content-Type": "application/json"}
            answer = visitor.ask("POST", "/api/v1/jobs", json.dumps(wish).encode(), **headers)
            assert answer.status == 201, answer.body
        visitor.close()
    finally:
        process.terminate()
        process.wait(PATIENCE)
    assert spoil(mill.data_dir / "journal.db", mill.canary) > 4
    process = mill.start()
    try:
        visitor = Visitor(mill)  # type: ignore[arg-type]
        jobs = json.loads(visitor.ask("GET", "/api/v1/jobs", **bearer(mill.token())).body)["jobs"]
        for job in jobs:
            for path in ("", "/tasks", "/logs", "/trace", "/result"):
                visitor.ask("GET", f"/api/v1/jobs/{job['id']}{path}", **bearer(mill.token()))
        assert jobs and all(job["state"] == "failed" for job in jobs)
        assert visitor.ask("GET", "/livez").status == 200
        visitor.close()
    finally:
        process.terminate()
        process.wait(PATIENCE)
    assert not mill.sign.exists()


def spoil(path: Path, canary: bytes) -> int:
    """Put the canary into every blob of a database; how many there were."""
    changed = 0
    with sqlite3.connect(path) as database:
        tables = [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        for table in tables:
            columns = [row[1] for row in database.execute(f"PRAGMA table_info({table})")]
            for column in columns:
                changed += database.execute(
                    f"UPDATE {table} SET {column} = ? WHERE typeof({column}) = 'blob'", (canary,)
                ).rowcount
    database.close()
    return changed
