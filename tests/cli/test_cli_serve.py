"""``gristmill serve`` and the commands that talk to it, as processes of their own, on real jobs."""

from __future__ import annotations

import contextlib
import copy
import json
import os
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from chaos_cluster_kit import free_port

from gristmill.cli.main import main
from gristmill.runtime.journal.facts import JobAccepted
from gristmill.runtime.journal.journal import JOURNAL, Journal

COUNT = """
from gristmill import MapReduce
from helpers import shout

class Count(MapReduce):
    def mapper(self, _, line):
        for word in line.split():
            yield shout(word), 1

    def reducer(self, word, counts):
        yield word, sum(counts)
"""
HELPERS = """
def shout(word):
    if word == "boom":
        print("about to go wrong")
        raise ValueError("a bad word")
    return word.upper()
"""
SLOW = """
import time
from pathlib import Path
from gristmill import MapReduce

class Slow(MapReduce):
    input_format = "whole"

    def mapper(self, name, text):
        while not Path(self.params["go"]).exists():
            time.sleep(0.02)
        yield name, 1

    def reducer(self, name, counts):
        yield name, sum(counts)
"""
PATIENCE = 60.0


def wait_until(true: Callable[[], object], seconds: float = PATIENCE) -> None:
    give_up = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < give_up, "waited for too long"
        time.sleep(0.02)


class Served:
    """A server's process, and the command line beside it."""

    def __init__(self, folder: Path, executors: int) -> None:
        self.folder = folder
        self.data_dir = folder / "data"
        self.executors = executors
        self.process: subprocess.Popen[bytes] | None = None
        self.port = free_port()  # to come back to
        self.start()

    def start(self) -> None:
        (self.data_dir / "server.json").unlink(missing_ok=True)  # of one that was killed
        command = [*self.command("serve"), "--port", str(self.port), "--executors", str(self.executors)]
        with (self.folder / "serve.log").open("ab") as log:
            self.process = subprocess.Popen([*command, "--memory", "512MiB"], stderr=log, env=self.environment())
        process = self.process
        wait_until(lambda: (self.data_dir / "server.json").exists() or process.poll() is not None)
        assert process.poll() is None, (self.folder / "serve.log").read_text()
        self.url = json.loads((self.data_dir / "server.json").read_text())["url"]

    def environment(self) -> dict[str, str]:
        dropped = ("GRISTMILL_SERVER", "GRISTMILL_TOKEN")
        own = {"GRISTMILL_DATA_DIR": str(self.data_dir), "NO_COLOR": "1"}
        return {**{name: value for name, value in os.environ.items() if name not in dropped}, **own}

    def command(self, *arguments: object) -> list[str]:
        return [sys.executable, "-m", "gristmill.cli.main", *map(str, arguments)]

    def run(
        self, *arguments: object, timeout: float = PATIENCE, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*arguments), cwd=self.folder, env={**self.environment(), **environment}, text=True,
            capture_output=True, timeout=timeout,
        )  # fmt: skip

    def begin(self, *arguments: object) -> subprocess.Popen[str]:
        return subprocess.Popen(
            self.command(*arguments), cwd=self.folder, env=self.environment(), text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def below(self) -> list[psutil.Process]:
        assert self.process is not None
        with contextlib.suppress(psutil.NoSuchProcess):
            return psutil.Process(self.process.pid).children(recursive=True)
        return []

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        assert self.process is not None
        below = self.below()
        self.process.send_signal(number)
        self.process.wait(PATIENCE)
        _, alive = psutil.wait_procs(below, timeout=PATIENCE)
        for process in alive:
            process.kill()
        assert not alive, alive


@contextlib.contextmanager
def serving(folder: Path, executors: int) -> Iterator[Served]:
    served = Served(folder, executors)
    try:
        yield served
    finally:
        if served.process and served.process.poll() is None:
            served.stop()


def write_jobs(folder: Path) -> None:
    for name, text in (("count.py", COUNT), ("helpers.py", HELPERS), ("slow.py", SLOW), ("in.txt", "b a\na\n")):
        (folder / name).write_text(text)


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    """A server of the test's own."""
    write_jobs(tmp_path)
    with serving(tmp_path, 1) as served:
        yield served


@pytest.fixture(scope="module")
def one_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(tmp_path_factory.mktemp("one"), 1) as served:
        yield served


@pytest.fixture
def shared(one_server: Served, tmp_path: Path) -> Served:
    """A server that ran other jobs before, and a folder of the test's own to call it from. Nobody stops it."""
    write_jobs(tmp_path)
    here = copy.copy(one_server)
    here.folder = tmp_path
    return here


@pytest.fixture(scope="module")
def idle_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(tmp_path_factory.mktemp("idle"), 0) as served:
        yield served


@pytest.fixture
def idle(idle_server: Served, tmp_path: Path) -> Served:
    """The same with one that has no executors, and no worker but those of a test, which end with it."""
    write_jobs(tmp_path)
    here = copy.copy(idle_server)
    here.folder = tmp_path
    return here


def output(folder: Path) -> str:
    return "".join(path.read_text() for path in sorted(folder.glob("part-*")))


def test_a_job_from_its_submission_to_its_end(shared: Served, tmp_path: Path) -> None:
    before = [each["id"] for each in json.loads(shared.run("jobs", "--json").stdout)]
    submitted = shared.run("submit", "count.py", "in.txt", "-o", "out")
    job = submitted.stdout.strip()
    assert submitted.returncode == 0 and submitted.stdout == f"{job}\n" and submitted.stderr == ""

    waited = shared.run("wait", "--json", "--on", shared.url)  # the newest
    assert waited.returncode == 0
    summary = json.loads(waited.stdout)
    assert summary["job_id"] == job and summary["state"] == "succeeded" and summary["records_in"] == 2
    assert output(tmp_path / "out") == "A\t2\nB\t1\n"

    shown = shared.run("status", job, "--json")
    assert json.loads(shown.stdout) == summary
    assert "Done in" in shared.run("status").stdout
    listed = shared.run("jobs").stdout
    assert job in listed and "succeeded" in listed and "Count" in listed
    assert [each["id"] for each in json.loads(shared.run("jobs", "--json").stdout)] == [job, *before]
    again = shared.run("cancel", job)
    assert again.returncode == 0 and "was over before: succeeded" in again.stderr
    assert not (shared.data_dir / "jobs" / job).exists()


def test_run_on_a_server_is_as_run_here(shared: Served, tmp_path: Path) -> None:
    done = shared.run("run", "count.py", "in.txt", "-o", "out", "--on", shared.url)
    assert done.returncode == 0 and done.stdout == ""
    assert done.stderr.startswith("Done in")
    assert shared.run("run", "count.py", "in.txt", "-o", "here", "--on", "inline").returncode == 0
    assert output(tmp_path / "out") == output(tmp_path / "here")

    there = shared.run("run", "count.py", "in.txt", "-o", "out", "--on", shared.url)
    assert there.returncode == 2 and "out" in there.stderr and "--overwrite" in there.stderr
    again = shared.run("run", "count.py", "in.txt", "-o", "out", "--server", shared.url, "--overwrite")
    assert again.returncode == 0


def test_a_run_that_somebody_else_cancels_was_not_interrupted(shared: Served, tmp_path: Path) -> None:
    run = shared.begin("run", "slow.py", "in.txt", "-o", "out", "--on", shared.url, "--set", f"go={tmp_path}/go")
    wait_until(lambda: "running" in shared.run("jobs").stdout)
    job = json.loads(shared.run("jobs", "--json").stdout)[0]["id"]
    assert shared.run("cancel", job).returncode == 0
    _, err = run.communicate(timeout=PATIENCE)
    assert run.returncode == 1 and "Cancelled." in err


def test_a_failure_shows_the_users_own_line_first(shared: Served, tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_text("a boom\n")
    failed = shared.run("run", "count.py", "in.txt", "-o", "out", "--on", shared.url, "--max-attempts", "1")
    assert failed.returncode == 1
    lines = failed.stderr.splitlines()
    assert lines[:3] == ["helpers.py:5, in shout", '    raise ValueError("a bad word")', "ValueError: a bad word"]
    assert "  count.py:8, in mapper" in lines and "      yield shout(word), 1" in lines
    assert not (tmp_path / "out").exists()

    job = json.loads(shared.run("jobs", "--json").stdout)[0]["id"]
    waited = shared.run("wait", job)
    assert waited.returncode == 1 and waited.stderr.splitlines()[:3] == lines[:3]
    assert "about to go wrong" in shared.run("logs", job).stdout
    status = shared.run("status", job)
    assert status.returncode == 0 and "ValueError: a bad word" in status.stdout


@pytest.mark.soak
def test_interrupting_run_cancels_the_job_and_interrupting_wait_does_not(served: Served, tmp_path: Path) -> None:
    run = served.begin("run", "slow.py", "in.txt", "-o", "out", "--on", served.url, "--set", f"go={tmp_path}/go")
    wait_until(lambda: "running" in served.run("jobs").stdout)
    run.send_signal(signal.SIGINT)
    _, err = run.communicate(timeout=PATIENCE)
    assert run.returncode == 130 and "Cancelled." in err
    assert json.loads(served.run("jobs", "--json").stdout)[0]["state"] == "cancelled"

    job = served.run("submit", "slow.py", "in.txt", "-o", "out", "--set", f"go={tmp_path}/go").stdout.strip()
    wait = served.begin("wait", job)
    time.sleep(1.0)  # it is waiting by now; if not, the test is merely easier
    wait.send_signal(signal.SIGINT)
    assert wait.wait(PATIENCE) == 130
    assert wait.stdout and wait.stderr
    wait.stdout.close()
    wait.stderr.close()
    assert "running" in served.run("status", job).stdout
    cancelled = served.run("cancel", job)
    assert cancelled.returncode == 0 and "cancelled" in cancelled.stderr
    assert served.run("wait", job).returncode == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.soak
def test_a_client_goes_on_waiting_while_the_server_is_killed_and_started_again(served: Served, tmp_path: Path) -> None:
    inputs = []
    for number in range(6):
        path = tmp_path / f"in{number}.txt"
        path.write_text(str(number))
        inputs.append(path.name)
    options = ("--split-size", "1", "--set", f"go={tmp_path}/go", "-o", "out", "--on", served.url)
    run = served.begin("run", "slow.py", *inputs, *options)
    wait_until(lambda: "running" in served.run("jobs").stdout)
    job = json.loads(served.run("jobs", "--json").stdout)[0]["id"]
    submitted = time.monotonic()
    served.stop(signal.SIGKILL)
    served.start()
    assert f"Taken up        1 job: {job}" in (tmp_path / "serve.log").read_text()
    (tmp_path / "go").touch()
    went_on = time.monotonic()
    _, err = run.communicate(timeout=2 * PATIENCE)
    assert run.returncode == 0, err
    assert len(output(tmp_path / "out").splitlines()) == 6
    summary = json.loads(served.run("status", job, "--json").stdout)
    assert summary["state"] == "succeeded"
    assert summary["seconds"] > went_on - submitted  # since it was accepted, not since it was taken up


def test_workers_join_and_drain(idle: Served, tmp_path: Path) -> None:
    job = idle.run("submit", "count.py", "in.txt", "-o", "out").stdout.strip()
    assert "no worker is connected" in idle.run("status", job).stdout
    worker = idle.begin("worker", idle.url, "--executors", "1", "--memory", "256MiB", "--data-dir", tmp_path / "w")
    try:
        assert idle.run("wait", job).returncode == 0
    finally:
        worker.send_signal(signal.SIGTERM)
        out, err = worker.communicate(timeout=PATIENCE)
    assert worker.returncode == 0, out + err
    assert output(tmp_path / "out") == "A\t2\nB\t1\n"


def test_code_travels_with_the_job(idle: Served, tmp_path: Path) -> None:
    """The script, what it imports from beside it, and a zip file: none of it is there any more when it runs."""
    with zipfile.ZipFile(tmp_path / "lib.zip", "w") as archive:
        archive.writestr("loud/__init__.py", "def louder(word):\n    return word + '!'\n")
    script = tmp_path / "count.py"
    script.write_text(script.read_text().replace("from helpers", "from loud import louder\nfrom helpers"))
    script.write_text(script.read_text().replace("yield shout(word)", "yield louder(shout(word))"))
    job = idle.run("submit", "count.py", "in.txt", "-o", "out", "--py-files", "lib.zip").stdout.strip()
    for name in ("count.py", "helpers.py", "lib.zip"):
        (tmp_path / name).unlink()
    worker = idle.begin("worker", idle.url, "--executors", "1", "--memory", "256MiB", "--data-dir", tmp_path / "w")
    try:
        waited = idle.run("wait", job)
    finally:
        worker.send_signal(signal.SIGTERM)
        worker.communicate(timeout=PATIENCE)
    assert waited.returncode == 0, waited.stderr
    assert output(tmp_path / "out") == "A!\t2\nB!\t1\n"


def test_what_tasks_ask_for_arrives_with_the_job(idle: Served) -> None:
    wishes = ("--priority", "3", "--task-cpus", "2", "--task-memory", "100MiB", "--no-speculation")
    job = idle.run("submit", "count.py", "in.txt", "-o", "out", *wishes).stdout.strip()
    with contextlib.closing(Journal(idle.data_dir / JOURNAL)) as journal:
        [accepted] = [fact for fact in journal.facts(job) if isinstance(fact, JobAccepted)]
    names = ("priority", "task_cpus", "task_memory_bytes", "speculation")
    assert [accepted.prepared[name] for name in names] == [3, 2, 100 << 20, False]
    assert idle.run("cancel", job).returncode == 0


def test_nothing_of_a_server_outlives_it(served: Served) -> None:
    wait_until(lambda: len(served.below()) >= 3)  # worker, forkserver, executor
    served.stop(signal.SIGKILL)  # asserts that all below it end
    served.start()
    wait_until(lambda: len(served.below()) >= 3)
    served.stop(signal.SIGINT)
    assert served.process and served.process.returncode == 0
    assert not (served.data_dir / "server.json").exists()


def test_the_servers_worker_is_started_again_when_it_dies(shared: Served, tmp_path: Path) -> None:
    wait_until(lambda: shared.below())
    shared.below()[0].kill()
    assert shared.run("run", "count.py", "in.txt", "-o", "out", "--on", shared.url).returncode == 0


def test_what_is_wrong_is_said_in_words(idle: Served, tmp_path: Path) -> None:
    unknown = idle.run("status", "nope")
    assert unknown.returncode == 2 and "knows no job nope" in unknown.stderr
    denied = idle.run("jobs", GRISTMILL_TOKEN="wrong")
    assert denied.returncode == 2 and "does not know this token" in denied.stderr
    (tmp_path / "token").write_text("wrong too")
    assert idle.run("jobs", "--token-file", tmp_path / "token").returncode == 2
    second = idle.run("serve", "--port", "0")
    assert second.returncode == 2 and f"A server runs on {idle.data_dir} already: {idle.url}" in second.stderr
    no_output = idle.run("run", "count.py", "in.txt", "--on", idle.url)
    assert no_output.returncode == 2 and "needs an output" in no_output.stderr
    missing = idle.run("submit", "count.py", "nowhere.txt", "-o", "out")
    assert missing.returncode == 2 and "nowhere.txt does not exist" in missing.stderr
    for on in ("local", idle.url):
        foreign = idle.run("run", "count.py", "in.txt", "-o", "out", "--on", on, "--shuffle-dir", "foo://bucket/x")
        assert foreign.returncode == 2 and "The storage for the shuffle, foo://bucket/x, cannot" in foreign.stderr
        assert "Traceback" not in foreign.stderr
    broken = idle.run("submit", "nowhere.py", "in.txt", "-o", "out")
    assert broken.returncode == 2 and "nowhere.py" in broken.stderr
    encrypted = idle.run("worker", idle.url.replace("http:", "https:"), "--data-dir", tmp_path / "w")
    assert encrypted.returncode == 2 and "does not answer as https" in encrypted.stderr
    worker = idle.run("worker", idle.url, "--token-file", tmp_path / "token", "--data-dir", tmp_path / "w")
    assert worker.returncode == 2 and "token" in worker.stderr
    assert "Traceback" not in unknown.stderr + denied.stderr + second.stderr + missing.stderr + worker.stderr


def test_no_server_is_exit_code_75(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("gristmill.api.client.FIRST_PATIENCE_SECONDS", 0.1)
    monkeypatch.setenv("GRISTMILL_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("GRISTMILL_TOKEN", "a token of sorts")
    monkeypatch.delenv("GRISTMILL_SERVER", raising=False)
    assert main(["jobs"]) == 2
    assert "No server is named" in capsys.readouterr().err
    assert main(["jobs", "--server", "http://127.0.0.1:9"]) == 75
    assert "No server answers at http://127.0.0.1:9" in capsys.readouterr().err
    monkeypatch.setenv("GRISTMILL_SERVER", "127.0.0.1:9")
    for arguments in (["status"], ["worker", "127.0.0.1:9"]):
        assert main(arguments) == 2
        assert "one is written http://HOST:PORT: write http://127.0.0.1:9." in capsys.readouterr().err
    for arguments in (
        ["status", "--server", "http://127.0.0.1:9/api/v1"],
        ["worker", "http://127.0.0.1:9/api/v1/join"],
    ):
        assert main(arguments) == 2
        assert "one is written http://HOST:PORT: leave /api/v1" in capsys.readouterr().err
