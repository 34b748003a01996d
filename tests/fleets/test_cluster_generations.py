"""A map task that runs again and makes its rows in another order: no output mixes the two orders."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cluster_kit import cluster

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
    with cluster(tmp_path, workers=2, beat_seconds=0.1, lost_seconds=1.0) as c:
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
