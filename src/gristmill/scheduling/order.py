"""Whose turn it is: the fair order among jobs, and the order of stages within one."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable
from heapq import merge

from gristmill.scheduling.state import Job, Rank, SchedulerState, Stage
from gristmill.scheduling.transitions import TaskState

_PRIORITY_LIMIT = 60
_LEAST_CPUS = 0.01  # tasks that declare less still count as so many, or their job would always be first


def rank_of(job: Job, slots: int | None = None) -> Rank:
    """The job's place in the fair order: by the CPUs that it would have in use after one more launch, fewest first.

    Each step of priority doubles the number of CPUs that count as one; the earliest job comes first on a tie. The
    launch is counted because a job with nothing in use would come first whatever its priority. ``slots`` stands in for
    the slots that it has.
    """
    priority = max(-_PRIORITY_LIMIT, min(_PRIORITY_LIMIT, job.priority))
    cpus = max(job.shape.cpus, _LEAST_CPUS) * ((job.slots if slots is None else slots) + 1)
    return (cpus / 2.0**priority, -priority, job.order, job.id)


def refresh_stage(state: SchedulerState, job: Job, stage: Stage) -> None:
    """List the stage among its job's ready ones, or take it off, as its tasks now stand."""
    ready = stage.blocked == 0 and stage.counts[TaskState.WAITING] > 0
    if ready != stage.listed:
        entry = (-stage.depth, stage.id)
        if ready:
            insort(job.ready_stages, entry)
        else:
            del job.ready_stages[bisect_left(job.ready_stages, entry)]
        stage.listed = ready
        refresh_job(state, job)


def refresh_job(state: SchedulerState, job: Job) -> None:
    """Put the job where it belongs in the fair order."""
    rank = rank_of(job) if job.ready_stages else None
    if rank != job.rank:
        ready = state.offers[job.shape].ready
        if job.rank is not None:
            del ready[bisect_left(ready, job.rank)]
        if rank is not None:
            insort(ready, rank)
        job.rank = rank


def fair_order(state: SchedulerState) -> Iterable[Rank]:
    """The jobs that have a ready task and a slot that it could start in, in order."""
    ready = [offer.ready for offer in state.offers.values() if offer.ready and offer.slots]
    return merge(*ready) if len(ready) > 1 else ready[0] if ready else ()


def first_in_turn(state: SchedulerState) -> Rank | None:
    """The job whose turn it is, whether there is a slot for it or not."""
    return min((offer.ready[0] for offer in state.offers.values() if offer.ready), default=None)
