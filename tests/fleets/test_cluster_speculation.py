"""A task that takes far too long runs on another worker, too: one result counts, and nothing of the loser stays."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
from cluster_jobs import WordCount, counts_in, write_words
from cluster_kit import cluster

from gristmill.runtime.contracts import SlotUp


class StuckReducers(WordCount):
    """On the worker ``stuck`` a reduce task writes its first row, says who it is, and does not come to an end.

    Those on the other worker wait until there is one.
    """

    def reducer_init(self) -> None:
        deadline = time.monotonic() + 60
        while os.environ["PLACE"] != "stuck" and not self.stuck() and time.monotonic() < deadline:
            time.sleep(0.01)

    def stuck(self) -> list[Path]:
        return list(Path(self.params["folder"]).glob("pid-*"))

    def reducer(self, word: str, counts: Iterator[int]) -> Iterator[tuple[str, int]]:
        yield word, sum(counts)
        if os.environ["PLACE"] == "stuck":
            Path(self.params["folder"], f"pid-{os.getpid()}").touch()
            time.sleep(120)


def test_a_straggler_runs_twice_and_nothing_of_the_loser_remains(tmp_path: Path) -> None:
    words, expected = write_words(tmp_path)
    with cluster(tmp_path, workers=0) as c:
        for place in ("stuck", "well"):
            c.add_worker("--name", place, "--machine", place, PLACE=place)
        c.wait_until(lambda: len(c.fleet.heard(SlotUp)) == 2)
        params = {"folder": str(tmp_path)}
        outcome = c.run(StuckReducers, words, tmp_path / "out", split_size="16KiB", reducers=4, params=params)
        assert counts_in(tmp_path / "out") == expected
        assert len(list((tmp_path / "out").glob("part-*"))) == 4
        assert outcome.view.attempts > sum(stage.tasks for stage in outcome.view.stages)
        assert outcome.view.failed_attempts == 0, "who loses has not failed"
        losers = [int(path.name.partition("-")[2]) for path in tmp_path.glob("pid-*")]
        assert losers, "nobody was stuck"
        c.wait_until(lambda: not any(map(psutil.pid_exists, losers)))
        left = [worker.data_dir / "worker" / "jobs" for worker in c.workers]
        c.wait_until(lambda: not any(list(folder.iterdir()) for folder in left))
        assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == [], "no staging folder"
