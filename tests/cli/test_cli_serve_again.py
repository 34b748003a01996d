"""A server that is killed at the worst moment and started again, as a process, on real jobs."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from test_cli_serve import COUNT, HELPERS, PATIENCE, SLOW, Served, output, wait_until

from gristmill.api.client import connect
from gristmill.cli.main import main
from gristmill.errors import ServerUnreachable
from gristmill.storage.failpoints import FAIL_POINTS


class Mortal(Served):
    """A server that dies at a step, if one is named, as by SIGKILL."""

    failpoint = ""

    def environment(self) -> dict[str, str]:
        own = {"GRISTMILL_FAILPOINT": self.failpoint} if self.failpoint else {}
        return {**super().environment(), **own}

    def wait_for_death(self) -> None:
        assert self.process is not None
        assert self.process.wait(PATIENCE) == 137

    def summary(self, job: str) -> dict[str, object]:
        return dict(json.loads(self.run("status", job, "--json").stdout))

    def restart(self) -> None:
        self.failpoint = ""
        self.start()


@pytest.fixture
def served(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Mortal]:
    (tmp_path / "count.py").write_text(COUNT)
    (tmp_path / "helpers.py").write_text(HELPERS)
    (tmp_path / "slow.py").write_text(SLOW)
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "in.txt").write_text("b a\na\n")
    Mortal.failpoint = request.param
    served = Mortal(tmp_path, 1)
    Mortal.failpoint = ""
    try:
        yield served
    finally:
        if served.process and served.process.poll() is None:
            served.stop()


def submit(served: Mortal, script: str, *more: object) -> str:
    """Hand a job in. The command itself is not to die at the server's failpoint."""
    served.failpoint = ""
    submitted = served.run("submit", script, "in/in.txt", "-o", "out", *more)
    assert submitted.returncode == 0, submitted.stderr
    return submitted.stdout.strip()


@pytest.mark.soak
@pytest.mark.parametrize("served", ["abort.begun"], indirect=True)
def test_a_cancelled_job_stays_cancelled_when_the_server_dies_before_it_is_over(
    served: Mortal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gristmill.api.client.FIRST_PATIENCE_SECONDS", 0.1)
    job = submit(served, "slow.py", "--set", f"go={tmp_path}/go")
    client = connect(served.url, None, served.data_dir)
    with contextlib.suppress(ServerUnreachable):  # the server dies a moment before it answers, or after that
        client.post(f"/jobs/{job}/cancel")
    served.wait_for_death()
    (tmp_path / "go").touch()
    served.restart()
    waited = served.run("wait", job)
    assert waited.returncode == 1 and "Cancelled." in waited.stderr
    assert served.summary(job)["state"] == "cancelled"
    assert not (tmp_path / "out").exists()
    assert list(tmp_path.glob(".out*")) == [], "no staging folder"


@pytest.mark.parametrize(
    "served", ["commit.published", pytest.param("commit.cleaned", marks=pytest.mark.soak)], indirect=True
)
def test_a_result_that_replaced_a_published_one_is_not_replaced_in_turn(served: Mortal, tmp_path: Path) -> None:
    (tmp_path / "old.txt").write_text("old\n")
    assert served.run("run", "count.py", "old.txt", "-o", "out", "--on", "inline").returncode == 0
    job = submit(served, "count.py", "--overwrite")
    served.wait_for_death()
    assert output(tmp_path / "out") == "A\t2\nB\t1\n"
    (tmp_path / "later.txt").write_text("later\n")
    later = served.run("run", "count.py", "later.txt", "-o", "out", "--overwrite", "--on", "inline")
    assert later.returncode == 0, later.stderr
    served.restart()
    waited = served.run("wait", job)
    assert waited.returncode == 1 and "something else was put there" in waited.stderr
    assert output(tmp_path / "out") == "LATER\t1\n"
    assert list(tmp_path.glob(".out*")) == []


COMMIT_POINTS = [
    point if point in ("commit.parts-named", "commit.published") else pytest.param(point, marks=pytest.mark.soak)
    for point in FAIL_POINTS
    if point.startswith("commit")
]


@pytest.mark.parametrize("served", COMMIT_POINTS, indirect=True)
def test_a_commit_that_was_cut_short_is_completed_or_found_to_be_done(served: Mortal, tmp_path: Path) -> None:
    job = submit(served, "count.py")
    served.wait_for_death()
    served.restart()
    assert served.run("wait", job).returncode == 0
    assert output(tmp_path / "out") == "A\t2\nB\t1\n"
    assert (tmp_path / "out" / "_SUCCESS").exists()
    assert list(tmp_path.glob(".out*")) == []


@pytest.mark.soak
@pytest.mark.parametrize("served", [""], indirect=True)
def test_a_job_waits_for_storage_that_is_mounted_after_the_server_starts(served: Mortal, tmp_path: Path) -> None:
    job = submit(served, "slow.py", "--set", f"go={tmp_path}/go")
    assert served.process is not None
    served.process.kill()
    served.process.wait(PATIENCE)
    (tmp_path / "in").rename(tmp_path / "unmounted")
    served.restart()
    client = connect(served.url, None, served.data_dir)

    def note() -> str:
        return str(client.get(f"/jobs/{job}")["view"]["note"])

    wait_until(note)
    assert note() == f"Waiting for its input {tmp_path}/in/in.txt (No such file or directory)."
    assert served.summary(job)["state"] == "running"
    (tmp_path / "unmounted").rename(tmp_path / "in")
    (tmp_path / "go").touch()
    assert served.run("wait", job).returncode == 0
    assert output(tmp_path / "out").endswith("in.txt\t1\n")


@pytest.mark.soak
@pytest.mark.parametrize("served", [""], indirect=True)
def test_a_wait_that_begins_while_the_server_is_away_waits_for_it(
    served: Mortal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("gristmill.api.client.FIRST_PATIENCE_SECONDS", 0.1)
    monkeypatch.delenv("GRISTMILL_TOKEN", raising=False)
    job = submit(served, "slow.py", "--set", f"go={tmp_path}/go")
    served.stop()
    where = ["--server", served.url, "--token-file", str(served.data_dir / "token")]
    assert main(["status", job, *where]) == 75, "a question wants an answer now"
    assert "No server answers" in capsys.readouterr().err
    codes: list[int] = []
    waiting = threading.Thread(target=lambda: codes.append(main(["wait", job, *where])))
    waiting.start()
    said = ""

    def announced() -> bool:
        nonlocal said
        said += capsys.readouterr().err
        return "is waited for, up to 10 minutes" in said

    wait_until(announced)
    (tmp_path / "go").touch()
    served.restart()
    waiting.join(PATIENCE)
    assert codes == [0]
    assert (tmp_path / "out" / "_SUCCESS").exists()
