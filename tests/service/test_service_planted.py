"""What a job may leave or say to harm the server: text that UTF-8 has not, links and pipes in the place of files."""

from __future__ import annotations

import glob
import os
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from operations_kit import ask, finish, write_job

import gristmill as gm
from gristmill.api.loading import load_job
from gristmill.api.remote import submit
from gristmill.config import JobOptions
from gristmill.errors import BlockCorrupt
from gristmill.service.server import Server, ServeSettings

HALF = """
from gristmill import MapReduce

class Half(MapReduce):
    def mapper(self, _, line):
        self.counters.increment("\\ud800", "\\udfff")
        print("\\\\ud800")
        if line == "bad":
            raise type("E\\ud800", (ValueError,), {})("\\ud800")
        yield "\\ud83d" if line == "key" else line, 1

    def reducer(self, word, counts):
        yield word, sum(counts)
"""


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="module")
def server(data_dir: Path) -> Iterator[Server]:
    with Server(ServeSettings(port=0, data_dir=data_dir, executors=1)) as server:
        yield server


def run(server: Server, data_dir: Path, folder: Path, lines: str, code: str = HALF) -> str:
    (folder / "in.txt").write_text(lines)
    job = load_job(write_job(folder / "half.py", code))
    options = JobOptions(on=server.url, data_dir=data_dir, max_attempts=1)
    return submit(job, [str(folder / "in.txt")], folder / "out", options).job_id


@pytest.mark.parametrize("line", ["bad", "key", "good"])
def test_text_that_utf_8_has_not_ends_a_job_at_most(server: Server, data_dir: Path, tmp_path: Path, line: str) -> None:
    job = run(server, data_dir, tmp_path, f"{line}\n")
    state = finish(server, job)
    if line == "bad":
        assert state == "failed"
        assert "\\ud800" in ask(server, "GET", f"/api/v1/jobs/{job}").json["error"]["message"]
    for path in ("", "/tasks", "/tasks/0-0/attempts", "/logs", "/events", "/trace"):
        assert ask(server, "GET", f"/api/v1/jobs/{job}{path}").status == 200, path
    assert ask(server, "GET", "/api/v1/jobs").status == ask(server, "GET", f"/jobs/{job}").status == 200
    assert ask(server, "GET", "/readyz").status == 200


def blocks_below(folder: Path) -> set[Path]:
    # Not Path.rglob, which stumbles over folders that vanish while it looks.
    return {Path(path) for path in glob.glob(str(folder / "**/blocks/*.block"), recursive=True)}  # noqa: PTH207


def test_a_link_in_the_place_of_a_kept_block_is_not_sent(server: Server, data_dir: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("secret" * 1000)
    (tmp_path / "in.txt").write_text("a\nb\n")
    earlier = blocks_below(data_dir)
    with (
        gm.Session(on=server.url, data_dir=data_dir) as session,
        session.rows(session.read_text(tmp_path / "in.txt")._node, "job") as rows,
    ):
        [block] = blocks_below(data_dir) - earlier
        name = block.parent.parent.name
        path = f"/api/v1/sessions/{name}/kept/{rows.kept}/0"
        assert ask(server, "GET", path).status == 200
        block.unlink()
        block.symlink_to(secret)
        answer = ask(server, "GET", path)
        assert (answer.status, answer.json["type"]) == (500, "urn:gristmill:error:BlockMissing")
        assert b"secretsecret" not in answer.body


def flip(block: Path) -> None:
    data = bytearray(block.read_bytes())
    data[len(data) // 3] ^= 1
    block.write_bytes(data)


def test_a_kept_block_that_is_damaged_is_found_by_whoever_reads_it(
    server: Server, data_dir: Path, tmp_path: Path
) -> None:
    (tmp_path / "in.txt").write_text("a\nb\n" * 1000)
    earlier = blocks_below(data_dir)
    with gm.Session(on=server.url, data_dir=data_dir) as session:
        lines = session.read_text(tmp_path / "in.txt")
        with session.rows(lines._node, "job") as rows:  # a client: the server sends what is there
            [block] = blocks_below(data_dir) - earlier
            flip(block)
            with pytest.raises(BlockCorrupt, match="checksum"):
                list(rows)
        before = blocks_below(data_dir)
        kept = lines.map(str.upper).persist("DISK")
        assert kept.count() == 2000
        flipped = 0
        for block in blocks_below(data_dir) - before:
            with suppress(FileNotFoundError):  # of the job that counted
                flip(block)
                flipped += 1
        assert flipped
        assert sorted(set(kept.collect())) == ["A", "B"]  # a task: it is made again


def test_pipes_in_an_output_stop_nobody(server: Server, data_dir: Path, tmp_path: Path) -> None:
    job = run(server, data_dir, tmp_path, "a\nb\n", HALF.replace("self.counters", "# "))
    assert finish(server, job) == "succeeded"
    assert ask(server, "GET", f"/api/v1/jobs/{job}/result").status == 200
    for part in (tmp_path / "out").glob("part-*"):
        part.unlink()
        os.mkfifo(part)

    answers = []

    def call() -> None:
        answers.append(ask(server, "GET", f"/api/v1/jobs/{job}/result"))

    threads = [threading.Thread(target=call, daemon=True) for _ in range(45)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    assert {answer.status for answer in answers} == {500} and "cannot be read" in answers[0].json["detail"]
    assert ask(server, "GET", "/api/v1/jobs").status == 200
