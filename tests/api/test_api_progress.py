"""What an observer of a running job sees."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gristmill import MapReduce
from gristmill.api.job import run_job
from gristmill.api.loading import job_of_class
from gristmill.config import JobOptions
from gristmill.runtime.views import JobView

ROWS = 50_000


class Paused(MapReduce):
    def mapper(self, key: Any, line: str) -> Iterator[tuple[Any, Any]]:
        for number in range(ROWS):
            yield number, 1

    def reducer(self, key: int, values: Iterator[int]) -> Iterator[tuple[Any, Any]]:
        until = time.monotonic() + 60
        while key == ROWS // 2 and not Path(self.params["seen"]).exists() and time.monotonic() < until:
            time.sleep(0.01)  # until a heartbeat has told of it
        yield key, sum(values)


def test_a_reduce_task_shows_how_far_it_is(tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_text("a\n")
    shares: list[float] = []

    def look(view: JobView) -> None:
        if (stage := view.stages[-1]).bytes_total:
            shares.append(stage.bytes_in / stage.bytes_total)
            if 0.3 < shares[-1] < 0.7:
                (tmp_path / "seen").touch()

    options = JobOptions(on="local", executors=1, reducers=1, data_dir=tmp_path / "data")
    params = {"seen": str(tmp_path / "seen")}
    with run_job(job_of_class(Paused, params), tmp_path / "in.txt", None, options, look):
        pass
    assert any(0.3 < share < 0.7 for share in shares), shares
    assert shares[-1] == 1.0
