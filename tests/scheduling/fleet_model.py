"""A fleet in a few lines, for simulations: it obeys commands, breaks at will, and complains about what makes no sense.

It knows nothing of the scheduler's state. What it holds is what a real coordinator and its fleet would see.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from gristmill.scheduling.commands import (
    AcceptOutput,
    Cancel,
    Command,
    DiscardOutput,
    EndJob,
    FreeBlock,
    JobState,
    Launch,
    ReportStage,
    WakeAt,
)
from gristmill.scheduling.events import AttemptId, BlockLost, StageAdded, TaskFinished, TaskId

Choose = Callable[[int], int]  # a number below the one given


@dataclass
class FleetModel:
    """Slots, attempts and blocks as they really are."""

    slots: dict[str, str] = field(default_factory=dict)  # slot -> worker, of living slots
    running: dict[AttemptId, str] = field(default_factory=dict)  # attempts that really run -> slot
    dying: set[str] = field(default_factory=set)  # slots that will leave: cancelled, or their process died
    blocks: dict[TaskId, str] = field(default_factory=dict)  # accepted, living blocks -> worker
    accepted: set[TaskId] = field(default_factory=set)  # tasks that count as done
    stages: dict[str, dict[int, StageAdded]] = field(default_factory=dict)  # of jobs that were submitted
    ended: dict[str, JobState] = field(default_factory=dict)
    pending: dict[AttemptId, tuple[TaskFinished, str]] = field(default_factory=dict)  # being answered: event, worker
    reports: set[tuple[str, int]] = field(default_factory=set)
    slot_count: int = 0

    def obey(self, commands: Sequence[Command]) -> None:
        for command in commands:
            match command:
                case Launch():
                    self._launch(command.attempt, command.slot)
                case Cancel():
                    assert command.slot in self.slots, "cancelled in a slot that is gone"
                    self.running.pop(command.attempt, None)
                    self.dying.add(command.slot)
                case AcceptOutput():
                    self._accept(command.attempt)
                case DiscardOutput():
                    del self.pending[command.attempt]
                case FreeBlock():
                    del self.blocks[command.task]
                case ReportStage():
                    assert (command.job, command.stage) not in self.reports, "reported twice"
                    self.reports.add((command.job, command.stage))
                case WakeAt():
                    pass
                case EndJob():
                    self._end(command)

    def _launch(self, attempt: AttemptId, slot: str) -> None:
        assert slot in self.slots, f"{attempt} launched in {slot}, which is gone"
        assert slot not in self.running.values(), f"{attempt} launched in {slot}, which is busy"
        assert attempt.job in self.stages and attempt.job not in self.ended, f"{attempt} of a job that does not run"
        stage = self.stages[attempt.job][attempt.stage]
        assert not stage.awaits_plan and attempt.index < stage.tasks, f"{attempt} launched, and is not of the plan"
        assert attempt.task not in self.accepted, f"{attempt} launched, and the task is done"
        assert all(a.task != attempt.task for a in self.running), f"{attempt} launched, and another attempt runs"
        for parent in self.stages[attempt.job][attempt.stage].parents:
            for index in range(self.stages[attempt.job][parent].tasks):
                task = TaskId(attempt.job, parent, index)
                assert task in self.blocks, f"{attempt} launched without the block of {task}"
        self.running[attempt] = slot

    def _accept(self, attempt: AttemptId) -> None:
        event, worker = self.pending.pop(attempt)
        assert attempt.task not in self.accepted, f"{attempt} accepted, and the task was done"
        self.accepted.add(attempt.task)
        if event.has_block:
            self.blocks[attempt.task] = worker

    def _end(self, command: EndJob) -> None:
        assert command.job not in self.ended
        left = [a for a in self.running if a.job == command.job]
        assert not left, f"{command.job} ended and left {left}"
        if command.state is not JobState.SUCCEEDED:  # its blocks stay for another run
            self.blocks = {task: block for task, block in self.blocks.items() if task.job != command.job}
        else:
            kept = [task for task in self.blocks if task.job == command.job]
            assert not kept, f"{command.job} succeeded and left {kept}"
            for stage in self.stages[command.job].values():
                tasks = {TaskId(command.job, stage.stage, index) for index in range(stage.tasks)}
                assert not stage.final or tasks <= self.accepted, f"{command.job} succeeded without {tasks}"
        self.ended[command.job] = command.state
        self.accepted = {task for task in self.accepted if task.job != command.job}

    def awaiting(self) -> list[tuple[str, int]]:
        """Stages of jobs that run which await their plan, and whose parents have all been whole."""
        return [
            (job, stage.stage)
            for job, stages in self.stages.items()
            for stage in stages.values()
            if job not in self.ended
            and stage.awaits_plan
            and all((job, parent) in self.reports for parent in stage.parents)
        ]

    # What can happen

    def finish(self, attempt: AttemptId, bad_records: int = 0) -> TaskFinished:
        """An attempt is done."""
        slot = self.running.pop(attempt)
        stage = self.stages[attempt.job][attempt.stage]
        event = TaskFinished(attempt, not stage.final, () if stage.final else (1, 2), bad_records)
        self.pending[attempt] = (event, self.slots[slot])
        return event

    def lose_block(self, task: TaskId) -> BlockLost:
        """A block breaks."""
        del self.blocks[task]
        self.accepted.discard(task)
        return BlockLost(task)

    def missing_inputs(self, attempt: AttemptId) -> tuple[TaskId, ...]:
        """Input blocks of an attempt that are not there."""
        stages = self.stages[attempt.job]
        inputs = (TaskId(attempt.job, p, i) for p in stages[attempt.stage].parents for i in range(stages[p].tasks))
        return tuple(task for task in inputs if task not in self.blocks)

    def lose_slot(self, slot: str) -> None:
        """A slot goes down, with what runs in it."""
        del self.slots[slot]
        self.dying.discard(slot)
        self.running = {attempt: where for attempt, where in self.running.items() if where != slot}

    def lose_worker(self, worker: str) -> None:
        """A worker goes down, with its slots and blocks."""
        for slot in [slot for slot, where in self.slots.items() if where == worker]:
            self.lose_slot(slot)
        for task in [task for task, where in self.blocks.items() if where == worker]:
            self.lose_block(task)
