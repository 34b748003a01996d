"""Workers whose storage comes late, and workers that leave when nobody is there to say goodbye to."""

from __future__ import annotations

import signal
from pathlib import Path

from cluster_jobs import WordCount, counts_in, write_words
from cluster_kit import Cluster, cluster

from gristmill.runtime.contracts import Beat, JobRejected, WorkerUp

OTHER = "20200101-000000-aaaa"
"""A job that goes on after a restart, and of which a worker keeps a block."""


def keep_a_block(c: Cluster) -> Path:
    """A block in the folder of the worker that is started next."""
    block = c.folder / f"worker{len(c.workers)}" / "worker" / "jobs" / OTHER / "blocks" / "0-0-1.block"
    block.parent.mkdir(parents=True)
    block.write_bytes(b"kept")
    return block


def test_a_worker_that_does_not_see_a_job_yet_keeps_the_blocks_of_others(tmp_path: Path) -> None:
    text, expected = write_words(tmp_path)
    with cluster(tmp_path, workers=0) as c:
        c.stop()
        c.start([OTHER])
        job = c.submit(WordCount, text, tmp_path / "out")
        text.rename(tmp_path / "unmounted")
        block = keep_a_block(c)
        worker = c.add_worker()
        c.wait_until(lambda: "Joining again" in worker.said())
        assert block.exists()
        (tmp_path / "unmounted").rename(text)
        c.wait_for_workers(1)
        assert c.fleet.heard(WorkerUp)[0].kept == {OTHER: (str(block),)}
        c.finish(job)
    assert counts_in(tmp_path / "out") == expected


def test_a_job_that_goes_on_is_not_rejected_for_a_worker_that_does_not_see_it_yet(tmp_path: Path) -> None:
    text, expected = write_words(tmp_path)
    with cluster(tmp_path, workers=1) as c:
        prepared = c.prepare(WordCount, text, tmp_path / "out")
        object.__setattr__(prepared.spec, "epoch", 1)  # as if it had been taken up
        text.rename(tmp_path / "unmounted")
        job = c.coordinator.submit(prepared)
        c.wait_until(lambda: "Joining again" in c.workers[0].said())
        (tmp_path / "unmounted").rename(text)
        c.finish(job)
        assert c.fleet.heard(JobRejected) == []
    assert counts_in(tmp_path / "out") == expected


def test_a_drained_worker_does_not_wait_for_a_coordinator_that_is_gone(tmp_path: Path) -> None:
    with cluster(tmp_path, workers=0) as c:
        c.stop()
        c.start([OTHER])
        block = keep_a_block(c)
        worker = c.add_worker("--drain-seconds", "60")
        c.wait_until(lambda: c.fleet.heard(Beat))  # it knows that it is welcome
        c.stop()
        worker.send(signal.SIGTERM)
        assert worker.wait(40) == 0, "it would have waited a minute for somebody to ask for its block"
        assert "the coordinator does not answer, and no attempt runs" in worker.said()
        assert not block.exists()
