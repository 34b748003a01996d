"""``gristmill replay``: a task of a job that failed, again, here."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import gristmill
from gristmill.cli.main import main
from gristmill.runtime.replay import find_task

SCRIPT = """
from pathlib import Path
from gristmill import MapReduce

class Sum(MapReduce):
    def mapper(self, key, line):
        print("mapping", line)
        yield int(line) % 4, int(line)

    def reducer(self, key, values):
        total = sum(values)
        if key == 3 and not Path(self.params["fixed"]).exists():
            total = total / (key - 3)
        yield key, total

if __name__ == "__main__":
    Sum.main()
"""


class Place:
    """A folder in which a job has failed in its reducer."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "sum.py").write_text(SCRIPT)
        (folder / "in.txt").write_text("".join(f"{number}\n" for number in range(40)))
        failed = self.call(
            "run", "sum.py", "in.txt", "--data-dir", "data", "--executors", "1", "--reducers", "3",
            "--max-attempts", "1", "--set", f"fixed={folder / 'fixed'}",
        )  # fmt: skip
        assert failed.returncode == 1, failed.stderr
        self.said = failed.stderr
        [self.job] = [path.name for path in (folder / "data" / "jobs").iterdir()]

    def call(self, *arguments: str, typed: str = "") -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "PYTHONPATH": str(Path(gristmill.__path__[0]).parent), "NO_COLOR": "1"}
        return subprocess.run(
            [sys.executable, "-m", "gristmill.cli.main", *arguments],
            cwd=self.folder, env=environment, capture_output=True, text=True, input=typed, timeout=60, check=False,
        )  # fmt: skip

    def replay(self, task: str, *more: str, typed: str = "", job: str = "") -> subprocess.CompletedProcess[str]:
        return self.call("replay", "--data-dir", "data", job or self.job, task, *more, typed=typed)

    def refused(self, task: str, job: str = "") -> int:
        """The exit code of a replay that comes to nothing, in this process: no code of the job runs."""
        return main(["replay", "--data-dir", str(self.folder / "data"), job or self.job, task])

    def failing(self) -> str:
        """The task that failed, as the job's failure names it."""
        assert f"gristmill replay --data-dir {self.folder / 'data'} {self.job} " in " ".join(self.said.split())
        return next(f"reduce/{index}" for index in range(3) if f"reduce/{index}" in self.said)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return Place(tmp_path_factory.mktemp("replay"))


def test_the_same_failure_again(place: Place) -> None:
    done = place.replay(place.failing())
    assert done.returncode == 1
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert lines[0] == f"Job {place.job}, reduce task {place.failing()[-1]}:"
    assert lines[1] == "sum.py:13, in reducer"
    assert lines[2:4] == ["    total = total / (key - 3)", "ZeroDivisionError: division by zero"]
    assert not (place.folder / "data" / "jobs" / place.job / "replay").exists()


def test_the_debugger_stops_where_it_raised(place: Place) -> None:
    done = place.replay(place.failing(), "--pdb", typed="p key, total\nq\n")
    assert done.returncode == 1
    assert "-> total = total / (key - 3)" in done.stdout
    assert "(3, 210)" in done.stdout
    assert done.stderr.count("ZeroDivisionError") == 1


def test_once_it_is_mended_it_says_so(place: Place) -> None:
    (place.folder / "fixed").touch()
    try:
        done = place.replay(place.failing())
    finally:
        (place.folder / "fixed").unlink()
    assert done.returncode == 0
    assert "3\t210" in done.stdout.splitlines()
    assert "It failed in the job, and not now: ZeroDivisionError" in done.stderr


@pytest.mark.parametrize("name", ["map/0", "0/0", "map task 0", "{job}-s0-t00000-a1", "{job}-s0-t00000-a7-e2.log"])
def test_names_of_a_task(place: Place, name: str) -> None:
    task = find_task(place.folder / "data", place.job[:17], name.format(job=place.job))
    assert (task.name, task.attempt.job, task.attempt.stage, task.attempt.index) == ("map task 0", place.job, 0, 0)


def test_a_map_task_runs_again(place: Place) -> None:
    done = place.replay(f"{place.job}-s0-t00000-a7-e2.log", job=place.job[:17])
    assert done.returncode == 0, done.stderr
    assert "map task 0" in done.stderr
    assert "40 records in, 40 out" in done.stderr
    assert "mapping 7" in done.stderr
    assert done.stdout.splitlines()[:3] == ["0\t0", "0\t4", "0\t8"]


@pytest.mark.parametrize("name", ["map/1", "reduce/3", "shuffle/0", "nonsense", "7/0"])
def test_a_task_that_is_not_there(place: Place, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert place.refused(name) == 2
    assert f"has no task {name!r}. It has: map/0, reduce/0 to reduce/2." in capsys.readouterr().err


def test_a_job_that_is_not_there(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    assert place.refused("map/0", job="19990101") == 2
    assert "There is no job 19990101 in " in capsys.readouterr().err


def test_a_beginning_that_two_jobs_share(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    twin = place.folder / "data" / "jobs" / f"{place.job[:-1]}_"
    shutil.copytree(place.folder / "data" / "jobs" / place.job, twin)
    try:
        assert place.refused("map/0", job=place.job[:-1]) == 2
    finally:
        shutil.rmtree(twin)
    assert f"Several jobs begin with {place.job[:-1]}: " in capsys.readouterr().err


def test_blocks_that_are_gone_are_made_again(place: Place) -> None:
    [block] = (place.folder / "data" / "jobs" / place.job / "blocks").glob("*.block")
    hidden = block.rename(block.with_suffix(".hidden"))
    try:
        done = place.replay(place.failing())
    finally:
        hidden.rename(block)
    assert done.returncode == 1
    lines = done.stderr.splitlines()
    assert lines[1] == "The block of a map task is gone: running that task again first."
    assert "mapping 39" in lines and "ZeroDivisionError: division by zero" in lines
    assert not (place.folder / "data" / "jobs" / place.job / "replay").exists()


TWO_STEPS = """
from gristmill import MapReduce

class Twice(MapReduce):
    def steps(self):
        return [self.step(mapper=self.first, reducer=self.total), self.step(mapper=self.second, reducer=self.fail)]

    def first(self, _, line):
        yield line, 1

    def total(self, word, counts):
        yield word, sum(counts)

    def second(self, word, count):
        yield "all", count

    def fail(self, key, counts):
        total = sum(counts)
        yield key, total // 0
"""


def test_two_stages_whose_blocks_are_gone(tmp_path: Path) -> None:
    (tmp_path / "twice.py").write_text(TWO_STEPS)
    (tmp_path / "in.txt").write_text("b\na\nb\n" * 20)
    place = object.__new__(Place)
    place.folder = tmp_path
    failed = place.call(
        "run", "twice.py", "in.txt", "--data-dir", "data", "--executors", "1", "--reducers", "2",
        "--max-attempts", "1", "--split-size", "40",
    )  # fmt: skip
    assert failed.returncode == 1 and "ZeroDivisionError" in failed.stderr, failed.stderr
    [folder] = (tmp_path / "data" / "jobs").iterdir()
    for block in (folder / "blocks").glob("*.block"):
        block.unlink()
    done = [place.call("replay", "--data-dir", "data", folder.name, f"2/{index}") for index in range(2)]
    assert sorted(each.returncode for each in done) == [0, 1]
    for each in done:
        assert each.stderr.count("again first.") == 2, each.stderr
        assert ("ZeroDivisionError" in each.stderr) == (each.returncode == 1)


def test_much_to_read_again_wants_a_yes(
    place: Place, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    [block] = (place.folder / "data" / "jobs" / place.job / "blocks").glob("*.block")
    hidden = block.rename(block.with_suffix(".hidden"))
    monkeypatch.setattr("gristmill.cli.replay._ASKED_BYTES", 10)
    called = ["replay", "--data-dir", str(place.folder / "data"), place.job, "reduce/0"]
    try:
        refused = main(called)
        task = find_task(place.folder / "data", place.job, "reduce/0")
    finally:
        hidden.rename(block)
    assert refused == 2
    assert "give --yes to go on" in capsys.readouterr().err
    assert task.missing_bytes == (place.folder / "in.txt").stat().st_size


def test_sets_are_walked_as_in_the_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYTHONHASHSEED", raising=False)
    (tmp_path / "sets.py").write_text("def mapper(key, line):\n    raise ValueError(list({*line}))\n")
    (tmp_path / "in.txt").write_text("abcdefghijklmnop\n")
    run = [sys.executable, "-m", "gristmill.cli.main"]

    def said(*arguments: str) -> str:
        done = subprocess.run(
            [*run, *arguments, "--data-dir", "data"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        return next(line for line in done.stderr.splitlines() if line.startswith("ValueError: ['"))

    first = said("run", "sets.py", "in.txt", "--executors", "1", "--max-attempts", "1")
    [job] = [path.name for path in (tmp_path / "data" / "jobs").iterdir()]
    assert said("replay", job, "map/0") == first
