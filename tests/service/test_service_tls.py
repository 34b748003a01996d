"""TLS, end to end: a server, its own worker and another, each with a certificate of a CA of our own; and refusals."""

from __future__ import annotations

import contextlib
import datetime
import http.client
import os
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import pytest
import trustme

import gristmill as gm
from gristmill.api.client import ServerClient, connect
from gristmill.errors import NotAuthorized, ServerUnreachable, UsageError
from gristmill.runtime.transport.tls import Identity, Trust, load_identity
from gristmill.runtime.worker.front import Front
from gristmill.service.server import Server, ServeSettings

PATIENCE = 60.0
COUNT = """
from gristmill import MapReduce

class Count(MapReduce):
    def mapper(self, _, line):
        for word in line.split():
            yield word, 1

    def reducer(self, word, counts):
        yield word, sum(counts)
"""


class Pair(NamedTuple):
    """A certificate and its key."""

    cert: Path
    key: Path

    @property
    def options(self) -> list[str]:
        return ["--tls-cert", str(self.cert), "--tls-key", str(self.key)]


class Office:
    """Two CAs that do not know each other, and what they issue."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ours, self.theirs = trustme.CA(), trustme.CA()
        self.ca, self.their_ca = folder / "ca.pem", folder / "their-ca.pem"
        self.ours.cert_pem.write_to_path(str(self.ca))
        self.theirs.cert_pem.write_to_path(str(self.their_ca))

    def issue(self, *names: str, by: trustme.CA | None = None, until: datetime.datetime | None = None) -> Pair:
        made = (by or self.ours).issue_cert(*names, not_after=until)
        pair = Pair(self.folder / f"{time.monotonic_ns()}.pem", self.folder / f"{time.monotonic_ns()}.key")
        for number, blob in enumerate(made.cert_chain_pems):
            blob.write_to_path(str(pair.cert), append=number > 0)
        made.private_key_pem.write_to_path(str(pair.key))
        return pair


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Office:
    return Office(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("server")


@pytest.fixture(scope="module")
def server(office: Office, data_dir: Path) -> Iterator[Server]:
    """Its certificate is for another name than the address by which it is called here."""
    cert, key = office.issue("mill.test")
    settings = ServeSettings(
        port=0, data_dir=data_dir, executors=1, tls_cert=cert, tls_key=key, tls_client_ca=office.ca
    )
    with Server(settings) as server:
        yield server


@pytest.fixture
def token(data_dir: Path, server: Server) -> str:
    return (data_dir / "token").read_text().strip()


def environment(**more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GRISTMILL_")}
    return {**kept, **more}


@contextlib.contextmanager
def worker(server: Server, data_dir: Path, folder: Path, *options: str, name: str = "mill.test") -> Iterator[Path]:
    """A worker of another machine, as far as it is told."""
    log = folder / "worker.log"
    command = [
        sys.executable, "-m", "gristmill.cli.main", "worker", server.url, "--executors", "1", "--machine", "elsewhere",
        "--data-dir", str(folder / "data"), "--token-file", str(data_dir / "token"), "--name", "w1", *options,
    ]  # fmt: skip
    with log.open("wb") as out:
        process = subprocess.Popen(command, stderr=out, stdout=out, env=environment(GRISTMILL_TLS_NAME=name))
    try:
        yield log
    finally:
        process.terminate()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(60)


def wait_for(log: Path, text: str) -> str:
    give_up = time.monotonic() + PATIENCE
    while text not in (said := log.read_text()):
        assert time.monotonic() < give_up, said
        time.sleep(0.05)
    return said


def test_a_job_of_two_workers_all_of_it_by_tls(office: Office, server: Server, data_dir: Path, tmp_path: Path) -> None:
    """Each reduces what the other has mapped: blocks go both ways."""
    (tmp_path / "count.py").write_text(COUNT)
    for number in range(8):
        (tmp_path / f"in{number}.txt").write_text(f"a b{number} a\n" * 100)
    options = office.issue("w1.test").options
    with worker(server, data_dir, tmp_path, "--tls-ca", str(office.ca), *options) as log:
        wait_for(log, "joined")
        command = [
            sys.executable, "-m", "gristmill.cli.main", "run", "count.py", *(f"in{n}.txt" for n in range(8)),
            "-o", "out", "--reducers", "4", "--on", server.url, "--data-dir", str(data_dir),
        ]  # fmt: skip
        done = subprocess.run(
            command, cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE, env=environment()
        )
        assert done.returncode == 0, done.stderr
        with gm.Session(on=server.url, data_dir=data_dir) as session:  # the server brings what either of them keeps
            kept = session.range(1000, partitions=16).map(str).cache()
            assert kept.collect() == [str(number) for number in range(1000)]
            assert kept.map(len).sum() == 2890
    lines = [line for part in sorted((tmp_path / "out").glob("part-*")) for line in part.read_text().splitlines()]
    assert dict(line.split("\t") for line in lines) == {"a": "1600", **{f"b{number}": "100" for number in range(8)}}


def test_a_script_that_runs_there_calls_its_server_by_tls(
    office: Office, server: Server, data_dir: Path, tmp_path: Path
) -> None:
    """In an executor, which knows the server by its certificate and name, and has no token but its own."""
    script = tmp_path / "script.py"
    script.write_text(f"import gristmill as gm\ngm.range(100).map(str).write_text({str(tmp_path / 'out')!r})\n")
    where = ["--server", server.url, "--data-dir", str(data_dir)]
    gristmill = [sys.executable, "-m", "gristmill.cli.main"]
    done = subprocess.run(
        [*gristmill, "submit", str(script), *where], capture_output=True, text=True, timeout=PATIENCE, env=environment()
    )
    assert done.returncode == 0, done.stderr
    waited = subprocess.run(
        [*gristmill, "wait", done.stdout.strip(), *where],
        capture_output=True, text=True, timeout=PATIENCE, env=environment(),
    )  # fmt: skip
    assert waited.returncode == 0, waited.stderr
    lines = [line for part in (tmp_path / "out").glob("part-*") for line in part.read_text().splitlines()]
    assert sorted(map(int, lines)) == list(range(100))


def test_a_client_of_this_machine_needs_no_ca(server: Server, data_dir: Path) -> None:
    assert "jobs" in connect(None, None, data_dir).get("/jobs")


def test_a_client_believes_a_ca_and_the_name(office: Office, server: Server, token: str) -> None:
    client = ServerClient(server.url, token, trust=Trust(office.ca, "mill.test"))
    assert "jobs" in client.get("/jobs")


@pytest.mark.parametrize(
    ("ca", "name", "advice"),
    [
        ("their-ca.pem", "mill.test", "--tls-ca"),
        ("", "mill.test", "--tls-ca"),
        ("ca.pem", "", "GRISTMILL_TLS_NAME"),
        ("ca.pem", "other.test", "GRISTMILL_TLS_NAME"),
    ],
)
def test_what_is_not_to_be_trusted_is_not_called(
    office: Office, server: Server, token: str, ca: str, name: str, advice: str
) -> None:
    trust = Trust(office.folder / ca if ca else None, name)
    with pytest.raises(UsageError, match="cannot be trusted") as failed:
        ServerClient(server.url, token, trust=trust).get("/jobs")
    assert advice in str(failed.value)
    with pytest.raises(UsageError, match="cannot be trusted"):
        Front(server.url, token, trust).join_facts()


def test_a_login_is_for_tls_alone(office: Office, server: Server) -> None:
    context = ssl.create_default_context(cafile=str(office.ca))
    context.check_hostname = False
    parts = urlsplit(server.link)
    calls = http.client.HTTPSConnection("127.0.0.1", parts.port, timeout=20, context=context)
    calls.request("GET", f"/?{parts.query}", headers={"Host": "mill.test"})
    answer = calls.getresponse()
    answer.read()
    cookie = answer.headers["Set-Cookie"]
    assert answer.status == 303 and cookie.startswith("__Host-gristmill-") and cookie.endswith("; Secure")
    given = {"Cookie": cookie.partition(";")[0], "Host": "mill.test"}
    calls.request("GET", "/api/v1/jobs", headers=given)
    answer = calls.getresponse()
    answer.read()
    assert answer.status == 200
    calls.request("GET", "/api/v1/jobs", headers={**given, "Origin": "http://mill.test"})
    assert calls.getresponse().status == 403, "the same name in the clear is another site"
    calls.close()


def test_whoever_leaves_the_s_out_is_told(server: Server, token: str) -> None:
    url = server.url.replace("https://", "http://")
    with pytest.raises(UsageError, match="write https://"):
        ServerClient(url, token).get("/jobs")
    with pytest.raises(UsageError, match="write https://"):
        Front(url, token).join_facts()


def test_a_worker_without_a_certificate_is_told(office: Office, server: Server, data_dir: Path, tmp_path: Path) -> None:
    with worker(server, data_dir, tmp_path, "--tls-ca", str(office.ca)) as log:
        assert "--tls-cert" in wait_for(log, "wants to see a certificate")


def test_a_worker_with_a_certificate_of_others_does_not_get_in(
    office: Office, server: Server, data_dir: Path, tmp_path: Path
) -> None:
    options = office.issue("w2.test", by=office.theirs).options
    with worker(server, data_dir, tmp_path, "--tls-ca", str(office.ca), *options) as log:
        said = wait_for(log, "cannot be joined")
    assert "--tls-client-ca" in said
    assert "joined https" not in said


# What is wrong is found at the start.


def identity(pair: Pair) -> Identity:
    return load_identity(pair.cert, pair.key)


def test_a_certificate_and_its_names(office: Office) -> None:
    assert identity(office.issue("a.test", "b.test")).name == "a.test"
    assert identity(office.issue("127.0.0.1")).name == "127.0.0.1"
    assert identity(office.issue("*.a.test")).name == "gristmill.a.test"


def test_certificates_that_cannot_be_used(office: Office, tmp_path: Path) -> None:
    one, other = office.issue("a.test"), office.issue("a.test")
    late = office.issue("a.test", until=datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC))
    words = tmp_path / "words"
    words.write_text("no certificate")
    for cert, key, said in (
        (one.cert, other.key, "does not belong to"),
        (late.cert, late.key, "expired"),
        (words, one.key, "no certificate in PEM"),
        (one.cert, words, "damaged"),
        (tmp_path / "none", one.key, "cannot be read"),
    ):
        with pytest.raises(UsageError, match=said):
            load_identity(cert, key)


def test_the_own_worker_needs_a_certificate_that_the_server_takes(office: Office, tmp_path: Path) -> None:
    cert, key = office.issue("mill.test", by=office.theirs)
    settings = ServeSettings(
        port=0, data_dir=tmp_path, executors=1, tls_cert=cert, tls_key=key, tls_client_ca=office.ca
    )
    with pytest.raises(UsageError, match="--executors 0"), Server(settings):
        pass


def test_options_that_belong_together(office: Office, tmp_path: Path) -> None:
    pair = office.issue("mill.test")
    with pytest.raises(UsageError, match="--tls-key"):
        ServeSettings(data_dir=tmp_path, tls_cert=pair.cert)
    with pytest.raises(UsageError, match="--tls-client-ca"):
        ServeSettings(data_dir=tmp_path, tls_client_ca=office.ca)
    ServeSettings(data_dir=tmp_path, host="0.0.0.0", tls_cert=pair.cert, tls_key=pair.key)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "mill.test"])
def test_other_machines_are_not_served_in_the_clear(tmp_path: Path, host: str) -> None:
    with pytest.raises(UsageError, match="--insecure"):
        ServeSettings(data_dir=tmp_path, host=host)
    ServeSettings(data_dir=tmp_path, host=host, insecure=True)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.1", "::1", "localhost"])
def test_this_machine_is(tmp_path: Path, host: str) -> None:
    ServeSettings(data_dir=tmp_path, host=host)


def test_errors_are_as_they_were_without_tls(tmp_path: Path) -> None:
    with pytest.raises((ServerUnreachable, NotAuthorized)):
        Front("http://127.0.0.1:1", "token").join_facts()
