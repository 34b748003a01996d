"""Whole jobs through the Python API, inline and on local executors."""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from gristmill import (
    InputMissing,
    JobCancelled,
    JobFailed,
    JobResult,
    MapReduce,
    OutputExists,
    Step,
    UnpicklableCode,
    UsageError,
)
from gristmill.api.job import run_job
from gristmill.api.loading import load_job
from gristmill.config import JobOptions
from gristmill.errors import GristmillError
from gristmill.runtime.views import JobView
from gristmill.scheduling.commands import JobState

TEXT = "to be or not to be\nthat is the question\n\nto be\n"
WORDS = Counter(TEXT.split())

Pairs = Iterator[tuple[Any, Any]]


class WordCount(MapReduce):
    def mapper(self, key: Any, line: str) -> Pairs:
        self.counter("lines", "all")
        for word in line.split():
            yield word, 1

    def combiner(self, word: str, counts: Iterator[int]) -> Pairs:
        yield word, sum(counts)

    def reducer(self, word: str, counts: Iterator[int]) -> Pairs:
        self.counter("words", "distinct")
        yield word, sum(counts)


class Longest(MapReduce):
    """Two steps: count the words, then the commonest of each length."""

    def steps(self) -> list[Step]:
        return [
            self.step(mapper=self.words, combiner=self.total, reducer=self.total),
            self.step(mapper=self.by_length, reducer=self.best),
        ]

    def words(self, key: Any, line: str) -> Pairs:
        for word in line.split():
            yield word, 1

    def total(self, word: str, counts: Iterator[int]) -> Pairs:
        yield word, sum(counts)

    def by_length(self, word: str, count: int) -> Pairs:
        yield len(word), (count, word)

    def best(self, length: int, found: Iterator[tuple[int, str]]) -> Pairs:
        yield length, max(found)[1]


class Grep(MapReduce):
    params = {"pattern": "be"}  # noqa: RUF012

    def mapper_init(self) -> None:
        self.found = 0

    def mapper(self, key: Any, line: str) -> Pairs:
        if self.params["pattern"] in line:
            self.found += 1
            yield None, line

    def mapper_final(self) -> None:
        self.counter("grep", "found", self.found)


class Failing(MapReduce):
    def mapper(self, key: Any, line: str) -> Pairs:
        yield int(line), 1


class Slow(MapReduce):
    def mapper(self, key: Any, line: str) -> Pairs:
        import time

        time.sleep(30)
        yield line, 1


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "in" / "text.txt"
    path.parent.mkdir()
    path.write_text(TEXT)
    return path


@pytest.fixture(autouse=True)
def data_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "data"
    monkeypatch.setenv("GRISTMILL_DATA_DIR", str(path))
    return path


def job_folders(data_dir: Path) -> list[Path]:
    return sorted((data_dir / "jobs").iterdir()) if (data_dir / "jobs").exists() else []


@pytest.mark.parametrize("options", [{"on": "inline"}, {"on": "local", "executors": 2}], ids=["inline", "local"])
def test_word_count(text: Path, tmp_path: Path, data_dir: Path, options: Any) -> None:
    views: list[JobView] = []
    output = tmp_path / "out"
    result = WordCount.run(text, output, reducers=3, split_size=16, progress=views.append, **options)

    assert dict(result) == {word: str(count) for word, count in WORDS.items()}  # text gives strings
    assert dict(result) == dict(result)
    assert result.counters == {"lines": {"all": 4}, "words": {"distinct": len(WORDS)}}
    assert (result.state, result.output) == ("succeeded", output)
    assert {path.name for path in output.iterdir()} == {"_SUCCESS", *(f"part-r-0000{n}" for n in range(3))}
    assert job_folders(data_dir) == []
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []

    summary = result.summary()
    assert summary["job_id"] == result.job_id
    assert (summary["reduce_tasks"], summary["records_in"], summary["records_out"]) == (3, 4, len(WORDS))
    assert (summary["state"], summary["output"], summary["failed_attempts"]) == ("succeeded", str(output), 0)
    assert summary["attempts"] == summary["map_tasks"] + 3
    assert summary["shuffle_bytes"] > 0
    assert json.loads((output / "_SUCCESS").read_text())
    assert views[-1] == result.view
    assert views[-1].state is JobState.SUCCEEDED


@pytest.mark.parametrize("on", ["inline", "local"])
def test_without_output_the_very_values_come_back(text: Path, data_dir: Path, on: str) -> None:
    with WordCount.run([text], on=on, executors=2, reducers=2) as result:
        assert dict(result) == WORDS
        assert result.output is None
        assert result.summary()["output"] is None
        assert len(job_folders(data_dir)) == 1
    assert job_folders(data_dir) == []
    with pytest.raises(GristmillError, match="was closed"):
        list(result)


def test_a_result_goes_with_its_object(text: Path, data_dir: Path) -> None:
    first = next(iter(WordCount.run(text, on="inline")))
    assert first in WORDS.items()
    gc.collect()
    assert job_folders(data_dir) == []


def test_two_steps(text: Path) -> None:
    result = Longest.run(text, on="inline", reducers=2, split_size=8)
    assert dict(result) == {2: "to", 3: "the", 4: "that", 8: "question"} | {3: max("not", "the")}
    assert result.summary()["reduce_tasks"] == 4


def test_map_only(text: Path, tmp_path: Path) -> None:
    result = Grep.run(str(text.parent), tmp_path / "out", on="inline", split_size=16, params={"pattern": "to"})
    lines = [line for line in TEXT.splitlines() if "to" in line]
    assert [value for _, value in result] == lines
    assert result.counters["grep"]["found"] == len(lines)
    assert all(path.name.startswith(("part-m-", "_SUCCESS")) for path in (tmp_path / "out").iterdir())
    assert result.summary()["reduce_tasks"] == 0


def test_to_arrow(text: Path) -> None:
    table = WordCount.run(text, on="inline", reducers=3).to_arrow()
    assert table.column_names == ["key", "value"]
    assert dict(zip(table["key"].to_pylist(), table["value"].to_pylist(), strict=True)) == WORDS


def test_to_arrow_of_nothing(tmp_path: Path) -> None:
    (tmp_path / "empty.txt").write_text("")
    assert list(Grep.run(tmp_path / "empty.txt", tmp_path / "none", on="inline")) == []
    assert [path.name for path in (tmp_path / "none").iterdir()] == ["_SUCCESS"]
    result = WordCount.run(tmp_path / "empty.txt", on="inline")
    assert list(result) == []
    assert result.to_arrow().num_rows == 0


def test_no_combiner_same_result(text: Path, tmp_path: Path) -> None:
    WordCount.run(text, tmp_path / "with", on="inline", reducers=2)
    WordCount.run(text, tmp_path / "without", on="inline", reducers=2, combiner=False)
    for part in ("part-r-00000", "part-r-00001"):
        assert (tmp_path / "with" / part).read_bytes() == (tmp_path / "without" / part).read_bytes()


def test_formats_by_suffix_and_by_class(text: Path, tmp_path: Path) -> None:
    class Json(WordCount):
        output_format = "jsonl"
        reducers = 1

    result = Json.run(text, tmp_path / "out", on="inline")
    assert [path.name for path in (tmp_path / "out").glob("part*")] == ["part-r-00000.jsonl"]
    assert dict(result) == WORDS
    result = WordCount.run(text, tmp_path / "out.parquet", on="inline", reducers=1)
    assert dict(result) == WORDS


@pytest.mark.parametrize("on", ["inline", "local"])
def test_a_job_that_fails(on: str, text: Path, tmp_path: Path, data_dir: Path) -> None:
    with pytest.raises(JobFailed) as caught:
        Failing.run(text, tmp_path / "out", on=on, executors=1, max_attempts=2)
    report = caught.value.report
    assert report is not None
    assert (report.exception, report.function, report.details["attempts"]) == ("ValueError", "mapper", 2)
    assert report.frames[-1].file == __file__
    assert report.frames[-1].source == "yield int(line), 1"
    assert (report.source, report.offset) == (str(text), 0)
    assert str(caught.value).splitlines()[1].startswith(__file__)
    assert not (tmp_path / "out").exists()
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []
    [folder] = job_folders(data_dir)
    assert caught.value.job_folder == str(folder)
    assert json.loads((folder / "job.json").read_text())["state"] == "failed"


def test_cancel(text: Path, tmp_path: Path, data_dir: Path) -> None:
    with Slow.start(text, tmp_path / "out", executors=1) as handle:
        with pytest.raises(TimeoutError):
            handle.wait(0.01)
        while not handle.view().stages[0].running:
            with pytest.raises(TimeoutError):
                handle.wait(0.05)
        handle.cancel()
        with pytest.raises(JobCancelled, match="cancelled; no output was written"):
            handle.wait(60)
    assert handle.view().state is JobState.CANCELLED
    assert not (tmp_path / "out").exists()
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []
    [folder] = job_folders(data_dir)
    assert json.loads((folder / "job.json").read_text())["state"] == "cancelled"


def test_leaving_a_handle_cancels(text: Path, data_dir: Path) -> None:
    with Slow.start(text, executors=1) as handle:
        assert handle.view().state is JobState.RUNNING
        assert "running" in repr(handle)
    assert handle.view().state is JobState.CANCELLED
    [folder] = job_folders(data_dir)
    assert json.loads((folder / "job.json").read_text())["state"] == "cancelled"


def test_start_and_wait(text: Path) -> None:
    with WordCount.start(text, executors=1) as handle:
        result = handle.wait(60)
        assert isinstance(result, JobResult)
        assert handle.wait() is result
        assert handle.job_id == result.job_id


def test_wrong_use_leaves_nothing(text: Path, tmp_path: Path, data_dir: Path) -> None:
    with pytest.raises(InputMissing):
        WordCount.run(tmp_path / "nothing", tmp_path / "out", on="inline")
    for wrong in ({"executors": "2"}, {"reducers": True}, {"split_size": 1.5}, {"params": "x"}, {"overwrite": "no"}):
        with pytest.raises(UsageError, match=f"The option {next(iter(wrong))} cannot be"):
            WordCount.run(text, tmp_path / "out", **wrong)  # type: ignore[arg-type]
    with pytest.raises(InputMissing, match="Standard input"):
        WordCount.run("-", tmp_path / "out", on="inline")
    with pytest.raises(UsageError, match="There is no input"):
        WordCount.run([], tmp_path / "out", on="inline")
    (tmp_path / "there").mkdir()
    with pytest.raises(OutputExists):
        WordCount.run(text, tmp_path / "there", on="inline")
    lock = __import__("threading").Lock()

    class Locked(MapReduce):
        def mapper(self, key: Any, value: Any) -> Pairs:
            with lock:
                yield key, value

    with pytest.raises(UnpicklableCode, match="'lock'"):
        Locked.run(text, tmp_path / "out", executors=1)
    assert not (tmp_path / "out").exists()
    assert job_folders(data_dir) == []


def test_overwrite(text: Path, tmp_path: Path) -> None:
    for _ in range(2):
        WordCount.run(text, tmp_path / "out", on="inline", overwrite=True, reducers=1)
    assert len(list((tmp_path / "out").glob("part-*"))) == 1


def test_a_script_with_a_helper_runs_on_executors(text: Path, tmp_path: Path) -> None:
    (tmp_path / "api_run_helper.py").write_text("def words(line):\n    return line.split()\n")
    source = """
        from collections import Counter
        from gristmill import MapReduce, count
        from api_run_helper import words

        def one(word):
            return word, 1

        def mapper(key, line):
            count("lines", "all")
            return map(one, words(line))

        def reducer(word, ones):
            yield word, sum(ones)

        def partitioner(word, partitions):
            return len(word) % partitions
        """
    script = tmp_path / "script.py"
    script.write_text(dedent(source))
    job = load_job(str(script))
    result = run_job(job, str(text), tmp_path / "out", JobOptions(executors=1, reducers=2))
    assert dict(result) == {word: str(n) for word, n in WORDS.items()}
    assert result.counters == {"lines": {"all": 4}}
    even = (tmp_path / "out" / "part-r-00000").read_text().split()[::2]
    assert all(len(word) % 2 == 0 for word in even)


@pytest.mark.parametrize("guard", ["if __name__ == '__main__':\n    ", ""], ids=["guarded", "bare"])
def test_a_script_run_by_python(guard: str, text: Path, tmp_path: Path) -> None:
    source = (
        "from gristmill import MapReduce\n"
        "class Upper(MapReduce):\n"
        "    def mapper(self, key, line):\n"
        "        yield line.upper(), None\n"
        f"{guard}Upper.main()\n"
    )
    script = tmp_path / "upper.py"
    script.write_text(source)
    command = [sys.executable, str(script), str(text), "-o", str(tmp_path / "out"), "--executors", "1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / "part-m-00000").read_text() == TEXT.upper()


def test_each_task_has_an_instance_of_its_own(tmp_path: Path) -> None:
    class Buffered(MapReduce):
        def __init__(self) -> None:
            self.lines: list[str] = []

        def mapper(self, key: Any, line: str) -> None:
            self.lines.append(line)

        def mapper_final(self) -> Pairs:
            for line in self.lines:
                yield None, line

    (tmp_path / "in.txt").write_text("a\nb\nc\nd\n")
    for on in ("inline", "local"):
        result = Buffered.run(tmp_path / "in.txt", on=on, executors=1, split_size=2)
        assert [value for _, value in result] == ["a", "b", "c", "d"]


def test_values_of_the_scripts_own_classes(tmp_path: Path) -> None:
    source = """
        from dataclasses import dataclass
        from enum import Enum

        class Colour(Enum):
            RED = 1

        @dataclass(frozen=True)
        class Point:
            x: int

        def mapper(key, line):
            yield Colour.RED, Point(int(line))

        def reducer(colour, points):
            yield colour, sum(point.x for point in points)
        """
    script = tmp_path / "classes.py"
    script.write_text(dedent(source))
    (tmp_path / "in.txt").write_text("1\n2\n3\n")
    result = run_job(load_job(str(script)), tmp_path / "in.txt", None, JobOptions(executors=1))
    assert [(key.name, value) for key, value in result] == [("RED", 6)]


def test_a_class_of_the_script_does_not_travel_with_each_of_its_values(tmp_path: Path) -> None:
    source = """
        from dataclasses import dataclass
        from threading import Lock

        @dataclass(frozen=True)
        class Point:
            x: int

        class Unused:
            lock = {lock}

        def mapper(key, line):
            yield Point(int(line) % 2), Point(int(line))

        def reducer(point, points):
            yield point, sum(each.x for each in points)
        """
    (tmp_path / "in.txt").write_text("".join(f"{n}\n" for n in range(300)))
    sizes = []
    for name, lock in (("plain", "None"), ("locked", "Lock()")):  # a class that cannot travel spares only its own
        script = tmp_path / f"{name}.py"
        script.write_text(dedent(source.replace("{lock}", lock)))
        result = run_job(load_job(str(script)), tmp_path / "in.txt", None, JobOptions(executors=1))
        assert [(key.x, value) for key, value in result] == [(0, 22350), (1, 22500)]
        sizes.append(result.summary()["shuffle_bytes"])
    assert sizes[0] < 100 * 300
    assert sizes[1] < 100 * 300


def test_what_cannot_travel_is_made_in_init(tmp_path: Path) -> None:
    source = """
        import threading
        from gristmill import MapReduce

        class OfClass(MapReduce):
            def mapper_init(self):
                self.lock = threading.Lock()

            def mapper(self, key, line):
                with self.lock:
                    yield line, 1

        lock = None

        def mapper_init():
            global lock
            lock = threading.Lock()

        def mapper(key, line):
            with lock:
                yield line, 1
        """
    script = tmp_path / "locks.py"
    script.write_text(dedent(source))
    functions = tmp_path / "functions.py"
    functions.write_text(dedent(source.replace("MapReduce):", "Exception):")))
    (tmp_path / "in.txt").write_text("a\n")
    for path in (script, functions):
        assert list(run_job(load_job(str(path)), tmp_path / "in.txt", None, JobOptions(on="inline"))) == [("a", 1)]


def test_outputs_elsewhere_are_refused(text: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="The output nowhere://bucket/out cannot be written"):
        WordCount.run(text, "nowhere://bucket/out", on="inline")
    with pytest.raises(UsageError, match="names no path"):
        WordCount.run(text, "file://host", on="inline")


def test_an_output_may_be_a_uri(text: Path, tmp_path: Path) -> None:
    for uri, path in (
        ((tmp_path / "an output").as_uri(), tmp_path / "an output"),
        (f"file://host{tmp_path}/out", tmp_path / "out"),  # as in inputs: all see the path, whoever is near it
    ):
        assert WordCount.run(text, uri, on="inline").output == path
        assert (path / "_SUCCESS").exists()


def test_a_fork_of_the_caller_does_not_end_the_job(text: Path, data_dir: Path) -> None:
    if not hasattr(os, "fork"):
        pytest.skip("no fork here")
    script = (
        "import os, sys; sys.path.insert(0, sys.argv[1]); from test_api_run import WordCount\n"
        "result = WordCount.run(sys.argv[2], on='inline')\n"
        "if os.fork() == 0: sys.exit(0)\n"
        "os.wait(); print(len(dict(result)))"
    )
    command = [sys.executable, "-c", script, str(Path(__file__).parent), str(text)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == str(len(WORDS)), done.stderr
    assert job_folders(data_dir) == []


def test_progress_on_something_that_is_no_terminal(text: Path, capfd: pytest.CaptureFixture[str]) -> None:
    WordCount.run(text, on="inline", progress=True)
    assert capfd.readouterr().out == ""


def test_a_parameter_that_was_not_given_is_named_with_how_to_give_it(text: Path, tmp_path: Path) -> None:
    class Needy(MapReduce):
        def mapper(self, _: Any, line: str) -> Any:
            yield self.params["limit"], line

    with pytest.raises(JobFailed, match=r"KeyError: the job has no parameter 'limit'; give it with --set limit=VALUE"):
        Needy.run(text, on="inline", data_dir=tmp_path / "data", max_attempts=1)
