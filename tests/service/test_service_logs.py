"""What attempts print is kept on the server, wherever they ran; and a failed job's reduce task is run again there."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gristmill.api.client import ServerClient, connect
from gristmill.api.loading import load_job
from gristmill.api.remote import RemoteHandle, submit
from gristmill.config import JobOptions
from gristmill.errors import JobFailed
from gristmill.runtime.files.jobfolder import prune
from gristmill.runtime.files.joblogs import LogKeeper, logs_below
from gristmill.service.server import Server, ServeSettings

SCRIPT = """
import os
from gristmill import MapReduce

class Talk(MapReduce):
    def mapper(self, _, line):
        if line.startswith("die") and not os.path.exists(line[4:]):
            open(line[4:], "w").close()
            print("dying", flush=True)
            os._exit(3)
        if line.startswith("loud"):
            print("x" * 100_000)
        if not line.startswith("still"):
            print("mapping", line)
        yield line, 1

    def reducer(self, word, counts):
        if word == "bad":
            raise ValueError("a bad word")
        yield word, sum(counts)
"""
SECONDS = 60.0
WORKER = Path(__file__).parents[1] / "fleets" / "worker_process.py"


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    return tmp_path / "server"


@pytest.fixture
def server(tmp_path: Path, data_dir: Path) -> Iterator[Server]:
    """A server whose one worker keeps its files where the server does not look for them."""
    with Server(ServeSettings(port=0, data_dir=data_dir)) as server:
        command = [sys.executable, str(WORKER), server.url, "--executors", "1"]
        more = ["--data-dir", str(tmp_path / "elsewhere"), "--memory", "256MiB", "--patience-seconds", "30"]
        token = (data_dir / "token").read_text().strip()
        with (tmp_path / "worker.log").open("wb") as log:
            worker = subprocess.Popen(
                [*command, *more], stdin=subprocess.DEVNULL, stderr=log, env={**os.environ, "GRISTMILL_TOKEN": token}
            )
        try:
            yield server
        finally:
            server.dismiss()
            try:
                worker.wait(SECONDS)
            finally:
                worker.kill()
                worker.wait(SECONDS)
    assert "oaway" not in (tmp_path / "worker.log").read_text()


def begin(server: Server, data_dir: Path, folder: Path, text: str) -> RemoteHandle:
    (folder / "talk.py").write_text(SCRIPT)
    (folder / "in.txt").write_text(text)
    options = JobOptions(on=server.url, data_dir=data_dir, max_attempts=2)
    return submit(load_job(str(folder / "talk.py")), [str(folder / "in.txt")], folder / "out", options)


def logs(server: Server, data_dir: Path, job: str) -> dict[str, str]:
    client: ServerClient = connect(server.url, None, data_dir)
    return {log["attempt"]: log["text"] for log in client.get(f"/jobs/{job}/logs")["logs"]}


def test_logs_of_a_job_that_succeeded_elsewhere(server: Server, data_dir: Path, tmp_path: Path) -> None:
    handle = begin(server, data_dir, tmp_path, "loud\nlast\n")
    handle.wait(timeout=SECONDS)
    [(name, text)] = logs(server, data_dir, handle.job_id).items()
    assert name == f"{handle.job_id}-s0-t00000-a1"
    assert text.startswith("[the first 34")
    assert text.endswith("\nmapping last\n") and len(text) < 70_000
    folder = data_dir / "jobs" / handle.job_id
    assert sorted(path.name for path in folder.iterdir() if path.name != "lock") == ["job.json", "logs"]
    assert prune(data_dir, now=folder.stat().st_mtime + 1e7) == (handle.job_id,)  # nobody uses it


def test_the_last_words_of_an_executor_are_kept(server: Server, data_dir: Path, tmp_path: Path) -> None:
    handle = begin(server, data_dir, tmp_path, f"die {tmp_path / 'died'}\n")
    handle.wait(timeout=SECONDS)
    first, second = sorted(logs(server, data_dir, handle.job_id).items())
    assert first == (f"{handle.job_id}-s0-t00000-a1", "dying\n")
    assert second[0].endswith("-a2") and "mapping die" in second[1]


def test_a_job_that_printed_nothing_leaves_nothing(server: Server, data_dir: Path, tmp_path: Path) -> None:
    handle = begin(server, data_dir, tmp_path, "still\n")
    handle.wait(timeout=SECONDS)
    assert logs(server, data_dir, handle.job_id) == {}
    assert not (data_dir / "jobs" / handle.job_id).exists()


def test_a_reduce_task_of_a_servers_job_runs_again(server: Server, data_dir: Path, tmp_path: Path) -> None:
    handle = begin(server, data_dir, tmp_path, "good\nbad\n")
    with pytest.raises(JobFailed) as failed:
        handle.wait(timeout=SECONDS)
    assert "blocks" not in str(failed.value)
    report = failed.value.report
    assert report is not None
    blocks = [path for path in (tmp_path / "elsewhere").rglob("blocks/*") if path.is_file()]  # kept for a retry
    assert blocks
    for block in blocks:
        block.unlink()
    command = str(report.details["replay"]).split()
    again = subprocess.run(
        [sys.executable, "-m", "gristmill.cli.main", *command[1:]],
        capture_output=True, text=True, timeout=SECONDS, check=False,
    )  # fmt: skip
    assert again.returncode == 1
    assert "The block of a map task is gone: running that task again first." in again.stderr
    assert "mapping bad" in again.stderr and "ValueError: a bad word" in again.stderr


def test_the_first_logs_stay_when_there_are_too_many(tmp_path: Path) -> None:
    told: list[str] = []
    keeper = LogKeeper(max_job_bytes=25)
    keeper.listener = lambda name, _: told.append(name)
    for number in range(4):
        keeper.keep(str(tmp_path / "j"), f"j-s0-t{number:05d}-a1", b"ten bytes\n")
    keeper.close()
    (tmp_path / "j" / "logs" / "executor-7.log").write_text("not an attempt's")
    assert [name for name, _ in logs_below(tmp_path / "j")] == ["j-s0-t00000-a1", "j-s0-t00001-a1"]
    assert len(told) == 4


def test_a_log_that_cannot_be_written_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "j").write_text("a file")
    keeper = LogKeeper()
    keeper.keep(str(tmp_path / "j"), "j-s0-t00000-a1", b"text\n")
    keeper.keep(str(tmp_path / "k"), "k-s0-t00000-a1", b"text\n")
    keeper.close()
    assert list(logs_below(tmp_path / "k")) == [("k-s0-t00000-a1", "text\n")]
