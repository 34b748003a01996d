"""A server that lets jobs read and write below one folder alone: by REST, by our own client, and when a job begins."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from doors_kit import Visitor, bearer

from gristmill.api.client import ServerClient
from gristmill.cli.main import main
from gristmill.service.server import Server, ServeSettings

PATIENCE = 60.0


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder ``root``, and ``other`` beside it."""
    base = tmp_path_factory.mktemp("base")
    for name in ("root", "other"):
        (base / name).mkdir()
        (base / name / "in.txt").write_text("a b a\n")
    return base


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("server")


@pytest.fixture(scope="module")
def server(base: Path, data_dir: Path) -> Iterator[Server]:
    with Server(
        ServeSettings(port=0, data_dir=data_dir, allowed_paths=(str(base / "root"), "s3://bucket/data"))
    ) as server:
        yield server


@pytest.fixture
def token(server: Server, data_dir: Path) -> str:
    return (data_dir / "token").read_text().strip()


@pytest.fixture
def post(server: Server, token: str) -> Iterator[Callable[..., tuple[int, Any]]]:
    visitor = Visitor(server)

    def post(inputs: str, output: str, **options: object) -> tuple[int, Any]:
        wish = {"job": "wordcount", "inputs": [inputs], "output": output, "options": options}
        answer = visitor.ask(
            "POST", "/api/v1/jobs", json.dumps(wish).encode(), **bearer(token), **{"Content-Type": "application/json"}
        )
        return answer.status, answer.problem

    yield post
    visitor.close()


def test_below_the_root(post: Callable[..., tuple[int, Any]], base: Path, server: Server) -> None:
    status, answer = post(f"{base}/root/in.txt", f"{base}/root/out-1")
    assert status == 201, answer
    server.jobs.cancel(answer["id"])


@pytest.mark.parametrize(
    ("inputs", "output", "options"),
    [
        ("other/in.txt", "root/out", {}),
        ("other/nothing-here", "root/out", {}),
        ("root/in.txt", "other/out", {}),
        ("root/in.txt", "root/../other/out", {}),
        ("root/in.txt", "root/out", {"shuffle_dir": "{base}/other"}),
        ("o*/in.txt", "root/out", {}),
    ],
)
def test_outside_of_it(
    post: Callable[..., tuple[int, Any]], base: Path, inputs: str, output: str, options: dict[str, str]
) -> None:
    given = {name: value.format(base=base) for name, value in options.items()}
    status, answer = post(f"{base}/{inputs}", f"{base}/{output}", **given)
    assert status == 422, answer
    assert "--allow-path" in answer["detail"] and "matches no file" not in answer["detail"]
    assert not (base / "root" / "out").exists() and not (base / "other" / "out").exists()


def test_no_uri_leads_to_another_host(post: Callable[..., tuple[int, Any]], base: Path) -> None:
    """Whoever asks there would bring the server's credentials along."""
    with socket.create_server(("127.0.0.1", 0)) as host:
        options = f"endpoint_override=127.0.0.1:{host.getsockname()[1]}&scheme=http"
        for inputs, output, shuffle in (
            (f"s3://bucket/data/in.txt?{options}", f"{base}/root/out", None),
            (f"{base}/root/in.txt", f"s3://bucket/data/out?{options}", None),
            (f"{base}/root/in.txt", f"{base}/root/out", f"s3://bucket/data/shuffle?{options}"),
            (f"s3://other/in.txt?{options}", f"{base}/root/out", None),
        ):
            status, answer = post(inputs, output, **({"shuffle_dir": shuffle} if shuffle else {}))
            assert status == 422 and "--allow-path" in answer["detail"], answer
            assert "127.0.0.1" not in answer["detail"]
        host.setblocking(False)
        with pytest.raises(BlockingIOError):
            host.accept()


@pytest.mark.parametrize("named", ["links", "links/*.txt", "links/**"])
def test_each_file_that_is_found_counts(post: Callable[..., tuple[int, Any]], base: Path, named: str) -> None:
    """A folder, or a glob, with a file in it that is a link to somewhere else."""
    (base / "root" / "links").mkdir(exist_ok=True)
    (base / "root" / "links" / "own.txt").write_text("a\n")
    link = base / "root" / "links" / "far.txt"
    link.unlink(missing_ok=True)
    link.symlink_to(base / "other" / "in.txt")
    status, answer = post(f"{base}/root/{named}", f"{base}/root/out")
    assert status == 422 and "far.txt" in answer["detail"], answer


def test_our_own_client_is_told(
    server: Server, base: Path, data_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    job = tmp_path / "count.py"
    job.write_text("def mapper(_, line):\n    yield line, 1\n")
    options = ["--server", server.url, "--data-dir", str(data_dir)]
    assert main(["submit", str(job), f"{base}/other/in.txt", "-o", f"{base}/root/out", *options]) == 2
    assert "--allow-path" in capsys.readouterr().err


def test_a_job_that_waited_is_looked_at_again(base: Path, tmp_path: Path) -> None:
    """What was a folder when the job was submitted is a link when its server is started again."""
    here = base / "root" / "here"
    here.mkdir()
    (here / "in.txt").write_text("a b a\n")
    settings = ServeSettings(port=0, data_dir=tmp_path / "data", allowed_paths=(str(base / "root"),))
    wish = {"job": "wordcount", "inputs": [str(here / "in.txt")], "output": str(base / "root" / "out-2")}
    with Server(settings) as server:
        client = ServerClient(server.url, (tmp_path / "data" / "token").read_text().strip())
        job = client.post("/jobs", wish)["id"]
    (here / "in.txt").rename(base / "moved.txt")
    here.rmdir()
    here.symlink_to(base / "other")
    with Server(settings) as server:
        client = ServerClient(server.url, (tmp_path / "data" / "token").read_text().strip())
        give_up = time.monotonic() + PATIENCE
        while (status := client.get(f"/jobs/{job}"))["state"] not in ("failed", "cancelled", "succeeded"):
            assert time.monotonic() < give_up, status
            time.sleep(0.02)
    assert status["state"] == "failed" and "--allow-path" in json.dumps(status["error"])
    assert not (base / "root" / "out-2").exists()


def test_a_root_that_is_none_stops_the_start(tmp_path: Path) -> None:
    command = ["serve", "--port", "0", "--data-dir", str(tmp_path / "data"), "--allow-path", str(tmp_path / "missing")]
    assert main(command) == 2
