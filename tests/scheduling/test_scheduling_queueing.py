"""Whose turn it is among jobs that wait."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from gristmill.scheduling.queueing import QueueLimits, WaitingJob, next_jobs

USERS = st.sampled_from(["ada", "bob", "cy"])


def waiting(*users: str) -> list[WaitingJob]:
    return [WaitingJob(f"j{place}", user, 0, float(place)) for place, user in enumerate(users)]


def names(jobs: list[WaitingJob]) -> list[str]:
    return [job.job for job in jobs]


def test_as_many_begin_as_there_is_room_for() -> None:
    assert names(next_jobs(waiting("a", "b", "c"), {"x": 1}, QueueLimits(jobs=3))) == ["j0", "j1"]
    assert next_jobs(waiting("a"), {"x": 3}, QueueLimits(jobs=3)) == []
    assert next_jobs(waiting("a"), {"x": 5}, QueueLimits(jobs=3)) == []


def test_a_user_who_has_enough_is_passed_over() -> None:
    limits = QueueLimits(jobs=4, jobs_per_user=2)
    assert names(next_jobs(waiting("a", "a", "a", "b"), {"a": 1}, limits)) == ["j0", "j3"]


def test_the_rank_is_priority_then_time_then_id() -> None:
    jobs = [WaitingJob("c", "", 0, 1.0), WaitingJob("b", "", 0, 1.0), WaitingJob("a", "", -1, 0.0)]
    jobs.append(WaitingJob("d", "", 3, 9.0))
    assert names(sorted(jobs, key=lambda job: job.rank)) == ["d", "b", "c", "a"]


@given(st.lists(USERS), st.dictionaries(USERS, st.integers(0, 5)), st.integers(1, 6), st.none() | st.integers(1, 3))
def test_laws_of_the_queue(users: list[str], running: dict[str, int], jobs: int, each: int | None) -> None:
    limits, queue = QueueLimits(jobs, each), waiting(*users)
    begun = next_jobs(queue, running, limits)
    after = Counter(running) + Counter(job.user for job in begun)
    most = jobs if each is None else each
    assert len(begun) <= max(0, jobs - sum(running.values()))
    assert all(after[job.user] <= most for job in begun)
    left = [job for job in queue if job not in begun]
    if after.total() < jobs:
        assert all(after[job.user] >= most for job in left), "nobody waits who may begin"
    for job in begun:
        assert not any(other.user == job.user and other.rank < job.rank for other in left), "each user's are in order"
