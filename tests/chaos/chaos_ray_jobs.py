"""Jobs for the chaos tests on Ray. Each attempt says that it begins, in which process; some wait to be let go on."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from zlib import crc32

from gristmill import MapReduce

WAIT_SECONDS = 250.0


class Dealt(MapReduce):
    """Deals numbers out to partitions. A line is a task's number and a range; ``write_tasks`` makes such files.

    Parameters: ``notes``, a folder; ``partitions``, as many as there are reducers; ``bytes``, of each row.
    """

    def mapper_init(self) -> None:
        self.begun = False
        self.partitions = int(self.params["partitions"])
        self.bytes = int(self.params.get("bytes", 10))

    def mapper(self, _: Any, line: str) -> Iterator[tuple[int, tuple[int, bytes]]]:
        task, start, stop = map(int, line.split())
        if not self.begun:
            self.begun = True
            begin(self.params, "map", task)
        for number in range(start, stop):
            yield number % self.partitions, (number, random.Random(number).randbytes(self.bytes))

    def partitioner(self, key: int, partitions: int) -> int:
        return key % partitions

    def reducer_init(self) -> None:
        begin(self.params, "open", "")  # nothing is read yet

    def reducer(self, key: int, rows: Iterator[tuple[int, bytes]]) -> Iterator[tuple[int, str]]:
        begin(self.params, "reduce", key)
        count = total = 0
        for number, data in rows:
            count, total = count + 1, total + number + crc32(data)
        yield key, f"{count} {total}"


class Twice(Dealt):
    """The same, and its rows are dealt out once more: a third stage."""

    def steps(self) -> Any:
        roles = ("mapper_init", "mapper", "partitioner", "reducer_init", "reducer")
        first = self.step(**{role: getattr(self, role) for role in roles})
        return [first, self.step(mapper=self.turn, partitioner=self.partitioner, reducer=self.last)]

    def turn(self, key: int, text: str) -> Iterator[tuple[int, tuple[int, str]]]:
        for partition in range(int(self.params["partitions"])):
            yield partition, (key, text)

    def last(self, key: int, rows: Iterator[tuple[int, str]]) -> Iterator[tuple[int, str]]:
        begin(self.params, "last", key)
        yield key, "|".join(f"{of}:{text}" for of, text in rows)


class Dying(Dealt):
    """The first reducers end their own processes."""

    def reducer_init(self) -> None:
        folder = Path(self.params["notes"])
        try:
            (folder / "died").touch(exist_ok=False)
        except FileExistsError:
            return
        os._exit(9)


def begin(params: Mapping[str, Any], kind: str, what: int | str) -> None:
    """Note that this process begins a task; wait for a moment (``pause``), and while it is held.

    A task waits if there is a file ``hold.KIND.WHAT`` or ``hold.KIND``, until there is none, or not that of before.
    """
    folder = Path(params["notes"])
    (folder / f"{kind}.{what}.{os.getpid()}.{time.monotonic_ns()}").touch()
    deadline = time.monotonic() + WAIT_SECONDS
    holds = [folder / f"hold.{kind}", folder / f"hold.{kind}.{what}"]
    time.sleep(float(params.get("pause", 0)))
    while any(hold.exists() for hold in holds) and time.monotonic() < deadline:
        time.sleep(0.01)


SPLIT_BYTES = 54


def write_tasks(folder: Path, tasks: int, numbers: int = 600) -> Path:
    """The input of a number of map tasks, each a file of SPLIT_BYTES."""
    folder.mkdir()
    each = numbers // tasks
    for task in range(tasks):
        start, middle, stop = task * each, task * each + each // 2, (task + 1) * each
        (folder / f"{task:03d}.txt").write_text(
            f"{task:06d} {start:09d} {middle:09d}\n{task:06d} {middle:09d} {stop:09d}\n"
        )
    return folder
