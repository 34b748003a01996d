"""Scripts on a server: as drivers of their own, and as clients that die. All of it in processes that can be killed."""

from __future__ import annotations

import copy
import glob
import json
import os
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from textwrap import dedent
from typing import Any

import psutil
import pytest
from chaos_cluster_kit import Site, site

LEASE = "2s"

COUNT = """
import sys
from operator import add

import gristmill as gm
from helper import clean

print(__name__, sys.argv)
print("to stderr", file=sys.stderr)
seen = gm.accumulator()
names = gm.broadcast({"A": "first"})


def word(text):
    seen.add(1)
    return clean(text), 1


counts = gm.read_text("in.txt").flat_map(str.split).map(word).reduce_by_key(add).cache()
print(sorted(counts.map(lambda pair: (names.value.get(pair[0]), pair[1])).collect(), key=str), seen.value)
counts.write_text(sys.argv[1])
"""

# Something is kept and sent, and an action waits, for a file to appear.
SLOW = """
import pathlib, sys, time
import gristmill as gm

folder = pathlib.Path(sys.argv[1])
(folder / "runs").open("a").write("x")
shared = gm.broadcast("x" * 100_000)
kept = gm.range(100, partitions=4).map(lambda n: shared.value[:1000] + str(n)).persist(sys.argv[2])
kept.count()


def wait(text):
    (folder / "waits").touch()
    while not (folder / "go").exists():
        time.sleep(0.01)
    return len(text)


print(kept.map(wait).sum())
"""

FORBIDDEN = """
import json, sys, urllib.error, urllib.request
import gristmill as gm
from gristmill.runtime.executor.here import job_here

job = job_here()
server, token = job.server + "/api/v1", f"{job.job}.{job.ticket}"


def ask(method, path):
    request = urllib.request.Request(server + path, method=method, headers={"Authorization": "Bearer " + token})
    try:
        with urllib.request.urlopen(request) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


with gm.Session() as session:
    session.range(3).count()
    own = session._engine._session
    paths = [
        ("POST", f"/sessions/{own}/renew"),
        ("POST", f"/sessions/{sys.argv[1]}/renew"), ("DELETE", f"/sessions/{sys.argv[1]}"),
        ("GET", "/jobs"), ("GET", f"/jobs/{job.job}"), ("POST", f"/jobs/{sys.argv[2]}/cancel"), ("GET", "/join"),
        ("GET", "/blobs/" + "0" * 64), ("HEAD", "/blobs/" + "0" * 64), ("GET", "/openapi.json"),
    ]
    print(json.dumps([ask(*path) for path in paths]))
print(token)
"""


@contextmanager
def small_site(folder: Path) -> Iterator[Site]:
    """A server with one worker of one executor: a driver must not take the place of its own tasks."""
    with site(folder, workers=1, serve_options=("--session-lease", LEASE)) as made:
        yield made


def write_inputs(folder: Path) -> None:
    (folder / "helper.py").write_text("def clean(text):\n    return text.upper()\n")
    (folder / "in.txt").write_text("b a b\na\nb\n")


@pytest.fixture(scope="module")
def one_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with small_site(tmp_path_factory.mktemp("site")) as made:
        yield made
        made.end()


@pytest.fixture
def served(one_site: Site, request: pytest.FixtureRequest) -> Site:
    """A site on which other tests have run before, and a folder of the test's own to call it from."""
    here = copy.copy(one_site)
    here.folder = one_site.folder / re.sub(r"\W", "-", request.node.name)
    here.folder.mkdir()
    write_inputs(here.folder)
    _earlier.update(job["id"] for job in ask(here, "/api/v1/jobs")["jobs"])
    _earlier.update(left(here), big_blobs(here))  # of failed jobs some is kept
    return here


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[Site]:
    """A site of the test's own, parts of which it kills."""
    write_inputs(tmp_path)
    with small_site(tmp_path) as made:
        yield made


def script(served: Site, text: str) -> str:
    (served.folder / "script.py").write_text(dedent(text))
    return "script.py"


def environment(served: Site) -> dict[str, str]:
    return {
        **os.environ,
        "GRISTMILL_SERVER": served.url,
        "GRISTMILL_TOKEN": served.token_file.read_text().strip(),
        "GRISTMILL_DATA_DIR": str(served.folder / "client"),
        "CHAOS_MARK": served.mark,
    }


def gristmill(served: Site, *arguments: str, code: int = 0) -> str:
    """Run a command; what it said."""
    command = [sys.executable, "-m", "gristmill.cli.main", *arguments]
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=served.folder, env=environment(served), timeout=60, check=False
    )
    assert done.returncode == code, f"{done.stdout}\n{done.stderr}\n{served.said()}"
    return done.stdout + done.stderr


def submit(served: Site, text: str, *arguments: str, options: tuple[str, ...] = ()) -> str:
    return gristmill(served, "submit", *options, script(served, text), "--", *arguments).strip()


def ask(served: Site, path: str, token: str = "") -> Any:
    """What the server answers."""
    token = token or served.token_file.read_text().strip()
    request = urllib.request.Request(served.url + path, headers={"Authorization": f"Bearer {token}"})
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)


def listed(served: Site) -> list[dict[str, Any]]:
    """The jobs of this test."""
    return [job for job in ask(served, "/api/v1/jobs")["jobs"] if job["id"] not in _earlier]


_earlier: set[str] = set()  # the jobs of other tests on the same server, and what they have left


def jobs(served: Site) -> dict[str, str]:
    """The states of this test's jobs, by their names."""
    return {job["name"]: job["state"] for job in listed(served)}


def left(served: Site) -> list[str]:
    """What of sessions and their jobs lies anywhere: folders, and blocks in memory, also of folders seen before."""
    from gristmill.shuffle.shelf import twin_of

    # Not Path.glob, which stumbles over folders that vanish while it looks.
    found = [Path(path) for path in glob.glob(str(served.data_dir.parent / "*/**/jobs/*"), recursive=True)]  # noqa: PTH207
    _twins.update(twin for folder in found if (twin := twin_of(folder)) is not None and twin.exists())
    drivers = {job["id"] for job in ask(served, "/api/v1/jobs")["jobs"] if job["name"].endswith(".py")}
    mine = [path for path in found if path.name not in drivers and "client" not in path.parts]
    paths = [str(path) for path in (*mine, *(twin for twin in _twins if twin.exists()))]
    return [path for path in paths if path not in _earlier]


_twins: set[Path] = set()


def blobs(served: Site) -> int:
    """How many files have the value of the broadcast."""
    return len(big_blobs(served))


def big_blobs(served: Site) -> list[str]:
    found = glob.glob(str(served.data_dir.parent / "**/blobs/*"), recursive=True)  # noqa: PTH207 - as above
    return [path for path in found if size_of(path) >= 100_000 and path not in _earlier]


def size_of(path: str) -> int:
    """The bytes of a file, if it is there."""
    try:
        return Path(path).stat().st_size
    except OSError:
        return 0


def test_a_script_runs_as_a_task_beside_its_own_tasks(served: Site) -> None:
    job = submit(served, COUNT, "out", "--x")
    assert "Done" in gristmill(served, "wait", job)
    log = gristmill(served, "logs", job)
    assert "__main__ ['script.py', 'out', '--x']\nto stderr\n[('first', 2), (None, 3)] 5\n" in log.replace("\r", "")
    found = "".join(path.read_text() for path in sorted((served.folder / "out").glob("part-*")))
    assert sorted(found.splitlines()) == ["('A', 2)", "('B', 3)"]
    status = json.loads(gristmill(served, "status", job, "--json"))
    assert (status["state"], status["output"], status["attempts"]) == ("succeeded", None, 1)
    assert jobs(served)["script.py"] == "succeeded"
    served.wait_until(lambda: not left(served))
    served.wait_for_executors(1)  # the one that stood in stays, the driver's is gone
    served.wait_until(lambda: len(served.workers[0].executors()) == 1)


def test_its_failures_are_shown_by_its_own_lines(served: Site) -> None:
    failing = "import gristmill as gm\ndef f(text):\n    return int(text)\ngm.from_items(['x']).map(f).collect()\n"
    said = gristmill(served, "wait", submit(served, failing), code=1)
    assert "script.py:3, in f" in said and "return int(text)" in said and "Record   'x'" in said
    said = gristmill(served, "wait", submit(served, "import gristmill, sys\nsys.exit(3)"), code=1)
    assert "script.py ended with the exit code 3." in said
    assert "What it had written before is there." in said
    said = gristmill(served, "wait", submit(served, "import gristmill as gm\ngm.read_text('nothing').count()"), code=1)
    assert "script.py:2" in said and f"The input {served.folder}/nothing does not exist" in said
    said = gristmill(served, "wait", submit(served, "import gristmill\n{}['k']"), code=1)
    assert "script.py:2" in said and "KeyError" in said
    assert len(listed(served)) == 5  # none was run twice
    served.wait_until(lambda: not [path for path in left(served) if "/w0/" in path])


def test_a_driver_that_is_cancelled_takes_its_session_along(served: Site) -> None:
    job = submit(served, SLOW, str(served.folder), "MEMORY_AND_DISK")
    served.wait_until((served.folder / "waits").exists)
    assert blobs(served) and left(served)
    gristmill(served, "cancel", job)
    served.wait_until(lambda: set(jobs(served).values()) == {"cancelled", "succeeded"})
    served.wait_until(lambda: not left(served) and not blobs(served))
    assert (served.folder / "runs").read_text() == "x"


@pytest.mark.soak
def test_a_driver_whose_worker_dies_is_not_run_again(alone: Site) -> None:
    job = submit(alone, SLOW, str(alone.folder), "DISK")
    alone.wait_until((alone.folder / "waits").exists)
    other = alone.add_worker()
    alone.wait_for_executors(3)
    alone.workers[0].kill()
    assert "tried once" in gristmill(alone, "wait", job, code=1)
    alone.wait_until(lambda: "running" not in jobs(alone).values())
    alone.workers[0].forget()
    alone.wait_until(lambda: not left(alone) and not blobs(alone))
    assert (alone.folder / "runs").read_text() == "x"
    assert other.command.process.poll() is None


@pytest.mark.soak
def test_a_driver_is_run_again_if_that_was_asked_for(alone: Site) -> None:
    job = submit(alone, SLOW, str(alone.folder), "DISK", options=("--driver-attempts", "2"))
    alone.wait_until((alone.folder / "waits").exists)
    alone.add_worker()
    alone.wait_for_executors(3)
    alone.workers[0].kill()
    alone.wait_until(lambda: (alone.folder / "runs").read_text() == "xx")
    (alone.folder / "go").touch()
    assert "Done" in gristmill(alone, "wait", job)
    assert str(100 * 1000 + 190) in gristmill(alone, "logs", job)


def test_a_driver_does_not_outlive_its_server(alone: Site) -> None:
    job = submit(alone, SLOW, str(alone.folder), "DISK")
    alone.wait_until((alone.folder / "waits").exists)
    alone.kill_server()
    alone.start_server()
    assert "not run twice" in gristmill(alone, "wait", job, code=1).replace("\n", " ")
    alone.wait_until(lambda: "running" not in jobs(alone).values())
    alone.wait_until(lambda: not [path for path in left(alone) if "/w0/" in path])
    assert (alone.folder / "runs").read_text() == "x"


def test_what_a_drivers_token_opens(served: Site) -> None:
    from gristmill import Session

    with Session(on=served.url, token_file=served.token_file, data_dir=served.folder / "client") as session:
        assert session.range(3).count() == 3
        other = session._engine._session  # type: ignore[union-attr]
        [known] = [one["id"] for one in listed(served)]
        job = submit(served, FORBIDDEN, other, known)
        gristmill(served, "wait", job)
        log = gristmill(served, "logs", job).splitlines()
        assert json.loads(log[1]) == [200, 403, 403, 403, 403, 403, 403, 403, 404, 403]
        assert session.range(3).count() == 3
    token = log[2]
    with pytest.raises(urllib.error.HTTPError, match="401"):
        ask(served, "/api/v1/jobs", token)
    for wrong in (token[:-1] + "x", f"{known}.", ".", "x"):
        with pytest.raises(urllib.error.HTTPError, match="401"):
            ask(served, "/api/v1/jobs", wrong)


def test_executors_do_not_have_the_servers_token(served: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRISTMILL_TOKEN", served.token_file.read_text().strip())
    worker = served.add_worker()
    served.wait_until(worker.executors)
    assert "GRISTMILL_TOKEN" in psutil.Process(worker.pid).environ()
    for executor in worker.executors():
        assert "GRISTMILL_TOKEN" not in executor.environ()
    worker.send(signal.SIGTERM)
    assert worker.command.process.wait(60) == 0, served.said()
    served.workers.remove(worker)


@pytest.mark.parametrize(("level", "number"), [("MEMORY_AND_DISK", signal.SIGKILL), ("DISK", signal.SIGSTOP)])
def test_a_client_that_dies_lets_its_session_expire(served: Site, level: str, number: signal.Signals) -> None:
    script(served, SLOW)
    command = [sys.executable, "-m", "gristmill.cli.main", "run", "--on", served.url, "script.py"]
    client = subprocess.Popen(
        [*command, str(served.folder), level], cwd=served.folder, env=environment(served), stdin=subprocess.DEVNULL
    )
    try:
        served.wait_until((served.folder / "waits").exists)
        assert blobs(served) == 2 and left(served)
        client.send_signal(number)
        served.wait_until(lambda: not left(served) and not blobs(served))
        assert sorted(jobs(served).items()) == [("count", "succeeded"), ("sum", "cancelled")]
        served.wait_for_executors(1)
    finally:
        client.kill()
        client.wait(60)
    again = gristmill(served, "run", "--on", served.url, script(served, COUNT), "out")
    assert "[('first', 2), (None, 3)] 5\n" in again
    assert not list((served.folder / "client" / "jobs").iterdir())


@pytest.mark.soak
def test_a_session_that_a_killed_server_had_ends_as_well(alone: Site) -> None:
    script(alone, SLOW)
    command = [sys.executable, "-m", "gristmill.cli.main", "run", "--on", alone.url, "script.py"]
    client = subprocess.Popen(
        [*command, str(alone.folder), "DISK"], cwd=alone.folder, env=environment(alone), stdin=subprocess.DEVNULL
    )
    try:
        alone.wait_until((alone.folder / "waits").exists)
        client.kill()
        alone.kill_server()
    finally:
        client.kill()
        client.wait(60)
    alone.start_server()
    alone.wait_until(lambda: jobs(alone) == {"count": "succeeded", "sum": "cancelled"})
    # The folder of the session on the server goes with the next job.
    gristmill(alone, "run", "--on", alone.url, script(alone, COUNT), "out")
    alone.wait_until(lambda: not left(alone) and not blobs(alone))
