"""The commands that ask a server: lists, logs, status, cancel and the rest, all against one server."""

from __future__ import annotations

import io
import json
import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from test_cli_serve import COUNT, HELPERS, PATIENCE, Served, output, wait_until

from gristmill.cli.main import main

TALK = """
import time
from pathlib import Path
from gristmill import MapReduce

class Talk(MapReduce):
    input_format = "whole"

    def mapper(self, name, text):
        print("hello from", Path(name).name, flush=True)
        print("and then", end="", flush=True)
        while not Path(self.params["go"]).exists():
            time.sleep(0.02)
        print(" goodbye")
        yield name, 1
"""
FRAIL = """
from pathlib import Path

def mapper(_, line):
    print("trying", line)
    if not Path(line.strip()).exists():
        raise ValueError("it is not there yet")
    yield line, 1

def reducer(line, ones):
    yield line, sum(ones)
"""
Say = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("served")
    for name, text in {
        "count": COUNT.replace("helpers", "shouts"),
        "shouts": HELPERS,
        "talk": TALK,
        "frail": FRAIL,
    }.items():
        (folder / f"{name}.py").write_text(text)
    (folder / "in.txt").write_text("b a\na\n")
    (folder / "boom.txt").write_text("boom\n")
    served = Served(folder, 2)
    try:
        yield served
    finally:
        served.stop()


@pytest.fixture
def say(served: Served, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Say:
    """The command line beside the server, in this process."""
    for name in [name for name in os.environ if name.startswith("GRISTMILL_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("GRISTMILL_DATA_DIR", str(served.data_dir))
    monkeypatch.chdir(served.folder)

    def run(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main([str(each) for each in arguments])
        out, err = capsys.readouterr()
        return code, out, err

    return run


def submit(say: Say, *arguments: object) -> str:
    code, out, err = say("submit", "--json", *arguments)
    assert code == 0, err
    return str(json.loads(out)["id"])


@pytest.fixture
def done(say: Say, tmp_path: Path) -> str:
    """A job that has succeeded."""
    job = submit(say, "count.py", "in.txt", "-o", tmp_path / "done")
    assert say("wait", job)[0] == 0
    return job


@pytest.fixture
def failed(say: Say, tmp_path: Path) -> str:
    """A job that has failed."""
    job = submit(say, "count.py", "boom.txt", "-o", tmp_path / "failed", "--max-attempts", "1")
    assert say("wait", job)[0] == 1
    return job


def ids(out: str) -> list[str]:
    return [str(job["id"]) for job in json.loads(out)]


def test_jobs_are_listed_and_filtered(say: Say, done: str, failed: str) -> None:
    code, out, _ = say("jobs", "--json")
    assert code == 0 and ids(out)[:2] == [failed, done]
    assert {"id", "name", "user", "state", "output", "submitted", "ended", "seconds", "percent"} <= set(
        json.loads(out)[0]
    )
    assert ids(say("jobs", "--json", "--state", "failed")[1])[0] == failed
    assert done not in ids(say("jobs", "--json", "--state", "failed")[1])
    assert json.loads(out)[0]["error"] == "ValueError: a bad word (shouts.py:5)" and json.loads(out)[1]["error"] == ""
    assert done in ids(say("jobs", "--json", "--name", "Coun", "--user", "admin")[1])
    assert say("jobs", "--name", "no such name")[1:] == ("", "No such jobs.\n")
    assert ids(say("jobs", "--json", "--limit", "1")[1]) == [failed]
    code, out, err = say("jobs", "--limit", "2")
    head, first, second = out.splitlines()
    assert head.split()[:2] == ["ID", "STATE"] and "Count" in first
    assert first.split()[:2] == [failed, "failed"] and second.split()[:2] == [done, "succeeded"]
    assert "\x1b" not in out and "more with --limit" in err
    assert say("jobs", "--state", "lost")[0] == 2


def test_history_has_what_is_over(say: Say, done: str, failed: str) -> None:
    code, out, _ = say("history", "--json")
    found = json.loads(out)
    assert len(out.splitlines()) == len(found)
    assert code == 0 and [job["id"] for job in found[:2]] == [failed, done]
    assert {job["state"] for job in found} <= {"succeeded", "failed", "cancelled"}
    assert all(job["ended"] >= job["submitted"] for job in found[:2])
    assert ids(say("history", "--json", "--state", "succeeded", "--limit", "1")[1]) == [done]
    assert say("history", "--json", "--name", "no such name")[1] == "[]\n"
    assert done in say("history", "--since", "1h")[1]
    tomorrow = time.strftime("%Y-%m-%d", time.localtime(time.time() + 86400))
    assert say("history", "--since", tomorrow)[1:] == ("", "No such jobs.\n")
    assert "such as 2h or 7d" in say("history", "--since", "yesterday")[2]
    code, _, err = say("history", "--state", "running")
    assert code == 2 and "gristmill jobs --state running" in err


def test_status_tells_how_a_job_stands(say: Say, done: str, failed: str) -> None:
    code, out, _ = say("status", done)
    assert code == 0 and out.startswith(f"Count  {done}  succeeded  for ") and "Done in" in out
    code, out, _ = say("status", failed)
    assert code == 0 and "ValueError: a bad word" in out and "shouts.py:5, in shout" in out
    code, out, _ = say("status", "--watch", done)  # which is over
    assert code == 0 and "Done in" in out
    [line] = say("status", "--watch", "--json", failed)[1].splitlines()
    assert json.loads(line)["state"] == "failed"
    assert "error" not in json.loads(say("status", "--json", done)[1])
    for words in (line, say("status", "--json", failed)[1], say("wait", "--json", failed)[1]):
        error = json.loads(words)["error"]
        assert (error["type"], error["message"]) == ("UserCodeError", "ValueError: a bad word")
        assert error["frames"][0]["file"].endswith("shouts.py") and error["frames"][0]["line"] == 5
    assert say("status", "20200101-000000-abcd")[0] == 2


def test_watching_goes_on_to_the_end(served: Served, say: Say, tmp_path: Path) -> None:
    job = submit(say, "talk.py", "in.txt", "-o", tmp_path / "out", "--set", f"go={tmp_path}/go")
    watch = served.begin("status", "--watch", "--json", job)
    assert watch.stdout and watch.stderr
    assert json.loads(watch.stdout.readline())["state"] in ("queued", "running")
    (tmp_path / "go").touch()
    rest, _ = watch.communicate(timeout=PATIENCE)
    assert watch.returncode == 0 and json.loads(rest.splitlines()[-1])["state"] == "succeeded"


@pytest.mark.skipif(sys.platform == "win32", reason="there are no pseudoterminals")
def test_a_terminal_shows_the_job_as_it_runs(served: Served, say: Say, tmp_path: Path) -> None:
    import pexpect

    job = submit(say, "talk.py", "in.txt", "-o", tmp_path / "out", "--set", f"go={tmp_path}/go", "--deadline", "1h")
    screen = io.StringIO()
    command, *arguments = served.command("status", "--watch", job)
    watch = pexpect.spawn(
        command, arguments, cwd=str(served.folder), env={**served.environment(), "TERM": "xterm"}, encoding="utf-8",
        timeout=PATIENCE, dimensions=(24, 80),
    )  # fmt: skip
    watch.logfile_read = screen
    try:
        watch.expect("running .*due in ")
        watch.expect("TASK .*WORKER")
        watch.expect("0-0 .*map")
        (tmp_path / "go").touch()
        watch.expect("Done in")
        watch.expect(pexpect.EOF)
    finally:
        watch.close()
    assert watch.exitstatus == 0
    drawn = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", screen.getvalue()).partition("Done in")[0]
    assert max(len(line) for line in re.split(r"[\r\n]+", drawn)) <= 80


def test_logs_are_followed_until_the_job_is_over(served: Served, say: Say, tmp_path: Path) -> None:
    job = submit(say, "talk.py", "in.txt", "-o", tmp_path / "out", "--set", f"go={tmp_path}/go")
    follow = served.begin("logs", "-f", job)
    assert follow.stdout and follow.stderr
    assert follow.stdout.readline() == f"==> {job}-s0-t00000-a1 <==\n"
    assert follow.stdout.readline() == "hello from in.txt\n"
    assert follow.poll() is None
    (tmp_path / "go").touch()
    rest, err = follow.communicate(timeout=PATIENCE)
    assert (follow.returncode, rest, err) == (0, "and then goodbye\n", "")

    whole = f"==> {job}-s0-t00000-a1 <==\nhello from in.txt\nand then goodbye\n"
    assert say("logs", job)[1] == say("logs", "-f", job)[1] == say("logs", job, "--task", "0-0")[1] == whole
    attempt = f"{job}-s0-t00000-a1"
    assert say("logs", job, "--attempt", attempt)[1] == whole
    lines = [json.loads(line) for line in say("logs", job, "--json")[1].splitlines()]
    assert lines == [
        {"attempt": attempt, "line": "hello from in.txt"},
        {"attempt": attempt, "line": "and then goodbye"},
    ]
    code, out, err = say("logs", job, "--task", "0-9")
    assert (code, out) == (0, "") and "No attempt at task 0-9" in err
    assert "such as 0-17" in say("logs", job, "--task", "nine")[2]


def test_cancel_says_what_became_of_the_job(say: Say, done: str, tmp_path: Path) -> None:
    job = submit(say, "talk.py", "in.txt", "-o", tmp_path / "out", "--set", f"go={tmp_path}/go")
    code, out, _ = say("cancel", "--json", job)
    assert code == 0 and json.loads(out) == {"id": job, "state": "cancelled", "was_over": False}
    assert json.loads(say("cancel", "--json", done)[1]) == {"id": done, "state": "succeeded", "was_over": True}
    code, out, err = say("wait", job)
    assert (code, out) == (1, "") and "ancelled" in err


def test_a_token_of_ones_own_opens_as_much_as_its_role(say: Say, done: str, tmp_path: Path) -> None:
    tokens = {}
    for name, role in (("vera", "viewer"), ("sam", "submitter")):
        code, out, err = say("token", "add", name, "--role", role)
        assert code == 0, err
        tokens[name] = tmp_path / f"{name}.token"
        tokens[name].write_text(out)
    vera, sam = (("--token-file", tokens[name]) for name in ("vera", "sam"))
    assert done in say("jobs", *vera)[1] and say("status", done, *vera)[0] == 0
    job = submit(say, "talk.py", "in.txt", "-o", tmp_path / "out", "--set", f"go={tmp_path}/go", *sam)
    assert ids(say("jobs", "--json", "--user", "sam", *vera)[1]) == [job]
    code, _, err = say("cancel", job, *vera)
    assert code == 2 and "wants the role submitter" in err
    code, _, err = say("retry", done, *sam)
    assert code == 2 and "admin" in err  # whose job it is
    code, _, err = say("workers", "drain", "vm#1", *sam)
    assert code == 2 and "wants the role admin" in err
    assert say("cancel", job, *sam)[0] == 0
    assert say("token", "remove", "vera")[0] == 0
    code, _, err = say("jobs", *vera)
    assert code == 2 and "token" in err


def test_a_retry_runs_what_is_unfinished(say: Say, tmp_path: Path) -> None:
    (tmp_path / "there").touch()
    for name in ("there", "missing"):
        (tmp_path / f"{name}.txt").write_text(f"{tmp_path / name}\n")
    inputs = (tmp_path / "there.txt", tmp_path / "missing.txt")
    job = submit(say, "frail.py", *inputs, "-o", tmp_path / "out", "--split-size", "1", "--max-attempts", "2")
    assert say("wait", job)[0] == 1
    (tmp_path / "missing").touch()
    code, out, err = say("retry", job)
    assert (code, out) == (0, "") and f"Job {job} is tried again." in err
    code, out, err = say("wait", "--json", job)
    assert code == 0, err
    assert len(output(tmp_path / "out").splitlines()) == 2
    code, _, err = say("retry", job)
    assert code == 2 and "succeeded" in err


def test_workers_are_listed_and_drained(served: Served, say: Say, tmp_path: Path) -> None:
    worker = served.begin(
        "worker", served.url, "--executors", "1", "--memory", "256MiB", "--data-dir", tmp_path, "--name", "second"
    )
    try:

        def listed() -> dict[str, Any]:
            found = json.loads(say("workers", "--json")[1])
            return {str(each["host"]): each for each in found}

        wait_until(lambda: any("second" in name for name in map(str, json.loads(say("workers", "--json")[1]))))
        [own] = [each for each in listed().values() if "second" not in each["worker"]]
        [second] = [each for each in json.loads(say("workers", "--json")[1]) if "second" in each["worker"]]
        assert own["state"] == second["state"] == "up"
        head, *rows = say("workers")[1].splitlines()
        assert head.split()[:3] == ["WORKER", "STATE", "BUSY"] and len(rows) == 2
        code, out, _ = say("workers", "drain", "--json", second["worker"])
        assert code == 0 and json.loads(out) == {"worker": second["worker"], "state": "draining"}
        worker.communicate(timeout=PATIENCE)
        assert worker.returncode == 0
        wait_until(lambda: len(say("workers")[1].splitlines()) == 2)
    finally:
        if worker.poll() is None:
            worker.kill()
            worker.communicate()
    code, _, err = say("workers", "drain", "nobody#7")
    assert code == 2 and "no worker nobody#7" in err
