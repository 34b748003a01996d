"""Jobs by curl alone: built-in ones, uploaded code, and all that can be asked about them. One server with a worker."""

from __future__ import annotations

import io
import json
import queue
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from gristmill.runtime.coordinator.inbox import Question
from gristmill.service.doors.roles import Role
from gristmill.service.doors.tokens import TOKENS, add_token
from gristmill.service.server import Server, ServeSettings

SECONDS = 60.0
TEXT = "a b a\nc\n" * 50
COUNTS = "a\t100\nb\t50\nc\t50\n"

COUNT = b"""
import helper
from gristmill import MapReduce

class Count(MapReduce):
    params = {"least": 0}

    def mapper(self, _, line):
        print("mapping", line)
        for word in helper.words(line):
            yield word, 1

    def reducer(self, word, counts):
        total = sum(counts)
        if total >= int(self.params["least"]):
            yield word, total
"""
HELPER = b"def words(line):\n    return line.split()\n"
FUNCTIONS = b"""
def words_of(_, line):
    for word in line.split():
        yield word, 1

def total(word, counts):
    yield word, sum(counts)
"""
BROKEN = b"""
import gristmill
x = 1
y = x / 0
"""
SCRIPT = b"""
import sys
import gristmill as gm

print(__name__, sys.argv, gm.Session()._options.reducers)
source, target = sys.argv[1:]
words = gm.read_text(source).flat_map(str.split).map(lambda word: (word, 1))
words.reduce_by_key(lambda one, other: one + other).write_text(target)
"""
SLOW = b"""
import pathlib, time

def mapper(_, line):
    go = pathlib.Path(line)
    go.with_suffix(".there").touch()
    print("waiting", flush=True)
    while not go.exists():
        time.sleep(0.01)
    yield line, 1
"""


class Site:
    """A server and somebody who calls it."""

    def __init__(self, server: Server, data_dir: Path, token: str) -> None:
        self.server, self.data_dir = server, data_dir
        self._base, self._headers = f"{server.url}/api/v1", {"Authorization": f"Bearer {token}"}

    def as_user(self, name: str, role: Role) -> Site:
        """The same for another user."""
        token = add_token(self.data_dir / TOKENS, name, role)
        return Site(self.server, self.data_dir, token)

    def ask(self, method: str, path: str, **how: Any) -> httpx.Response:
        headers = {**self._headers, **how.pop("headers", {})}
        return httpx.request(method, self._base + path, headers=headers, timeout=SECONDS, **how)

    def stream(self, path: str, headers: dict[str, str]) -> Any:
        return httpx.stream("GET", self._base + path, headers={**self._headers, **headers}, timeout=SECONDS)

    def get(self, path: str) -> Any:
        answer = self.ask("GET", path)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def post(self, wish: dict[str, Any], **headers: str) -> str:
        """Submit a job as JSON; its id."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        answer = self.ask("POST", "/jobs", json=wish, headers=named)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])

    def upload(self, file: str, code: bytes, **fields: Any) -> httpx.Response:
        """Submit a file of code."""
        return self.ask("POST", "/jobs", files={"code": (file, code)}, data=fields)

    def end(self, job: str) -> Any:
        """A job, once it is over."""
        give_up = time.monotonic() + SECONDS
        while (found := self.get(f"/jobs/{job}?wait=30"))["state"] in ("queued", "running"):
            assert time.monotonic() < give_up, found
        return found

    def result(self, job: str) -> str:
        answer = self.ask("GET", f"/jobs/{job}/result")
        assert answer.status_code == 200, answer.text
        return answer.text


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    data_dir = tmp_path_factory.mktemp("server")
    settings = ServeSettings(port=0, data_dir=data_dir, executors=2, memory_bytes=512 * 1024 * 1024)
    with Server(settings) as server:
        yield Site(server, data_dir, (data_dir / "token").read_text().strip())


@pytest.fixture
def inputs(tmp_path: Path) -> str:
    path = tmp_path / "in.txt"
    path.write_text(TEXT)
    return str(path)


@pytest.fixture
def output(tmp_path: Path) -> str:
    return str(tmp_path / "out")


def zip_of(**files: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, data in files.items():
            archive.writestr(f"{name}.py", data)
    return out.getvalue()


def until(look: Callable[[], Any]) -> Any:
    give_up = time.monotonic() + SECONDS
    while not (found := look()):
        assert time.monotonic() < give_up
        time.sleep(0.02)
    return found


# Built-in jobs


def test_a_builtin_job_with_all_that_is_told_of_it(site: Site, inputs: str, output: str) -> None:
    wish = {"job": "wordcount", "inputs": [inputs], "output": output, "name": "words", "priority": 3, "deadline": "1h",
            "options": {"reducers": 2, "split_size": "200"}}  # fmt: skip
    job = site.post(wish)
    found = site.end(job)
    assert (found["state"], found["name"], found["user"], found["priority"]) == ("succeeded", "words", "admin", 3)
    assert found["percent"] == found["map"]["percent"] == found["reduce"]["percent"] == 100.0
    assert (found["map"]["tasks"], found["reduce"]["tasks"]) == (2, 2)
    assert (found["records_in"], found["records_out"], found["bytes_in"]) == (100, 3, len(TEXT))
    assert found["deadline"] == pytest.approx(found["submitted"] + 3600) and not found["late"]
    assert found["error"] is None and found["seconds_left"] is None and found["records_per_second"] > 0
    assert "".join(sorted(site.result(job).splitlines(keepends=True))) == COUNTS
    [row] = [row for row in site.get("/jobs?name=words")["jobs"] if row["id"] == job]
    assert row["state"] == "succeeded" and row["ended"] >= row["begun"] >= row["submitted"]

    tasks = site.get(f"/jobs/{job}/tasks")
    assert [task["id"] for task in tasks["tasks"]] == ["0-0", "0-1", "1-0", "1-1"] and tasks["total"] == 4
    assert {task["state"] for task in tasks["tasks"]} == {"done"}
    first = site.get(f"/jobs/{job}/tasks?limit=1&stage=0")
    assert first["next"] == 1 and site.get(f"/jobs/{job}/tasks?after=1&stage=0")["tasks"][0]["id"] == "0-1"
    assert site.get(f"/jobs/{job}/tasks?state=failed")["tasks"] == []
    [attempt] = site.get(f"/jobs/{job}/tasks/0-1/attempts")["attempts"]
    assert attempt["state"] == "done" and attempt["name"] == f"{job}-s0-t00001-a1" and attempt["records_in"] > 0
    assert attempt["worker"] == site.get("/workers")["workers"][0]["worker"]
    assert site.ask("GET", f"/jobs/{job}/tasks/9-0/attempts").status_code == 404


def test_a_form_says_the_same_as_json(site: Site, inputs: str, output: str) -> None:
    form = {"job": (None, "grep"), "inputs": (None, inputs), "output": (None, output), "set": (None, "pattern=^c")}
    answer = site.ask("POST", "/jobs", files={**form, "reducers": (None, "3")})
    job = answer.json()["id"]
    assert site.end(job)["state"] == "succeeded"
    assert site.result(job) == "c\n" * 50


def test_a_key_is_one_job_for_each_user(site: Site, inputs: str, output: str) -> None:
    wish = {"job": "wordcount", "inputs": [inputs], "output": output}
    first = site.post(wish, Idempotency_Key="k")
    assert site.post(wish, Idempotency_Key="k") == first
    other = site.ask("POST", "/jobs", json={**wish, "output": output + "2"}, headers={"Idempotency-Key": "k"})
    assert other.status_code == 422 and other.json()["taken_by"] == first
    kay = site.as_user("kay", Role.SUBMITTER)
    assert kay.post({**wish, "output": output + "3"}, Idempotency_Key="k") != first


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"options": {"reducer": 3}}, "options.reducer"),
        ({"options": {"reducers": 0}}, "options.reducers"),
        ({"options": {"reducers": 10**9}}, "options.reducers"),
        ({"options": {"input_format": "pdf"}}, "options.input_format"),
        ({"inputs": []}, "inputs"),
        ({"inputs": ["in.txt"]}, "inputs.0"),
        ({"inputs": ["/in\x00.txt"]}, "inputs.0"),
        ({"inputs": ["/in\ud800.txt"]}, "inputs.0"),
        ({"output": "out"}, "output"),
        ({"output": None}, "output"),
        ({"priority": 10**30}, "priority"),
        ({"job": "../x"}, "job"),
        ({"job": "word-count"}, "job"),
        ({"job": None}, "job"),
        ({"mapper": "f"}, "mapper"),
        ({"params": {"x": {"y": 1}}}, "params"),
        ({"name": "\x1b[2J"}, "name"),
        ({"what": 1}, "what"),
    ],
)
def test_what_is_wrong_is_said_by_field(
    site: Site, inputs: str, output: str, change: dict[str, Any], field: str
) -> None:
    wish = {"job": "wordcount", "inputs": [inputs], "output": output, **change}
    body = json.dumps(wish).encode()
    answer = site.ask("POST", "/jobs", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 422, answer.text
    assert any(name.startswith(field) for name in answer.json()["fields"]), answer.text
    assert not Path(output).exists()


@pytest.mark.parametrize(
    ("change", "status", "words"),
    [
        ({"options": {"split_size": "many"}}, 422, "is not a size"),
        ({"deadline": "soon"}, 422, "is not a duration"),
        ({"inputs": ["/is/not/there"]}, 422, "/is/not/there"),
        ({"output": "/etc"}, 409, "/etc"),
        ({"job": "wordcount", "params": {"x": 1}}, 422, "has no parameter"),
        ({"job": "json:Nothing", "output": "/etc"}, 409, "/etc"),
        ({"job": "json:Nothing", "inputs": ["/is/not/there"]}, 422, "/is/not/there"),
    ],
)
def test_what_cannot_be_is_said_at_once(
    site: Site, inputs: str, output: str, change: dict[str, Any], status: int, words: str
) -> None:
    answer = site.ask("POST", "/jobs", json={"job": "wordcount", "inputs": [inputs], "output": output, **change})
    assert answer.status_code == status and words in answer.json()["detail"], answer.text
    assert answer.headers["content-type"] == "application/problem+json"


# Uploaded code


def test_an_uploaded_class(site: Site, inputs: str, output: str) -> None:
    code = zip_of(count=COUNT, helper=HELPER)
    answer = site.upload("job.zip", code, job="count:Count", inputs=inputs, output=output, set="least=60")
    job = answer.json()["id"]
    found = site.end(job)
    assert (found["state"], found["name"]) == ("succeeded", "Count"), found["error"]
    assert site.result(job) == "a\t100\n"
    logs = site.get(f"/jobs/{job}/logs")["logs"]
    assert any("mapping a b a" in log["text"] for log in logs)
    rows = site.get("/jobs?limit=200")["jobs"]
    assert all(row["name"] != f"code of {job}" for row in rows)
    [row] = [row for row in rows if row["id"] == job]
    assert row["seconds"] == found["seconds"] >= row["ended"] - row["begun"] - 0.3, "with the loading of its code"
    shown = httpx.get(f"{site.server.url}/metrics", headers=site._headers, timeout=SECONDS).text
    counted = [float(line.split()[-1]) for line in shown.splitlines() if line.startswith("gristmill_jobs{")]
    assert sum(counted) == len(rows), "what only loads code is not counted"


def test_uploaded_functions_by_their_names(site: Site, inputs: str, output: str) -> None:
    fields = {"mapper": "words_of", "combiner": "total", "reducer": "total", "inputs": [inputs], "output": output}
    job = site.upload("functions.py", FUNCTIONS, request=json.dumps(fields), name="mine").json()["id"]
    found = site.end(job)
    assert (found["state"], found["name"]) == ("succeeded", "mine"), found["error"]
    assert site.result(job) == COUNTS


def test_code_that_fails_shows_its_own_line_first(site: Site, inputs: str, output: str) -> None:
    code = BROKEN.replace(b"import gristmill", b"from gristmill import MapReduce")
    job = site.upload("broken.py", code, inputs=inputs, output=output).json()["id"]
    found = site.end(job)
    assert found["state"] == "failed"
    assert found["error"]["failure"]["frames"][0] == {
        "file": "broken.py", "line": 4, "function": "<module>", "source": "y = x / 0",
    }  # fmt: skip
    assert found["error"]["failure"]["exception"] == "ZeroDivisionError"
    assert "broken.py:4" in found["error"]["message"] and not Path(output).exists()


@pytest.mark.parametrize(
    ("name", "code", "fields", "words"),
    [
        ("job.py", b"x = 1\n", {}, "is not a job"),
        ("job.py", b"def mapper(:\n", {}, "SyntaxError"),
        ("job.py", FUNCTIONS, {"mapper": "nobody"}, "has no function nobody"),
        ("job.py", COUNT, {"job": "Other"}, "helper"),
        ("job.zip", zip_of(one=b"x = 1\n"), {}, "is not a job"),
    ],
)
def test_code_that_is_no_job(
    site: Site, inputs: str, output: str, name: str, code: bytes, fields: dict[str, str], words: str
) -> None:
    job = site.upload(name, code, inputs=inputs, output=output, **fields).json()["id"]
    found = site.end(job)
    assert found["state"] == "failed" and words in found["error"]["message"], found["error"]


@pytest.mark.parametrize(
    ("name", "code", "fields", "words"),
    [
        ("job.exe", b"", {}, "neither a .py nor a .zip"),
        ("job.zip", b"no zip", {}, "not a zip file"),
        ("job.zip", zip_of(one=b"", two=b""), {}, "Say which module"),
        ("job.py", b"", {"job": "a.b:C"}, "is not the name of a class"),
    ],
)
def test_files_that_are_refused_at_once(
    site: Site, inputs: str, output: str, name: str, code: bytes, fields: dict[str, str], words: str
) -> None:
    answer = site.upload(name, code, inputs=inputs, output=output, **fields)
    assert answer.status_code == 422 and words in answer.json()["detail"], answer.text


# Uploaded scripts


def test_an_uploaded_script_runs_with_its_arguments(site: Site, inputs: str, output: str) -> None:
    sent = site.upload("words.py", SCRIPT, arguments=[inputs, output], reducers=3, priority=2)
    job = sent.json()["id"]
    found = site.end(job)
    assert (found["state"], found["name"], found["output"], found["priority"]) == ("succeeded", "words.py", None, 2)
    assert len(list(Path(output).glob("part-*"))) == 3
    [log] = site.get(f"/jobs/{job}/logs")["logs"]
    assert log["text"].replace("\r", "") == f"__main__ ['words.py', '{inputs}', '{output}'] 3\n"
    own = [row for row in site.get("/jobs?limit=200")["jobs"] if row["name"] == "write_text"]
    assert own and own[0]["user"] == "admin"


def test_a_script_in_a_zip_file_finds_its_modules(site: Site, inputs: str, tmp_path: Path) -> None:
    script = b"import sys, helper\nimport gristmill as gm\nprint(gm.read_text(sys.argv[1]).map(helper.words).count())\n"
    code = zip_of(script=script, helper=HELPER)
    sent = site.upload("all.zip", code, job="script", arguments=inputs, name="mine")
    job = sent.json()["id"]
    found = site.end(job)
    assert (found["state"], found["name"]) == ("succeeded", "mine"), found["error"]
    assert site.get(f"/jobs/{job}/logs")["logs"][0]["text"].strip() == "100"


@pytest.mark.parametrize(
    ("code", "words", "line"),
    [
        (BROKEN, "division by zero", 4),
        (b"import gristmill\nx = (\n", "was never closed", 2),
        (b"import gristmill as gm\ngm.read_text('/is/not/there').count()\n", "/is/not/there", 2),
        (FUNCTIONS.replace(b"words_of", b"mapper"), "is no script of datasets", 0),
        (b"print('hello')\n", "does not import gristmill", 0),
    ],
)
def test_a_script_that_fails_shows_its_own_line_first(site: Site, code: bytes, words: str, line: int) -> None:
    found = site.end(site.upload("script.py", code).json()["id"])
    assert found["state"] == "failed" and words in found["error"]["message"], found["error"]
    frames = found["error"]["failure"]["frames"]
    assert [(frame["file"], frame["line"]) for frame in frames] == [("script.py", line)] * bool(line)


def test_a_script_that_is_asked_for_as_a_job_is_not_run(site: Site, inputs: str, output: str) -> None:
    job = site.upload("script.py", SCRIPT, inputs=inputs, output=output).json()["id"]
    found = site.end(job)
    assert found["state"] == "failed" and "send it without inputs and output" in found["error"]["message"]


@pytest.mark.parametrize(
    ("file", "fields", "wrong"),
    [
        ("s.py", {"set": "x=1"}, ["params"]),
        ("s.py", {"overwrite": "true", "output_format": "csv"}, ["options.output_format", "options.overwrite"]),
        ("s.py", {"mapper": "f"}, ["mapper"]),
        ("s.py", {"job": "Name"}, ["job"]),
        ("s.py", {"output": "/out"}, ["inputs"]),
        ("s.py", {"inputs": "/in", "arguments": ["x"]}, ["output", "arguments"]),
        ("s.py", {"inputs": "/in", "output": "/out", "driver_attempts": 2}, ["driver_attempts"]),
        ("", {"arguments": ["x"]}, ["inputs", "output", "arguments"]),
        ("", {"job": "wordcount"}, ["inputs", "output"]),
    ],
)
def test_what_is_not_for_scripts_or_jobs_is_said_by_field(
    site: Site, file: str, fields: dict[str, Any], wrong: list[str]
) -> None:
    files = {"code": (file, SCRIPT)} if file else {"x": (None, "")}  # a form in any case
    answer = site.ask("POST", "/jobs", files=files, data=fields)
    if not file:
        assert "x" in answer.json()["fields"]
        answer = site.ask("POST", "/jobs", json=fields)
    assert answer.status_code == 422 and list(answer.json()["fields"]) == wrong, answer.text


def test_a_script_comes_once_with_its_key(site: Site) -> None:
    code = b"import gristmill as gm\nprint(gm.range(3).count())\n"
    files, headers = {"code": ("script.py", code)}, {"Idempotency-Key": "script"}
    first = site.ask("POST", "/jobs", files=files, headers=headers).json()["id"]
    assert site.ask("POST", "/jobs", files=files, headers=headers).json()["id"] == first
    other = site.ask("POST", "/jobs", files=files, data={"arguments": "x"}, headers=headers)
    assert other.status_code == 422 and other.json()["taken_by"] == first
    assert site.end(first)["state"] == "succeeded"


def test_a_module_that_only_the_workers_have(site: Site, inputs: str, output: str) -> None:
    wish = {"job": "gristmill.cli.demo_job:WordCount", "inputs": [inputs], "output": output}
    job = site.post(wish)
    assert site.end(job)["state"] == "succeeded"
    assert site.result(job) == COUNTS
    missing = site.end(site.post({**wish, "job": "is.not.there:Job", "output": output + "2"}))
    assert missing["state"] == "failed" and "is.not.there" in missing["error"]["message"]


def test_code_is_loaded_by_nobody_else(site: Site) -> None:
    answer = site.ask("POST", "/jobs/20261120-132501-a3f9/code", content=b"{}")
    assert answer.status_code in (403, 409, 422)


NOSY = b"""
import json, sys, urllib.error, urllib.request
from gristmill.runtime.executor.here import job_here

here = job_here()
def ask(method, path, data=None):
    headers = {"Authorization": f"Bearer {here.job}.{here.ticket}"}
    request = urllib.request.Request(f"{here.server}/api/v1{path}", data, headers, method=method)
    try:
        return urllib.request.urlopen(request).status
    except urllib.error.HTTPError as error:
        return error.code

if here is not None and here.driver:
    other = "20261120-132501-a3f9"
    calls = [("GET", "/jobs"), ("POST", "/jobs"), ("POST", f"/jobs/{other}/code"), ("POST", "/sessions")]
    calls += [("GET", "/join"), ("POST", f"/jobs/{here.job}/cancel"), ("DELETE", "/workers/x")]
    calls += [("HEAD", "/blobs/" + "0" * 64)]
    print("answered", [ask(*call) for call in calls])

def mapper(_, line):
    yield line, 1
"""
STUCK = b"""
import pathlib, time
pathlib.Path("THERE").touch()
while True:
    time.sleep(0.1)
"""


def test_what_is_printed_while_code_is_loaded_is_kept_and_its_token_opens_nothing_else(
    site: Site, inputs: str, output: str
) -> None:
    job = site.upload("nosy.py", NOSY, inputs=inputs, output=output).json()["id"]
    assert site.end(job)["state"] == "succeeded"
    [log] = [log for log in site.get(f"/jobs/{job}/logs")["logs"] if "answered" in log["text"]]
    assert log["text"] == f"answered {[403] * 7 + [404]}\n"
    assert not log["attempt"].startswith(job)
    part = site.get(f"/jobs/{job}/logs?attempt={log['attempt']}")
    assert part["text"] == log["text"]
    other = site.post({"job": "wordcount", "inputs": [inputs], "output": output + "2"})
    assert site.get(f"/jobs/{other}/logs?attempt={log['attempt']}")["text"] == ""
    site.end(other)


def test_a_job_is_cancelled_while_its_code_is_loaded(site: Site, inputs: str, output: str, tmp_path: Path) -> None:
    there = tmp_path / "there"
    code = STUCK.replace(b"THERE", str(there).encode())
    job = site.upload("stuck.py", code, inputs=inputs, output=output).json()["id"]
    until(there.exists)
    found = site.get(f"/jobs/{job}")
    assert (found["state"], found["note"]) == ("running", "Loading its code.")
    assert site.ask("POST", f"/jobs/{job}/cancel").status_code == 202
    assert site.end(job)["state"] == "cancelled"
    jobs = site.server.jobs
    until(lambda: all(one.outcome is not None for one in jobs._coordinator.jobs() if one.name.startswith("code of")))


@pytest.mark.parametrize("how", ["in order", "by a defect"])
def test_code_is_loaded_by_the_next_server_if_this_one_ends_before(
    tmp_path: Path, inputs: str, output: str, how: str
) -> None:
    data_dir = tmp_path / "data"
    with Server(ServeSettings(port=0, data_dir=data_dir)) as server:  # without workers
        site = Site(server, data_dir, (data_dir / "token").read_text().strip())
        job = site.upload("functions.py", FUNCTIONS, mapper="words_of", reducer="total", inputs=inputs, output=output)
        name = job.json()["id"]
        until(lambda: site.get(f"/jobs/{name}")["note"] == "Loading its code.")
        if how == "in order":
            server.coordinator.close()
        else:
            server.coordinator._queue.put(Question(lambda: 1 / 0, queue.SimpleQueue()))
            until(lambda: server.coordinator.crash is not None)
        answer = httpx.get(f"{server.url}/readyz", timeout=SECONDS)
        assert (answer.status_code, answer.json()["reasons"]) == (503, [])  # why is nobody's affair who is not known
    settings = ServeSettings(port=0, data_dir=data_dir, executors=1, memory_bytes=256 * 1024 * 1024)
    with Server(settings) as server:
        site = Site(server, data_dir, (data_dir / "token").read_text().strip())
        found = site.end(name)
        assert (found["state"], found["user"]) == ("succeeded", "admin"), found["error"]
        assert site.result(name) == COUNTS


# A job that runs


def test_a_job_is_followed_and_cancelled_by_its_owner_alone(site: Site, tmp_path: Path) -> None:
    go = tmp_path / "go"
    (tmp_path / "in.txt").write_text(f"{go}\n")
    ada, bob = site.as_user("ada", Role.SUBMITTER), site.as_user("bob", Role.SUBMITTER)
    viewer = site.as_user("eve", Role.VIEWER)
    fields = {"inputs": str(tmp_path / "in.txt"), "output": str(tmp_path / "out")}
    job = ada.upload("slow.py", SLOW, **fields).json()["id"]
    until(lambda: go.with_suffix(".there").exists())
    assert viewer.get(f"/jobs/{job}")["user"] == "ada"
    assert viewer.get("/jobs?user=ada&state=running")["jobs"][0]["id"] == job
    assert [task["state"] for task in viewer.get(f"/jobs/{job}/tasks")["tasks"]] == ["running"]
    [attempt] = viewer.get(f"/jobs/{job}/tasks/0-0/attempts")["attempts"]
    assert attempt["state"] == "running" and attempt["began"] is not None

    def printed() -> Any:
        return viewer.get(f"/jobs/{job}/logs?attempt={attempt['name']}")

    log = until(lambda: (found := printed())["text"] and found)
    assert (log["text"], log["next"], log["over"]) == ("waiting\n", 8, False)
    assert viewer.get(f"/jobs/{job}/logs?attempt={attempt['name']}&after=8")["text"] == ""
    assert bob.ask("POST", f"/jobs/{job}/cancel").status_code == 403
    assert viewer.ask("POST", f"/jobs/{job}/cancel").status_code == 403
    assert viewer.ask("POST", "/jobs", json={}).status_code == 403
    assert bob.ask("POST", f"/jobs/{job}/retry").status_code == 403
    assert ada.ask("GET", f"/jobs/{job}/result").status_code == 409
    assert ada.ask("POST", f"/jobs/{job}/cancel").status_code == 202
    assert viewer.end(job)["state"] == "cancelled"
    assert viewer.get(f"/jobs/{job}/logs?attempt={attempt['name']}&after=8")["over"]

    go.touch()
    assert ada.ask("POST", f"/jobs/{job}/retry").status_code == 202
    assert viewer.end(job)["state"] == "succeeded"
    assert ada.ask("POST", f"/jobs/{job}/retry").status_code == 409
    assert len(viewer.get(f"/jobs/{job}/tasks/0-0/attempts")["attempts"]) == 2


def test_events_come_as_they_happen_and_end_with_the_job(site: Site, tmp_path: Path) -> None:
    go = tmp_path / "go"
    (tmp_path / "in.txt").write_text(f"{go}\n")
    fields = {"inputs": str(tmp_path / "in.txt"), "output": str(tmp_path / "out")}
    job = site.upload("slow.py", SLOW, **fields).json()["id"]
    told: list[list[tuple[str, Any]]] = [[], [], []]

    def listen(mine: list[tuple[str, Any]]) -> None:
        mine += events(site, job)

    listeners = [threading.Thread(target=listen, args=(mine,)) for mine in told]
    for listener in listeners:
        listener.start()
    until(lambda: go.with_suffix(".there").exists())
    go.touch()
    for listener in listeners:
        listener.join(SECONDS)
    assert told[0] == told[1] == told[2]
    kinds = [kind for kind, _ in told[0]]
    assert kinds[0] == "job-requested" and kinds[-2:] == ["job-ended", "end"]
    assert "job-accepted" in kinds and "task-done" in kinds
    assert told[0][-1][1] == {"state": "succeeded"}
    number = told[0][2][1]["number"]
    assert events(site, job, number) == told[0][3:]


def events(site: Site, job: str, after: int | None = None) -> list[tuple[str, Any]]:
    """All events of a job, until its end."""
    headers = {} if after is None else {"Last-Event-ID": str(after)}
    found, kind = [], ""
    with site.stream(f"/jobs/{job}/events", headers) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        for line in answer.iter_lines():
            name, _, value = line.partition(": ")
            if name == "event":
                kind = value
            elif name == "data":
                found.append((kind, json.loads(value)))
    return found


# Results


def test_a_result_is_bounded_and_ends_with_a_whole_line(site: Site, inputs: str, output: str) -> None:
    job = site.post({"job": "wordcount", "inputs": [inputs], "output": output, "options": {"reducers": 1}})
    site.end(job)
    answer = site.ask("GET", f"/jobs/{job}/result?limit=12")
    assert answer.text == "a\t100\nb\t50\n" and answer.headers["gristmill-truncated"] == "true"
    assert answer.headers["gristmill-result-bytes"] == str(len(COUNTS))
    assert site.ask("GET", f"/jobs/{job}/result?part=0").text == COUNTS
    assert site.ask("GET", f"/jobs/{job}/result?part=1").status_code == 404
    for path in Path(output).glob("part-*"):
        path.unlink()
        path.symlink_to("/etc/hostname")
    answer = site.ask("GET", f"/jobs/{job}/result")
    assert answer.status_code == 500 and "cannot be read" in answer.json()["detail"]
    (Path(output) / "_SUCCESS").unlink()
    assert site.ask("GET", f"/jobs/{job}/result").status_code == 422


def test_a_result_of_columns_is_one_file(site: Site, inputs: str, output: str) -> None:
    Path(inputs).write_text(" ".join(chr(97 + n) * 3 for n in range(26)))  # some for each part
    options = {"reducers": 2, "output_format": "parquet"}
    job = site.post({"job": "wordcount", "inputs": [inputs], "output": output, "options": options})
    assert site.end(job)["state"] == "succeeded"
    answer = site.ask("GET", f"/jobs/{job}/result")
    assert answer.status_code == 409 and "?part=0" in answer.json()["detail"]
    part = site.ask("GET", f"/jobs/{job}/result?part=0")
    assert part.content[:4] == part.content[-4:] == b"PAR1"
    assert part.headers["content-type"] == "application/vnd.apache.parquet"


# The server


def test_the_jobs_are_listed_by_pages(site: Site, inputs: str, tmp_path: Path) -> None:
    wish = {"job": "distinct", "inputs": [inputs], "name": "paged"}
    jobs = [site.post({**wish, "output": str(tmp_path / f"out{n}")}) for n in range(3)]
    first = site.get("/jobs?name=paged&limit=2")
    second = site.get(f"/jobs?name=paged&limit=2&before={first['next']}")
    assert sorted(row["id"] for page in (first, second) for row in page["jobs"]) == sorted(jobs)
    assert second["next"] is None
    for job in jobs:
        site.end(job)


def test_workers_are_told_of_and_only_admins_drain_them(site: Site) -> None:
    [worker] = site.get("/workers")["workers"]
    assert worker["state"] == "up" and worker["slots"] == 2 and worker["disk_bytes"] > 0
    submitter = site.as_user("ada2", Role.SUBMITTER)
    assert submitter.ask("DELETE", f"/workers/{worker['worker']}".replace("#", "%23")).status_code == 403
    assert site.ask("DELETE", "/workers/nobody").status_code == 404


def test_it_is_ready(site: Site) -> None:
    assert httpx.get(f"{site.server.url}/readyz", timeout=60).json() == {"status": "ready"}


def test_builtin_jobs_are_told_of(site: Site) -> None:
    assert {job["name"] for job in site.get("/builtin")["jobs"]} == {"access-log", "distinct", "grep", "wordcount"}


def test_a_session_is_its_users_alone(site: Site) -> None:
    ada, bob = site.as_user("ada3", Role.SUBMITTER), site.as_user("bob3", Role.SUBMITTER)
    session = ada.ask("POST", "/sessions").json()["id"]
    assert ada.ask("POST", f"/sessions/{session}/renew").status_code == 200
    for method, path in (("POST", "renew"), ("GET", "kept/x"), ("PUT", f"blobs/{'0' * 64}"), ("POST", "jobs")):
        assert bob.ask(method, f"/sessions/{session}/{path}", content=b"{}").status_code == 403
    assert bob.ask("DELETE", f"/sessions/{session}").status_code == 403
    assert ada.ask("DELETE", f"/sessions/{session}").status_code == 204


def test_a_key_of_one_user_is_never_that_of_another(site: Site, inputs: str, tmp_path: Path) -> None:
    sam = site.as_user("sam", Role.SUBMITTER)
    wish = {"job": "wordcount", "inputs": [inputs]}
    his = sam.post({**wish, "output": str(tmp_path / "his")}, Idempotency_Key="k")
    ours = site.post({**wish, "output": str(tmp_path / "ours")}, Idempotency_Key="sam:k")
    assert ours != his and sam.post({**wish, "output": str(tmp_path / "his")}, Idempotency_Key="k") == his
    for key in ("sam\tk", "x" * 1000):
        answer = site.ask("POST", "/jobs", json={**wish, "output": "/o"}, headers={"Idempotency-Key": key})
        assert answer.status_code == 422 and "printable" in answer.text, answer.text
