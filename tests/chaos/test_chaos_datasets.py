"""Executors and workers are killed while datasets are joined, sorted and kept, and the result is the right one."""

from __future__ import annotations

import random
from pathlib import Path

import cloudpickle
import dataset_jobs
import pytest
from chaos_cluster_kit import Havoc, Site, site
from chaos_kit import Killer, seeds
from dataset_jobs import CASES

from gristmill import Session

cloudpickle.register_pickle_by_value(dataset_jobs)

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="finds executors by /proc")
HERE = ("ranks-in-memory",)  # in every run of the suite; all of them in the soak
THERE = ("join",)


def cases(short: tuple[str, ...]) -> list[object]:
    """Parameters: some cases for every run of the suite."""
    return [case if case in short else pytest.param(case, marks=pytest.mark.soak) for case in CASES]


@pytest.mark.parametrize("seed", seeds((0,), soak=8))
@pytest.mark.parametrize("case", cases(HERE))
def test_killed_executors_change_no_dataset(case: str, seed: int, tmp_path: Path) -> None:
    what = CASES[case]
    rows = what.rows(random.Random(seed), 3_000)
    with (
        Session(executors=3, memory="512MiB", data_dir=tmp_path, max_attempts=20) as session,
        Killer(seed, (0.1, 0.6)) as killer,
    ):
        assert what.run(session, rows, 0.1) == what.expected(rows)
    assert killer.executors, "nobody was killed"
    assert not list((tmp_path / "jobs").iterdir())


@pytest.mark.parametrize("seed", seeds((0,), soak=8))
@pytest.mark.parametrize("case", cases(THERE))
def test_killed_workers_change_no_dataset(case: str, seed: int, tmp_path: Path) -> None:
    what = CASES[case]
    rows = what.rows(random.Random(seed), 3_000)
    with site(tmp_path, workers=3, beat="0.2s", limit="1.5s") as s:
        with session_on(s) as session, Havoc(s, seed, (0.3, 1.0), ["executor", "agent"], rounds=2) as havoc:
            assert what.run(session, rows, 0.3) == what.expected(rows)
        assert havoc.kills["agent"] and havoc.kills["executor"], havoc.kills
        s.assert_clean(tmp_path)
        s.end()


def session_on(s: Site) -> Session:
    """A session on a cluster, whose tasks may lose many attempts."""
    return Session(on=s.url, token_file=s.token_file, max_attempts=20)


def test_a_worker_that_dies_before_its_results_are_read(tmp_path: Path) -> None:
    with site(tmp_path, workers=2, beat="0.2s", limit="1.5s") as s:
        with session_on(s) as session:
            elements = session.range(4_000, partitions=8).map(lambda n: n * n).iterate()
            came = [next(elements) for _ in range(10)]
            s.workers[0].kill()
            s.workers[0].forget()
            came += elements
        assert came == [n * n for n in range(4_000)]
        s.assert_clean(tmp_path)
        s.end()
