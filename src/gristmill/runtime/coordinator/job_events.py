"""A job as the scheduler hears of it: how it begins, and what is left of it when another coordinator goes on with it.

All of it is made from values: nothing here is fed, noted or launched.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING
from zlib import crc32

from gristmill.plan.adapt import ranges_of
from gristmill.runtime.contracts import TaskResult
from gristmill.runtime.coordinator.jobs import Job, PreparedJob
from gristmill.runtime.coordinator.replanning import awaits
from gristmill.runtime.coordinator.tally import digest_of
from gristmill.scheduling import events

if TYPE_CHECKING:
    from gristmill.runtime.coordinator.resumption import Resumption


def beginning(job: Job) -> Iterator[events.Event]:
    """The job and its stages. One that is taken up is held, until it is known what is left of it."""
    prepared, spec = job.prepared, job.prepared.spec
    yield events.JobSubmitted(
        spec.job,
        seed=crc32(spec.job.encode()),
        policy=_policy(prepared),
        max_bad_records=spec.max_bad_records,
        priority=prepared.priority,
        task_cpus=prepared.task_cpus,
        task_memory_bytes=prepared.task_memory_bytes,
        speculation=events.SpeculationPolicy() if prepared.speculation else None,
        held=job.resumption is not None or bool(prepared.spec.session),
    )
    plan, counts = prepared.plan, job.tally.task_counts()
    for stage in plan.in_order:
        yield events.StageAdded(
            spec.job,
            stage.id,
            stage.parents,
            counts[stage.id],
            stage is plan.last,
            job.tally.hosts(stage.id),
            awaits_plan=awaits(job, stage),
            reads=ranges_of(stage),
        )


def _policy(prepared: PreparedJob) -> events.RetryPolicy:
    """How often tasks are tried. A driver has done things that must not be done twice, however it was lost."""
    most = prepared.max_attempts
    if prepared.spec.driver:
        return events.RetryPolicy(
            user_attempts=most, death_attempts=most, memory_attempts=most, lost_attempts=most, fetch_attempts=most
        )
    return events.RetryPolicy(user_attempts=most, deaths_expected=prepared.deaths_expected)


def remains(
    resumption: Resumption, *, shared: bool, anyone: str
) -> Iterator[tuple[events.TaskRestored, TaskResult, bool]]:
    """What an earlier coordinator's tasks made, in the order in which it was accepted.

    Args:
        resumption: what was found of it.
        shared: the blocks lie on storage that all workers share.
        anyone: a worker, for the blocks that every worker sees.

    Yields:
        The event, the result with its block where it lies now, and whether that block can be read.
    """
    for task, done in resumption.done.items():
        result, block = done.result, resumption.block_of(task)
        had_block = has_block(result)
        worker = None if block is None and had_block else (block.worker if block is not None else "") or anyone
        if block is not None:
            result = replace(result, block=block)
        restored = events.TaskRestored(
            done.attempt, worker, had_block, sizes(result), result.bad_records, digest(result), shared
        )
        yield restored, result, block is not None


def has_block(result: TaskResult) -> bool:
    """Whether a task made a block: one without rows makes no file."""
    return result.block is not None and bool(result.block.path)


def sizes(result: TaskResult) -> tuple[int, ...]:
    """The bytes of each partition that a task made."""
    return () if result.block is None else tuple([segment.length for segment in result.block.segments])


def digest(result: TaskResult) -> int:
    """What tells the data that a task made from other data; 0 if it made none for others to read."""
    return 0 if result.block is None else digest_of(result.block)
