"""A job that is interrupted at a chosen moment and taken up again, for tests of --resume."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import gristmill
from gristmill.runtime.journal.facts import TaskDone
from gristmill.runtime.journal.journal import JOURNAL, Journal

SCRIPT = """
import os, time
from pathlib import Path
from gristmill import MapReduce

class Count(MapReduce):
    def note(self, what):
        Path(self.params["marks"], f"{what}-{time.time_ns()}-{os.getpid()}").touch()

    def hold(self, what):
        while not Path(self.params["marks"], "gate").exists():
            Path(self.params["marks"], f"holding-{what}").touch()
            time.sleep(0.01)

    def mapper_init(self):
        self.note("map")

    def mapper(self, key, line):
        if line.strip() == "hold map":
            self.hold("map")
        if line.strip() == "fail":
            while not Path(self.params["marks"], "others-are-done").exists():
                time.sleep(0.01)
            assert Path(self.params["marks"], "gate").exists(), "the gate is shut"
        for word in line.split():
            yield word, 1

    def reducer_init(self):
        self.note("reduce")

    def reducer(self, word, ones):
        if word == "reducers":
            self.hold("reduce")
        yield word, sum(ones)

if __name__ == "__main__":
    Count.main()
"""
FILES = 36
WIDTH = 24  # of a line, so that each file is one split
REDUCERS = 4


class Scene:
    """A job of 36 map tasks and 4 reduce tasks, and its runs."""

    def __init__(self, folder: Path, last_line: str) -> None:
        self.folder = folder
        self.marks = folder / "marks"
        self.output = folder / "out"
        self.data = folder / "data"
        self.started: list[subprocess.Popen[str]] = []
        self.marks.mkdir()
        (folder / "in").mkdir()
        (folder / "count.py").write_text(SCRIPT)
        words: Counter[str] = Counter()
        for number in range(FILES):
            line = last_line if number == FILES - 1 else f"w{number} w{number % 5} all"
            (folder / "in" / f"{number:02d}.txt").write_text(f"{line:<{WIDTH}}\n")
            words.update(line.split())
        self.expected = dict(words)

    def start(self, *more: str, failpoint: str = "", output: bool = True) -> subprocess.Popen[str]:
        arguments = ["run", "count.py", "in", "--data-dir", "data", "--split-size", str(WIDTH + 1), "--executors", "2"]
        arguments += ["--reducers", str(REDUCERS), "--set", f"marks={self.marks}", "--max-attempts", "1"]
        arguments += ["-o", "out"] if output else []
        source = str(Path(gristmill.__path__[0]).parent)
        environment = {**os.environ, "PYTHONPATH": source, "GRISTMILL_FAILPOINT": failpoint}
        process = subprocess.Popen(
            [sys.executable, "-m", "gristmill.cli.main", *arguments, *more],
            cwd=self.folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.started.append(process)
        return process

    def run(self, *more: str, failpoint: str = "", output: bool = True, code: int = 0) -> tuple[str, str]:
        process = self.start(*more, failpoint=failpoint, output=output)
        out, said = process.communicate(timeout=60)
        assert process.returncode == code, said
        return out, said

    def until(self, there: Callable[[], bool], process: subprocess.Popen[str]) -> None:
        deadline = time.monotonic() + 60
        while not there():
            assert time.monotonic() < deadline, "it takes too long"
            assert process.poll() is None, process.communicate()
            time.sleep(0.01)

    def kill_when(self, there: Callable[[], bool], *more: str, output: bool = True) -> None:
        process = self.start(*more, output=output)
        self.until(there, process)
        process.kill()
        process.communicate(timeout=60)

    def kill_while_a_map_task_runs(self, output: bool = True) -> None:
        self.kill_when(
            lambda: self.ran("map") == FILES and self.holds("map") and self.noted() == FILES - 1, output=output
        )

    def kill_while_a_reduce_task_runs(self) -> None:
        self.kill_when(
            lambda: self.ran("reduce") == REDUCERS and self.holds("reduce") and self.noted() == FILES + REDUCERS - 1
        )

    def fail_when_all_others_are_done(self) -> str:
        """Run until the map task that fails is the only one left; what was said then."""
        process = self.start()
        self.until(lambda: self.noted() == FILES - 1, process)
        (self.marks / "others-are-done").touch()
        _, said = process.communicate(timeout=60)
        assert process.returncode == 1, said
        return said

    def holds(self, what: str) -> bool:
        return (self.marks / f"holding-{what}").exists()

    def ran(self, what: str) -> int:
        return len(list(self.marks.glob(f"{what}-*")))

    def open_the_gate(self) -> int:
        """Let every task through from now on; the number of tasks that have begun."""
        (self.marks / "gate").touch()
        return self.ran("map") + self.ran("reduce")

    def noted(self) -> int:
        """How many tasks are done, as the journals say."""
        facts = [fact for path in self.data.glob(f"jobs/*/{JOURNAL}") for fact in Journal(path).facts()]
        return len({(fact.job, fact.stage, fact.index) for fact in facts if isinstance(fact, TaskDone)})

    def blocks(self) -> list[Path]:
        return sorted(self.data.glob("jobs/*/blocks/*.block"))

    def jobs(self) -> list[str]:
        return sorted(path.name for path in (self.data / "jobs").iterdir())

    def counted(self) -> dict[str, int]:
        rows = [
            line.split("\t") for part in sorted(self.output.glob("part-*")) for line in part.read_text().splitlines()
        ]
        assert len({word for word, _ in rows}) == len(rows)
        return {word: int(count) for word, count in rows}

    def assert_resumed(self, begun: int, said: str, job: str, at_most: int) -> None:
        """The run went on as ``job``, and at most so many tasks ran again."""
        assert f"Resuming job {job}: " in said
        again = self.ran("map") + self.ran("reduce") - begun
        assert again <= at_most, f"{again} tasks ran again"
        match = re.search(r"(\d+) of (\d+) tasks are done", said)
        assert match is not None
        assert (int(match[2]) - int(match[1]), int(match[2])) == (again, FILES + REDUCERS)
        assert self.counted() == self.expected
        assert self.litter() == []

    def litter(self) -> list[str]:
        return [path.name for path in self.folder.iterdir() if path.name.startswith(".")]
