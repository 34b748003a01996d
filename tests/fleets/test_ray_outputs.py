"""Outputs that only the driver sees: nodes keep what they write of them, and the driver brings it where it belongs.

Nodes of the tests are on this machine, and see all of it. But ``/proc/self/cwd`` is another folder for each process.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from ray_kit import RayCluster, ray_marks

from gristmill import JobFailed, MapReduce
from gristmill.errors import PathNotShared

pytestmark = ray_marks

HERE = Path("/proc/self/cwd")
PATIENCE = 60.0


class Count(MapReduce):
    """Counts words; ``bad`` is no word."""

    def mapper(self, _: Any, line: str) -> Iterator[tuple[str, int]]:
        for word in line.split():
            if word == "bad":
                raise ValueError("a bad word")
            yield word, 1

    def reducer(self, word: str, counts: Iterator[int]) -> Iterator[tuple[str, int]]:
        yield word, sum(counts)


def written_to(folder: Path) -> dict[str, bytes]:
    """All that a job wrote, but for what says when and where that was."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != "_SUCCESS"]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


SCRIPT = "from test_ray_outputs import Count\n\nclass Here(Count):\n    pass\n"


@pytest.fixture
def words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file of words; the current folder is the test's own."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "in.txt"
    path.write_text("".join(f"w{number % 17} w{number % 5}\n" for number in range(400)))
    return path


def test_a_result_without_a_place_is_brought(on_ray: RayCluster, words: Path) -> None:
    options: dict[str, Any] = {"split_size": 500, "reducers": 3, "data_dir": HERE / "data"}
    with Count.run(words, on="inline", **options) as here, Count.run(words, on="ray", executors=2, **options) as there:
        assert list(there) == list(here)
    assert not list((words.parent / "data" / "jobs").iterdir())


@pytest.mark.soak
def test_bad_records_are_brought_as_well(on_ray: RayCluster, words: Path) -> None:
    words.write_text("bad\n" + words.read_text() + "w1 bad\n")
    options: dict[str, Any] = {"split_size": 500, "reducers": 3, "data_dir": HERE / "data", "max_bad_records": 5}
    Count.run(words, words.parent / "here", on="inline", **options)
    Count.run(words, HERE / "there", on="ray", executors=2, **options)
    assert written_to(words.parent / "there") == written_to(words.parent / "here")
    assert len([name for name in written_to(words.parent / "there") if name.startswith("_bad_records/")]) == 2


@pytest.mark.soak
def test_a_large_part_is_brought_in_turns(on_ray: RayCluster, words: Path) -> None:
    """One that is larger than a question may ask for at once."""
    words.write_text("".join(f"{number:08}{'x' * 990}\n" for number in range(80_000)))
    options: dict[str, Any] = {"reducers": 2, "split_size": "100MiB", "data_dir": HERE / "data"}
    Count.run(words, words.parent / "here", on="inline", **options)
    Count.run(words, HERE / "there", on="ray", executors=2, **options)
    assert sorted(map(len, written_to(words.parent / "there").values()))[0] > 33 << 20
    assert written_to(words.parent / "there") == written_to(words.parent / "here")


@pytest.mark.soak
def test_without_a_place_through_ray_client(on_ray: RayCluster, words: Path) -> None:
    (words.parent / "count.py").write_text(f"import sys\nsys.path.insert(0, {str(Path(__file__).parent)!r})\n" + SCRIPT)
    printed = []
    for on in ("inline", on_ray.client):
        ran = subprocess.run(
            [sys.executable, "-m", "gristmill.cli.main", "run", "count.py", str(words), "--on", on, "--reducers", "3"],
            cwd=words.parent, env={**os.environ, "GRISTMILL_DATA_DIR": str(HERE / "data")},
            capture_output=True, timeout=300, check=False,
        )  # fmt: skip
        assert ran.returncode == 0, ran.stderr
        printed.append(ran.stdout)
    assert printed[0] == printed[1] and printed[0].count(b"\n") == 17


class Failing(Count):
    """Cannot add up ``w3`` until a file is there."""

    def reducer(self, word: str, counts: Iterator[int]) -> Iterator[tuple[str, int]]:
        with Path(self.params["notes"], word).open("a") as note:
            note.write("x")
        if word == "w3" and not Path(self.params["notes"], "mended").exists():
            raise ValueError("not yet")
        yield word, sum(counts)


@pytest.mark.soak
def test_what_was_brought_counts_when_the_run_is_taken_up(on_ray: RayCluster, words: Path) -> None:
    notes = words.parent / "notes"
    notes.mkdir()
    options: dict[str, Any] = {"reducers": 17, "data_dir": HERE / "data", "params": {"notes": str(notes)}}
    on = {"on": "ray", "executors": 1, "max_attempts": 1}
    with pytest.raises(JobFailed, match="not yet"):
        Failing.run(words, HERE / "there", **on, **options)
    assert not (words.parent / "there").exists()
    begun = {path.name for path in notes.iterdir()}
    (notes / "mended").touch()
    Failing.run(words, HERE / "there", resume=True, **on, **options)
    again = {path.name for path in notes.iterdir() if len(path.read_text()) > 1}
    assert "w3" in again and again < begun | {"w3"}
    Count.run(words, words.parent / "here", on="inline", reducers=17, data_dir=HERE / "data")
    assert written_to(words.parent / "there") == written_to(words.parent / "here")


class Waiting(Count):
    """Does not add up ``w3`` before a file is there."""

    def reducer(self, word: str, counts: Iterator[int]) -> Iterator[tuple[str, int]]:
        deadline = time.monotonic() + PATIENCE
        while word == "w3" and not Path(self.params["go"]).exists():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        yield word, sum(counts)


@pytest.mark.soak
def test_members_die_while_their_output_is_brought(on_ray: RayCluster, words: Path) -> None:
    words.write_text("".join(f"w{number}\n" for number in range(2000)))
    options: dict[str, Any] = {"reducers": 60, "data_dir": HERE / "data", "params": {"go": str(words.parent / "go")}}
    with Waiting.start(words, HERE / "there", on="ray", executors=2, **options) as handle:
        deadline = time.monotonic() + PATIENCE
        while not list(words.parent.glob(".there.gristmill-*/attempts/*part-r*")):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        for process in on_ray.processes():
            with contextlib.suppress(psutil.NoSuchProcess):  # those of jobs before are ending
                if "GristmillMember" in " ".join(process.cmdline()):
                    process.kill()
        (words.parent / "go").touch()
        handle.wait(5 * PATIENCE)
    Waiting.run(words, words.parent / "here", on="inline", **options)
    assert written_to(words.parent / "there") == written_to(words.parent / "here")


@pytest.mark.soak
def test_an_input_that_only_the_driver_sees_is_refused(on_ray: RayCluster, words: Path) -> None:
    with pytest.raises(PathNotShared, match=r"The node .* does not see .*in.txt cannot be read there.*put them where"):
        Count.run(HERE / "in.txt", on="ray", executors=1, data_dir=HERE / "data")
