"""How the decisions of ``plan.adapt`` are carried: made once, noted, told to the scheduler, and found again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from gristmill.plan import adapt
from gristmill.plan.decision import Decision
from gristmill.runtime.facts import StageReplanned
from gristmill.scheduling import events

if TYPE_CHECKING:
    from gristmill.runtime.jobs import Job, PreparedJob


def with_decision(prepared: PreparedJob, stage: int, decision: Decision) -> PreparedJob:
    """The same job with a stage cut as it was decided."""
    plan = adapt.carry_out(prepared.plan, stage, decision)
    origins = prepared.origins
    if origins:
        origins += tuple(f"{origins[stage]} merge {number}" for number in range(len(plan.stages) - len(origins)))
    return replace(prepared, plan=plan, origins=origins)


def decisions(job: Job, whole: int) -> Iterator[tuple[int, Decision]]:
    """What is decided now that a stage is whole: for each stage that waited for it, and for nothing else.

    Each is to be carried out before the next is asked for.
    """
    for stage in range(len(job.prepared.plan.stages)):
        plan = job.prepared.plan
        awaiting = plan.stages[stage]
        if whole in awaiting.parents and adapt.may_adapt(plan, awaiting) and job.tally.are_whole(awaiting.parents):
            yield stage, adapt.adapt(plan, awaiting, job.tally.sizes)


def carry_out(job: Job, stage: int, decision: Decision) -> Iterator[events.Event]:
    """Cut a stage as it was decided. What the scheduler is to be told, if it knows the stage already."""
    before = len(job.prepared.plan.stages)
    job.prepared = with_decision(job.prepared, stage, decision)
    job.tally.replanned(job.prepared.plan)
    plan = job.prepared.plan
    changed = [plan.stages[stage], *plan.stages[before:]]
    parents = tuple((one.id, one.parents) for one in changed)
    job.note(StageReplanned(job.id, stage, decision, parents))
    counts = job.tally.task_counts()
    for added in plan.stages[before:]:
        yield events.StageAdded(job.id, added.id, added.parents, counts[added.id], False)
    replaced = plan.stages[stage]
    yield events.StageReplaced(job.id, stage, replaced.parents, counts[stage], adapt.ranges_of(replaced))


def of_facts(prepared: PreparedJob, facts: Sequence[StageReplanned]) -> PreparedJob:
    """A job as it was cut by the time of the last of these facts."""
    for fact in facts:
        prepared = with_decision(prepared, fact.stage, fact.decision)
    return prepared
