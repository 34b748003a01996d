"""What sessions keep: results of tasks that outlive their job, so that later jobs of the session need not run them.

A job that has a kept stage begins with what is there of it, told to the scheduler as tasks that were done. The stages
behind it count as done as well, with blocks that are gone: they run again only if something kept is lost, and then
their digests tell whether they have made the same as before. Plain bookkeeping: no clock, no files.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field

from gristmill.plan.adapt import fits
from gristmill.plan.decision import Decision
from gristmill.plan.stages import RowsSink, Stage, StagePlan
from gristmill.runtime.contracts import TaskResult
from gristmill.runtime.coordinator.jobs import PreparedJob
from gristmill.runtime.coordinator.tally import digest_of
from gristmill.scheduling.events import AttemptId, TaskId, TaskRestored
from gristmill.shuffle.contracts import BlockInfo, owner_of


@dataclass
class _Session:
    """What one session knows.

    Attributes:
        digests: of what the tasks of a stage made, by where the stage comes from (``PreparedJob.origins``); a task that
            was not done yet has none.
        kept: the results of tasks, by the name under which they are kept, then by the task.
        decisions: how stages were cut, by where they come from.
    """

    digests: dict[str, list[int | None]] = field(default_factory=dict)
    kept: dict[str, dict[int, TaskResult]] = field(default_factory=dict)
    decisions: dict[str, Decision] = field(default_factory=dict)

    def digests_of(self, prepared: PreparedJob, stage: int, tasks: int) -> list[int | None]:
        """The digests of a job's stage of so many tasks: none, if its input was cut otherwise before."""
        digests = self.digests.get(prepared.origins[stage], [])
        sink = prepared.plan.stages[stage].sink
        if isinstance(sink, RowsSink) and sink.first and len(digests) < tasks:  # now more of its tasks are wanted
            return digests + [None] * (tasks - len(digests))
        return digests if len(digests) == tasks else [None] * tasks


class Keeping:
    """What all sessions of a coordinator keep."""

    def __init__(self) -> None:
        self._sessions: dict[str, _Session] = {}

    def known(
        self, prepared: PreparedJob, tasks: Sequence[int], workers: Collection[str], awaiting: Collection[int] = ()
    ) -> Iterator[tuple[TaskRestored, TaskResult | None]]:
        """What a job need not do, parents first.

        Args:
            prepared: the job.
            tasks: how many tasks each of its stages has.
            workers: those that are there; what others kept is lost.
            awaiting: stages of which it is not decided yet how they are cut.

        Yields:
            The event, and the result if its block can be read.
        """
        session = self._sessions.get(prepared.spec.session)
        if session is None:
            return
        found, behind = _found(session, prepared.plan)
        job = prepared.spec.job
        for stage in prepared.plan.in_order:
            digests = session.digests_of(prepared, stage.id, tasks[stage.id])
            if stage.id in awaiting or all(digest is None for digest in digests):
                continue
            if stage in found:
                results = session.kept[_kept(stage)]
                for index, result in sorted(results.items()):
                    yield _restored(AttemptId(job, stage.id, index, 1), result, workers)
            elif stage.id in behind:
                for index, digest in enumerate(digests):
                    if digest is not None:
                        yield TaskRestored(AttemptId(job, stage.id, index, 1), None, True, digest=digest), None

    def done_before(self, prepared: PreparedJob, tasks: Sequence[int]) -> Iterator[TaskId]:
        """The tasks that have made what is kept, also those of which that is lost, or does not fit.

        The arguments are those of :meth:`known`.
        """
        session = self._sessions.get(prepared.spec.session)
        if session is None:
            return
        found, behind = _found(session, prepared.plan)
        for stage in sorted(behind.union(stage.id for stage in found)):
            for index, digest in enumerate(session.digests_of(prepared, stage, tasks[stage])):
                if digest is not None:
                    yield TaskId(prepared.spec.job, stage, index)

    def decided(self, prepared: PreparedJob, stage: int, decision: Decision) -> None:
        """It was decided how a stage is cut."""
        if prepared.spec.session:
            session = self._sessions.setdefault(prepared.spec.session, _Session())
            session.decisions[prepared.origins[stage]] = decision

    def decisions(self, prepared: PreparedJob, tasks: Sequence[int]) -> list[tuple[int, Decision]]:
        """How stages of a job were cut when they were run for what is kept: it is not decided again.

        The arguments are those of :meth:`known`.
        """
        session = self._sessions.get(prepared.spec.session)
        if session is None:
            return []
        plan = prepared.plan
        found, behind = _found(session, plan)
        done = sorted(behind.union(stage.id for stage in found))
        known = [(stage, session.decisions.get(prepared.origins[stage])) for stage in done]
        return [
            (stage, decision)
            for stage, decision in known
            if decision is not None
            and not plan.stages[stage].settled
            and fits(plan, plan.stages[stage], decision, tasks)
        ]

    def accepted(self, prepared: PreparedJob, tasks: int, attempt: AttemptId, result: TaskResult) -> None:
        """A task's result counts; if its stage is kept, or others that are kept are made of it, that is noted."""
        if not prepared.spec.session or result.block is None:
            return
        session = self._sessions.setdefault(prepared.spec.session, _Session())
        digests = session.digests_of(prepared, attempt.stage, tasks)
        session.digests[prepared.origins[attempt.stage]] = digests
        digests[attempt.index] = digest_of(result.block)
        if kept := _kept(prepared.plan.stages[attempt.stage]):
            results = session.kept.setdefault(kept, {})
            if owner_of(result.block) in (prepared.spec.session, ""):
                results[attempt.index] = result
            else:  # there was no room to keep it
                results.pop(attempt.index, None)

    def is_kept(self, prepared: PreparedJob, task: TaskId) -> bool:
        """Whether a task's block is not its job's to free."""
        return bool(_kept(prepared.plan.stages[task.stage]))

    def blocks(self, session: str, kept: str) -> list[BlockInfo]:
        """What is kept under a name, in the order of tasks, but for what has no rows."""
        found = self._sessions.get(session)
        results = {} if found is None else found.kept.get(kept, {})
        blocks = [result.block for _, result in sorted(results.items())]
        return [block for block in blocks if block is not None and block.path]

    def forget(self, session: str, kept: str = "") -> list[BlockInfo]:
        """Forget what is kept under a name, or all that a session keeps. Returns what can be freed."""
        found = self._sessions.get(session)
        if found is None:
            return []
        if not kept:
            del self._sessions[session]
        gone = [found.kept.pop(kept, {})] if kept else list(found.kept.values())
        blocks = [result.block for results in gone for result in results.values()]
        return [block for block in blocks if block is not None and block.path]


def _found(session: _Session, plan: StagePlan) -> tuple[list[Stage], set[int]]:
    """The stages of which something is kept, and the ids of those that these are made of."""
    found = [stage for stage in plan.stages if _kept(stage) in session.kept]
    return found, {id for stage in found for id in _ancestors(plan.stages, stage)}


def _kept(stage: Stage) -> str:
    return stage.sink.kept if isinstance(stage.sink, RowsSink) else ""


def _ancestors(stages: Sequence[Stage], stage: Stage) -> set[int]:
    found: set[int] = set()
    wanted = [stage]
    while wanted:
        new = [parent for parent in wanted.pop().parents if parent not in found]
        found.update(new)
        wanted += [stages[parent] for parent in new]
    return found


def _restored(
    attempt: AttemptId, result: TaskResult, workers: Collection[str]
) -> tuple[TaskRestored, TaskResult | None]:
    block = result.block
    assert block is not None, "what is kept is a block"
    there = not block.path or not block.worker or block.worker in workers
    keeper = block.worker or next(iter(workers), "")
    sizes = tuple(segment.length for segment in block.segments)
    event = TaskRestored(attempt, keeper if there else None, bool(block.path), sizes, digest=digest_of(block))
    return event, result if there else None
