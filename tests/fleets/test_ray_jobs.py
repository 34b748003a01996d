"""What jobs do on Ray besides giving the right bytes: their code travels, their words are kept, they fail and go on."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from zlib import crc32

import psutil
import pytest
from ray_kit import RayCluster, ray_marks

from gristmill import JobCancelled, JobFailed, MapReduce, Session, broadcast
from gristmill.runtime.views import JobView

pytestmark = ray_marks

HELPER = "def cleaned(word):\n    return word.strip('.')\n"
PACKAGE = "def doubled(number):\n    return number * 2\n"
SCRIPT = """
import sys
from gristmill import MapReduce
import helper
import sent
from below import inner

class Count(MapReduce):
    def mapper(self, key, line):
        for word in line.split():
            yield sent.lower(helper.cleaned(word)), inner.doubled(1)
        for name in ("helper", "below.inner", "sent"):
            yield "module " + sys.modules[name].__file__, 1
        for folder in sys.path:
            yield f"path {folder}", 1

    def reducer(self, word, counts):
        yield word, sum(counts)

if __name__ == "__main__":
    Count.main()
"""


def call(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """``gristmill`` with these arguments, in a folder; it finds the cluster."""
    environment = {**os.environ, "NO_COLOR": "1", "GRISTMILL_DATA_DIR": str(folder / "data")}
    return subprocess.run(
        [sys.executable, "-m", "gristmill.cli.main", *arguments],
        cwd=folder, env=environment, capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip


def test_the_modules_of_a_script_come_from_its_bundle(on_ray: RayCluster, tmp_path: Path) -> None:
    """Those beside it that it imports, and those that ``--py-files`` names."""
    project = tmp_path / "project"
    (project / "below").mkdir(parents=True)
    (project / "below" / "__init__.py").touch()
    (project / "below" / "inner.py").write_text(PACKAGE)
    (project / "helper.py").write_text(HELPER)
    (project / "count.py").write_text(SCRIPT)
    with zipfile.ZipFile(tmp_path / "sent.zip", "w") as archive:
        archive.writestr("sent.py", "def lower(word):\n    return word.lower()\n")
    (tmp_path / "in.txt").write_text("A. b a\n")
    options = ["-o", "../out", "--on", "ray", "--executors", "1", "--reducers", "1", "--py-files", "../sent.zip"]
    ran = call(project, "run", "count.py", "../in.txt", *options)
    assert (ran.returncode, ran.stdout) == (0, ""), ran.stderr
    rows = dict(line.split("\t") for line in (tmp_path / "out" / "part-r-00000").read_text().splitlines())
    assert (rows["a"], rows["b"]) == ("4", "2")
    modules = [key.removeprefix("module ") for key in rows if key.startswith("module ")]
    assert len(modules) == 3
    assert all(Path(module).is_relative_to(on_ray.folder / "nodes") for module in modules)
    assert f"path {project}" not in rows


class Talking(MapReduce):
    """Prints, counts, and fails at the word ``bad``."""

    def mapper(self, _: Any, line: str) -> Iterator[tuple[str, int]]:
        print(f"reading {line!r}")
        self.counter("words", "seen")
        if line == "bad":
            raise ValueError("a bad word")
        yield line, 1

    def reducer(self, word: str, counts: Iterator[int]) -> Iterator[tuple[str, int]]:
        yield word, sum(counts)


def written_to(folder: Path) -> dict[str, bytes]:
    """All that a job wrote, but for what says when and where that was."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != "_SUCCESS"]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.mark.soak
def test_bad_records_counters_and_progress_are_those_of_inline(on_ray: RayCluster, tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_text("".join(f"{'bad' if n % 7 == 3 else f'w{n % 5}'}\n" for n in range(60)))
    found = []
    for on in ("inline", "ray"):
        views: list[JobView] = []
        result = Talking.run(
            tmp_path / "in.txt", tmp_path / on, on=on, split_size=40, reducers=3, max_bad_records=10,
            data_dir=tmp_path / "data", progress=views.append,
        )  # fmt: skip
        stages = [(stage.name, stage.tasks, stage.done, stage.running) for stage in views[-1].stages]
        assert all(tasks == done and not running for _, tasks, done, running in stages)
        found.append((result.counters, written_to(tmp_path / on), stages))
    assert found[0] == found[1]
    assert any("_bad_records" in name for name in found[1][1])


@pytest.mark.soak
def test_a_failure_is_told_as_elsewhere_and_what_was_printed_is_kept(on_ray: RayCluster, tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_text("good\nbad\n")
    told = []
    for on in ("local", "ray"):
        with pytest.raises(JobFailed) as caught:
            Talking.run(tmp_path / "in.txt", tmp_path / "out", on=on, max_attempts=2, data_dir=tmp_path / on)
        error = caught.value
        [folder] = (tmp_path / on / "jobs").iterdir()
        told.append(str(error).replace(folder.name, "JOB").replace(str(tmp_path / on), "DATA"))
        logs = [path.read_text() for path in (folder / "logs").rglob("*") if path.is_file()]
        assert len([log for log in logs if "reading 'good'\nreading 'bad'\n" in log]) == 2, logs
        assert not (tmp_path / "out").exists()
    assert told[0] == told[1]


class Waiting(MapReduce):
    """Begins, and does not end."""

    def mapper(self, _: Any, line: str) -> Iterator[tuple[str, int]]:
        Path(self.params["folder"], f"{os.getpid()}").touch()
        time.sleep(600)
        yield line, 1


@pytest.mark.soak
def test_who_cancels_ends_what_runs(on_ray: RayCluster, tmp_path: Path) -> None:
    marks = tmp_path / "marks"
    marks.mkdir()
    (tmp_path / "in.txt").write_text("a\n")
    views: list[str] = []
    with Waiting.start(
        tmp_path / "in.txt", tmp_path / "out", on="ray", params={"folder": str(marks)}, executors=1,
        data_dir=tmp_path / "data", progress=lambda view: views.append(view.state.value),
    ) as handle:  # fmt: skip
        deadline = time.monotonic() + 60
        while not list(marks.iterdir()):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        [process] = [psutil.Process(int(path.name)) for path in marks.iterdir()]
        handle.cancel()
        with pytest.raises(JobCancelled):
            handle.wait(60)
    process.wait(30)
    assert not (tmp_path / "out").exists()
    assert views[-1] == "cancelled" and "running" in views


FAILING = """
from pathlib import Path
from gristmill import MapReduce

class Sum(MapReduce):
    def mapper(self, key, line):
        Path(self.params["marks"], f"map-{line}").open("a").write("x")
        yield int(line) % 4, int(line)

    def reducer(self, key, values):
        total = sum(values)
        if key == 3 and not Path(self.params["marks"], "fixed").exists():
            total = total / (key - 3)
        yield key, total
"""


@pytest.mark.soak
def test_a_task_is_replayed_and_the_run_is_taken_up(on_ray: RayCluster, tmp_path: Path) -> None:
    marks = tmp_path / "marks"
    marks.mkdir()
    (tmp_path / "sum.py").write_text(FAILING)
    (tmp_path / "in.txt").write_text("".join(f"{number:03}\n" for number in range(40)))
    command = ["run", "sum.py", "in.txt", "-o", "out", "--on", "ray", "--reducers", "4", "--max-attempts", "1"]
    command += ["--split-size", "20", "--set", f"marks={marks}"]
    failed = call(tmp_path, *command)
    assert failed.returncode == 1
    assert "ZeroDivisionError: division by zero" in failed.stderr and "total = total / (key - 3)" in failed.stderr
    found = re.search(r"gristmill (replay \S+ \S+)", " ".join(failed.stderr.split()))
    assert found, failed.stderr
    again = call(tmp_path, *found[1].split())
    assert again.returncode == 1 and "total = total / (key - 3)" in again.stderr, again.stderr
    (marks / "fixed").touch()
    assert "1" in call(tmp_path, *found[1].split()).stdout
    resumed = call(tmp_path, *command, "--resume")
    assert resumed.returncode == 0, resumed.stderr
    here = call(tmp_path, *[{"out": "inline", "ray": "inline"}.get(word, word) for word in command])
    assert here.returncode == 0, here.stderr
    assert written_to(tmp_path / "out") == written_to(tmp_path / "inline")


@pytest.mark.soak
def test_results_that_nobody_has_read_are_made_again(on_ray: RayCluster, tmp_path: Path) -> None:
    """The member that keeps them is killed; reading goes on where it was."""
    numbers = list(range(4000))
    with Session(on="ray", data_dir=tmp_path, executors=2) as session:
        made = session.from_items(numbers, partitions=400).map(lambda number: (number, "x" * 2000))
        read = made.iterate()
        first = [next(read) for _ in range(5)]
        members = [
            p for p in on_ray.processes() if p.status() != "zombie" and "GristmillMember" in " ".join(p.cmdline())
        ]
        assert len(members) == 2
        for member in members:
            member.kill()
        assert [key for key, _ in (*first, *read)] == numbers


@pytest.mark.soak
def test_a_large_value_is_broadcast_to_all_nodes(on_ray: RayCluster, tmp_path: Path) -> None:
    """It goes through Ray's store, as what is larger than a call's arguments may be."""
    value = os.urandom(20 << 20)
    with Session(on="ray", data_dir=tmp_path, executors=2) as session:
        shared = broadcast(value)
        found = session.range(8, partitions=8).map(lambda _: (crc32(shared.value), len(shared.value))).collect()
    assert found == [(crc32(value), len(value))] * 8


@pytest.mark.soak
def test_a_session_is_used_by_several_threads(on_ray: RayCluster, tmp_path: Path) -> None:
    with Session(on="ray", data_dir=tmp_path, executors=2) as session:
        kept = session.range(2000, partitions=10).map(lambda number: number * 2).cache()
        sums: list[int] = []
        threads = [threading.Thread(target=lambda: sums.append(sum(kept.collect()))) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(100)
        assert sums == [2000 * 1999] * 4
