"""Lost blocks: what runs again, what waits, what is freed."""

from __future__ import annotations

from scheduler_run import Run, accepted, attempt, done, ended, job, launches, slots, task, written

from gristmill.scheduling.commands import Cancel, FreeBlock, JobState, Launch, ReportStage
from gristmill.scheduling.events import (
    BlockLost,
    Heartbeat,
    JobSubmitted,
    SlotLeft,
    StageAdded,
    TaskFinished,
    WorkerLost,
)
from gristmill.scheduling.transitions import TaskState


def frees(commands: list[object]) -> list[tuple[int, int]]:
    return [c.task[1:] for c in commands if isinstance(c, FreeBlock)]


def test_a_lost_block_that_is_needed_is_made_again() -> None:
    run = Run(*slots(1), *job(2, 1))
    run(done(0, 0))
    run(BlockLost(task(0, 0)))
    assert launches(run(done(0, 1))) == [(0, 0, 2, "w-0")]
    assert launches(run(done(0, 0, 2))) == [(1, 0, 1, "w-0")]


def test_children_that_have_not_begun_wait_and_running_ones_go_on() -> None:
    run = Run(*slots(2), *job(2, 3))
    run(done(0, 0), done(0, 1))
    run(BlockLost(task(0, 1)))
    assert [run.state.jobs["j"].stages[1].state_of(i) for i in range(3)] == [
        TaskState.RUNNING,
        TaskState.RUNNING,
        TaskState.WAITING,
    ]
    assert launches(run(written(1, 0))) == [(0, 1, 2, "w-0")]
    assert launches(run(done(0, 1, 2))) == [(1, 2, 1, "w-0")]


def test_a_block_that_is_not_there_cannot_be_lost() -> None:
    run = Run(*slots(1), *job(2, 1))
    run(done(0, 0))
    for nothing in (task(0, 1), task(1, 0), task(0, 2), task(5, 0), task(0, 0, job="other")):
        assert run(BlockLost(nothing)) == []
    run(BlockLost(task(0, 0)))
    assert run(BlockLost(task(0, 0))) == []


def test_output_tasks_keep_no_block_and_are_never_run_again() -> None:
    run = Run(*slots(1, "a"), *slots(1, "b"), *job(3))
    run(written(0, 0))
    run(BlockLost(task(0, 0)), WorkerLost("a"), BlockLost(task(0, 0)))
    assert ended(run.finish_all())[0].state is JobState.SUCCEEDED
    assert sorted(accepted(run.history)) == [(0, 0, 1), (0, 1, 1), (0, 2, 2)]


def test_a_lost_worker_takes_its_blocks_along() -> None:
    run = Run(*slots(1, "a"), *slots(1, "b"), *job(4, 1))
    run(done(0, 0), done(0, 1), done(0, 2), done(0, 3))  # 0 and 2 on a, 1 and 3 on b
    assert run.state.jobs["j"].stages[1].running
    assert launches(run(WorkerLost("a"))) == [(0, 0, 2, "b-0")]
    assert launches(run(done(0, 0, 2))) == [(0, 2, 2, "b-0")]
    assert launches(run(done(0, 2, 2))) == [(1, 0, 2, "b-0")]


def test_readers_of_a_lost_worker_that_have_read_nothing_yet_are_called_back() -> None:
    run = Run(*slots(1, "a"), *slots(3, "b"), *job(2, 4))
    run(done(0, 0), done(0, 1))  # on a and b
    readers = [slot.attempt for name, slot in run.state.slots.items() if name != "a-0" and slot.attempt is not None]
    run(Heartbeat("b", tuple(readers), progress=(0.0, 0.1, 0.0)))
    assert {c.attempt for c in run(WorkerLost("a")) if isinstance(c, Cancel)} == {readers[0], readers[2]}
    assert list(run.state.jobs["j"].stages[1].running) == [readers[1].index]
    assert launches(run(*slots(2, "b", first=3))) == [(0, 0, 2, "b-3")]
    assert ended(run.finish_all())[0].state is JobState.SUCCEEDED


def test_a_slot_that_leaves_takes_no_block_along() -> None:
    run = Run(*slots(1), *job(1, 1))
    run(done(0, 0), SlotLeft("w-0"))
    assert launches(run(*slots(1, first=1))) == [(1, 0, 2, "w-1")]


def test_a_block_made_anew_elsewhere_survives_the_loss_of_its_first_worker() -> None:
    run = Run(*slots(1, "a"), *job(2, 1))
    run(done(0, 0), *slots(1, "b"))
    run(BlockLost(task(0, 0)))
    busy = {slot_id: slot.attempt for slot_id, slot in run.state.slots.items()}
    assert busy == {"a-0": attempt(0, 1), "b-0": attempt(0, 0, 2)}
    run(done(0, 0, 2), WorkerLost("a"))
    assert run.state.jobs["j"].stages[0].state_of(0) is TaskState.DONE


def test_a_lost_block_that_nothing_needs_now_is_not_made_again() -> None:
    run = Run(*slots(1), *job(1, 2, 2))
    run(done(0, 0), done(1, 0), done(1, 1))
    assert launches(run(BlockLost(task(0, 0)))) == []
    assert run.state.jobs["j"].stages[0].state_of(0) is TaskState.GONE
    run.finish_all()
    assert ended(run.history)[0].state is JobState.SUCCEEDED
    assert not any(isinstance(c, Launch) and c.attempt == attempt(0, 0, 2) for c in run.history)


def test_what_is_gone_is_made_again_when_it_is_needed_through_all_generations() -> None:
    run = Run(*slots(1), *job(1, 1, 1, 2))
    run(done(0, 0), done(1, 0), done(2, 0))
    run(BlockLost(task(0, 0)), BlockLost(task(1, 0)))  # stage 3 needs neither
    assert launches(run(BlockLost(task(2, 0)))) == []  # the slot is busy with stage 3
    out = run.finish_all()
    assert [launch[:3] for launch in launches(out)] == [(0, 0, 2), (1, 0, 2), (2, 0, 2), (3, 1, 1)]
    assert ended(out)[0].state is JobState.SUCCEEDED


def test_a_worker_lost_with_several_generations() -> None:
    run = Run(*slots(1, "a"), *job(2, 2, 2))
    run(done(0, 0), done(0, 1), done(1, 0), done(1, 1), written(2, 0))
    run(WorkerLost("a"))
    run(*slots(2, "b"))
    run.finish_all()
    again = [c.attempt[1:] for c in run.history if isinstance(c, Launch) and c.attempt.number > 1]
    assert again == [(0, 0, 2), (0, 1, 2), (1, 0, 2), (1, 1, 2), (2, 1, 2)]
    assert ended(run.history)[0].state is JobState.SUCCEEDED


def test_a_stage_is_reported_once_with_each_tasks_bytes_once() -> None:
    run = Run(*slots(2), *job(2, 2))
    run(done(0, 0, sizes=(1, 2)), done(0, 1, sizes=(10, 20)))
    run(BlockLost(task(0, 0)), written(1, 0), done(0, 0, 2, sizes=(1, 2)))
    run.finish_all()
    reports = [c for c in run.history if isinstance(c, ReportStage)]
    assert reports == [ReportStage("j", 0, (11, 22)), ReportStage("j", 1, ())]


def test_blocks_are_kept_while_a_child_could_run_again() -> None:
    run = Run(*slots(1), *job(1, 1, 1))
    assert frees(run(done(0, 0), done(1, 0))) == []  # stage 1 is whole, and its block could be lost
    assert frees(run(written(2, 0))) == [(1, 0), (0, 0)]


def test_blocks_are_freed_before_the_job_ends_if_nothing_can_need_them() -> None:
    run = Run(*slots(1), JobSubmitted("j", 1))
    run(StageAdded("j", 0, (), 1, False), StageAdded("j", 1, (0,), 1, True), StageAdded("j", 2, (), 1, True))
    run(done(0, 0))
    assert frees(run(written(1, 0))) == [(0, 0)]
    assert frees(run(written(2, 0))) == []


def test_blocks_wait_for_the_last_child() -> None:
    run = Run(*slots(3), JobSubmitted("j", 1))
    run(StageAdded("j", 0, (), 1, False), StageAdded("j", 1, (0,), 1, True), StageAdded("j", 2, (0,), 1, True))
    run(done(0, 0))
    assert frees(run(written(1, 0))) == []
    assert frees(run(written(2, 0))) == [(0, 0)]


def test_a_child_added_after_the_blocks_were_freed_has_them_made_again() -> None:
    run = Run(*slots(1), JobSubmitted("j", 1))
    run(StageAdded("j", 0, (), 1, False), StageAdded("j", 1, (0,), 1, False))
    run(StageAdded("j", 2, (1,), 1, True), StageAdded("j", 3, (), 1, True))
    run(done(0, 0), done(1, 0))
    assert frees(run(written(2, 0))) == [(1, 0), (0, 0)]
    run(StageAdded("j", 4, (1,), 1, True))
    out = run(written(3, 0))
    assert launches(out) == [(0, 0, 2, "w-0")]
    out = run.finish_all()
    assert [launch[:3] for launch in launches(out)] == [(1, 0, 2), (4, 0, 1)]
    assert ended(out)[0].state is JobState.SUCCEEDED


def test_a_block_lost_before_any_child_was_added() -> None:
    run = Run(*slots(1), JobSubmitted("j", 1), StageAdded("j", 0, (), 2, False))
    run(done(0, 0))
    run(BlockLost(task(0, 0)))
    assert launches(run(done(0, 1))) == [(0, 0, 2, "w-0")]  # its sizes are still to be reported
    assert run(done(0, 0, 2))[1:] == [ReportStage("j", 0, ())]
    assert run(BlockLost(task(0, 0))) == []
    assert launches(run(StageAdded("j", 1, (0,), 1, True))) == [(0, 0, 3, "w-0")]
    assert ended(run.finish_all())[0].state is JobState.SUCCEEDED


def test_bad_records_of_a_task_that_runs_again_count_once() -> None:
    run = Run(*slots(1), *job(1, 1, max_bad_records=2))
    run(TaskFinished(attempt(0, 0), True, (), 2))
    run(BlockLost(task(0, 0)), SlotLeft("w-0"))
    run(*slots(1, first=1))
    assert ended(run(TaskFinished(attempt(0, 0, 2), True, (), 2))) == []
    assert ended(run(written(1, 0, 2)))[0].state is JobState.SUCCEEDED
