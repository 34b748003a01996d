"""How the decisions of ``plan.adapt`` are carried: made once, noted, told to the scheduler, and found again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from gristmill.plan import adapt
from gristmill.plan.decision import Decision
from gristmill.runtime.journal.facts import StageReplanned
from gristmill.scheduling import events

if TYPE_CHECKING:
    from gristmill.plan.stages import Stage
    from gristmill.runtime.coordinator.jobs import Job, PreparedJob


def with_decision(prepared: PreparedJob, stage: int, decision: Decision) -> PreparedJob:
    """The same job with a stage cut as it was decided."""
    plan = adapt.carry_out(prepared.plan, stage, decision)
    origins = prepared.origins
    if origins:
        origins += tuple(f"{origins[stage]} merge {number}" for number in range(len(plan.stages) - len(origins)))
    return replace(prepared, plan=plan, origins=origins)


def awaits(job: Job, stage: Stage) -> bool:
    """Whether a stage is to wait until it is decided how it is cut."""
    plan = job.prepared.plan
    return adapt.may_adapt(plan, stage) or adapt.waits_for(plan, stage, job.tally.input_bytes) is not None


def decisions(job: Job, whole: int) -> Iterator[tuple[int, Decision]]:
    """What is decided now that a stage is whole: for each stage that waited for it, and for nothing else.

    Each is to be carried out before the next is asked for.
    """
    tally = job.tally
    for stage in range(len(job.prepared.plan.stages)):
        plan = job.prepared.plan
        waiting = adapt.waits_for(plan, plan.stages[stage], tally.input_bytes)
        if waiting is not None and waiting[0] == whole:
            _, reader, number = waiting
            made = tally.sizes.partitions(whole)
            turned = adapt.turn_around(plan, reader, number, made, tally.segment_count(whole))
            yield (stage, Decision()) if turned is None else (reader.id, turned)
    for stage in range(len(job.prepared.plan.stages)):
        plan = job.prepared.plan
        awaiting = plan.stages[stage]
        if whole in awaiting.parents and adapt.may_adapt(plan, awaiting) and tally.are_whole(awaiting.parents):
            yield stage, adapt.adapt(plan, awaiting, tally.sizes)


def carry_out(job: Job, stage: int, decision: Decision) -> Iterator[events.Event]:
    """Cut a stage as it was decided. What the scheduler is to be told, if it knows the stage already."""
    before = job.prepared.plan
    job.prepared = with_decision(job.prepared, stage, decision)
    job.tally.replanned(job.prepared.plan)
    plan = job.prepared.plan
    changed = [one for one in plan.in_order if one.id >= len(before.stages) or one is not before.stages[one.id]]
    job.note(StageReplanned(job.id, stage, decision, tuple((one.id, one.parents) for one in changed)))
    counts = job.tally.task_counts()
    for one in changed:
        if one.id >= len(before.stages):
            yield events.StageAdded(job.id, one.id, one.parents, counts[one.id], False)
        else:  # what it needs no more had to be whole in any case
            parents = tuple(dict.fromkeys((*before.stages[one.id].parents, *one.parents)))
            ranges, hosts = adapt.ranges_of(one), job.tally.hosts(one.id)
            yield events.StageReplaced(job.id, one.id, parents, counts[one.id], ranges, hosts)


def of_facts(prepared: PreparedJob, facts: Sequence[StageReplanned]) -> PreparedJob:
    """A job as it was cut by the time of the last of these facts."""
    for fact in facts:
        prepared = with_decision(prepared, fact.stage, fact.decision)
    return prepared
