"""Tasks that run again: through several generations of stages, and with rows in another order, which nothing mixes."""

from __future__ import annotations

import os
import random
import re
import signal
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cluster_jobs import write_words
from cluster_kit import Worker, cluster

from gristmill import MapReduce

KEYS, VALUES = 40, 30


class AnyOrder(MapReduce):
    """Every key gets the same values, in an order that is another one in each attempt. Later reduce tasks wait."""

    def mapper_init(self) -> None:
        Path(self.params["folder"], f"map-{time.monotonic_ns()}").touch()

    def mapper(self, _: Any, line: str) -> Iterator[tuple[int, int]]:
        order = random.SystemRandom().sample(range(VALUES), VALUES)
        for key in range(KEYS):
            for value in order:
                yield key, value

    def reducer_init(self) -> None:
        folder = Path(self.params["folder"])
        is_first = not list(folder.glob("reduce-*"))
        (folder / f"reduce-{time.monotonic_ns()}").touch()
        deadline = time.monotonic() + 60
        while not is_first and not (folder / "gate").exists() and time.monotonic() < deadline:
            time.sleep(0.01)

    def reducer(self, key: int, values: Iterator[int]) -> Iterator[tuple[int, str]]:
        yield key, " ".join(map(str, values))


def test_readers_of_another_order_run_again(tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_text("one line\n")
    with cluster(tmp_path, workers=2, beat_seconds=0.1, lost_seconds=2.0) as c:
        params = {"folder": str(tmp_path)}
        running = c.submit(AnyOrder, tmp_path / "in.txt", tmp_path / "out", reducers=4, params=params)
        c.wait_until(lambda: running.view().stages[1].done >= 1)
        [keeper] = [worker for worker in c.workers if list(worker.data_dir.glob("**/*.block"))]
        keeper.send(signal.SIGKILL)
        c.wait_until(lambda: len(list(tmp_path.glob("map-*"))) > 1)
        (tmp_path / "gate").touch()
        c.finish(running)
    lines = [line for part in sorted((tmp_path / "out").glob("part-*")) for line in part.read_text().splitlines()]
    found = dict(line.split("\t") for line in lines)
    assert len(lines) == len(found) == KEYS
    [order] = set(found.values())  # that of one attempt
    assert sorted(map(int, order.split())) == list(range(VALUES))
    assert len(list(tmp_path.glob("reduce-*"))) > 4, "the one that was done has run again"


class Chain(MapReduce):
    """Counts words, gathers those of each count, then what was gathered. Tasks note their stage; the last ones wait.

    In each stage but the last tasks wait until some have begun on both workers.
    """

    def steps(self) -> Any:
        return [
            self.step(mapper_init=self.note_0, mapper=self.words, reducer_init=self.note_1, reducer=self.count),
            self.step(mapper=self.turn, reducer_init=self.note_2, reducer=self.gather),
            self.step(mapper=self.turn_again, reducer_init=self.hold, reducer=self.gather),
        ]

    def note(self, stage: int) -> None:
        Path(self.params["folder"], f"stage{stage}-{time.monotonic_ns()}-{os.getppid()}").touch()

    def begin(self, stage: int) -> None:
        self.note(stage)
        folder, deadline = Path(self.params["folder"]), time.monotonic() + 60
        while time.monotonic() < deadline:
            if len({path.name.rpartition("-")[2] for path in folder.glob(f"stage{stage}-*")}) == 2:
                return
            time.sleep(0.01)

    def note_0(self) -> None:
        self.begin(0)

    def note_1(self) -> None:
        self.begin(1)

    def note_2(self) -> None:
        self.begin(2)

    def hold(self) -> None:
        self.note(3)
        deadline = time.monotonic() + 60
        while not Path(self.params["folder"], "gate").exists() and time.monotonic() < deadline:
            time.sleep(0.01)

    def words(self, _: Any, line: str) -> Iterator[tuple[str, int]]:
        for word in line.split():
            yield word, 1

    def count(self, word: str, ones: Iterator[int]) -> Iterator[tuple[str, int]]:
        yield word, sum(ones)

    def turn(self, word: str, count: int) -> Iterator[tuple[int, str]]:
        yield count % 40, f"{word}:{count}"

    def turn_again(self, number: int, words: str) -> Iterator[tuple[int, str]]:
        yield number % 20, words

    def gather(self, number: int, words: Iterator[str]) -> Iterator[tuple[int, str]]:
        yield number, " ".join(sorted(words))


def chained(counts: Counter[str]) -> dict[str, str]:
    """What Chain makes of these words."""
    first: dict[int, list[str]] = defaultdict(list)
    for word, count in counts.items():
        first[count % 40].append(f"{word}:{count}")
    second: dict[int, list[str]] = defaultdict(list)
    for number, words in first.items():
        second[number % 20].append(" ".join(sorted(words)))
    return {str(number): " ".join(sorted(lines)) for number, lines in second.items()}


def kept_of(worker: Worker) -> Counter[str]:
    """How many blocks of each stage a worker keeps."""
    return Counter(re.findall(r"-s(\d+)-", path.name)[-1] for path in worker.data_dir.glob("**/*.block"))


def test_what_was_lost_is_made_again_through_all_generations(tmp_path: Path) -> None:
    text, counts = write_words(tmp_path)
    with cluster(tmp_path, workers=0, beat_seconds=0.1, lost_seconds=2.0) as c:
        for machine in "ab":
            c.add_worker("--machine", machine)
        c.wait_for_workers(2)
        params = {"folder": str(tmp_path)}
        running = c.submit(
            Chain, text, tmp_path / "out", split_size="4KiB", reducers=8, params=params, speculation=False
        )
        c.wait_until(lambda: len(list(tmp_path.glob("stage3-*"))) >= 2)

        def ran() -> dict[str, int]:
            return {stage: len(list(tmp_path.glob(f"stage{stage}-*"))) for stage in "012"}

        before, lost = ran(), kept_of(c.workers[0])
        assert all(0 < lost[stage] < before[stage] for stage in "012"), (before, lost)
        c.workers[0].end()
        (tmp_path / "gate").touch()
        outcome = c.finish(running)
        assert ran() == {stage: before[stage] + lost[stage] for stage in "012"}, "what was lost, and only that"
    lines = [line for part in (tmp_path / "out").glob("part-*") for line in part.read_text().splitlines()]
    found = dict(line.split("\t") for line in lines)
    assert len(lines) == len(found)
    assert found == chained(counts)
    assert len(outcome.view.stages) == 4
