"""Tasks that make other data when they run again: whoever has read the old data runs again, and nobody else."""

from __future__ import annotations

from scheduler_run import Run, accepted, attempt, ended, job, launches, of, slots, task, written

from gristmill.scheduling.commands import AcceptOutput, Cancel, Command, JobState, Launch, ReportStage, RevokeOutput
from gristmill.scheduling.events import BlockLost, JobSubmitted, SlotLeft, StageAdded, TaskFinished
from gristmill.scheduling.transitions import TaskState


def made(stage: int, index: int, digest: int, number: int = 1) -> TaskFinished:
    return TaskFinished(attempt(stage, index, number), True, (1,), digest=digest)


def state_of(run: Run, stage: int, index: int) -> TaskState:
    return run.state.jobs["j"].stages[stage].state_of(index)


def revoked(commands: list[Command]) -> list[tuple[int, int]]:
    return [c.task[1:] for c in of(commands, RevokeOutput)]


def half_read() -> Run:
    """One map task on a; of its three readers one is done, one runs, one is ready. Then the block is lost."""
    run = Run(*slots(2), *job(1, 3))
    run(made(0, 0, 7), written(1, 0))
    run(BlockLost(task(0, 0)), SlotLeft("w-1"))
    return run


def test_the_same_data_again_disturbs_nobody() -> None:
    run = Run(*slots(1), *job(1, 3))
    run(made(0, 0, 7), written(1, 0), BlockLost(task(0, 0)), written(1, 1))
    out = run(made(0, 0, 7, number=2))
    assert revoked(out) == []
    assert launches(out) == [(1, 2, 1, "w-0")]


def test_other_data_makes_done_readers_run_again() -> None:
    run = Run(*slots(1), *job(1, 2))
    run(made(0, 0, 7), written(1, 0), BlockLost(task(0, 0)))
    assert launches(run(written(1, 1))) == [] and ended(run.history)[0].state is JobState.SUCCEEDED
    run = Run(*slots(1), *job(1, 3))
    run(made(0, 0, 7), written(1, 0), BlockLost(task(0, 0)), written(1, 1))
    out = run(made(0, 0, 8, number=2))
    assert out[:3] == [RevokeOutput(task(1, 0)), RevokeOutput(task(1, 1)), AcceptOutput(attempt(0, 0, 2))]
    assert launches(out) == [(1, 0, 2, "w-0")]
    run(written(1, 0, 2), written(1, 1, 2), written(1, 2))
    assert accepted(run.history)[-3:] == [(1, 0, 2), (1, 1, 2), (1, 2, 1)]
    assert ended(run.history)[0].state is JobState.SUCCEEDED


def test_other_data_cancels_running_readers() -> None:
    run = Run(*slots(3), *job(1, 2))
    run(made(0, 0, 7), BlockLost(task(0, 0)))
    out = run(made(0, 0, 8, number=2))
    assert {c.attempt for c in of(out, Cancel)} == {attempt(1, 0), attempt(1, 1)}
    assert launches(out) == [(1, 0, 2, "w-0")]  # the others' processes are ending
    assert run(written(1, 1)) != [] and state_of(run, 1, 1) is TaskState.READY


def test_a_first_loss_before_anybody_has_read_is_harmless() -> None:
    run = Run(*slots(1), *job(2, 1))
    run(made(0, 0, 7), BlockLost(task(0, 0)), made(0, 1, 5))
    out = run(made(0, 0, 8, number=2))
    assert revoked(out) == [] and of(out, Cancel) == []
    assert launches(out) == [(1, 0, 1, "w-0")]


def test_it_is_the_last_digest_that_counts() -> None:
    run = Run(*slots(1), *job(1, 3))
    run(made(0, 0, 7), written(1, 0), BlockLost(task(0, 0)), written(1, 1), made(0, 0, 8, number=2))
    run(BlockLost(task(0, 0)), written(1, 0, 2))
    assert revoked(run(made(0, 0, 8, number=3))) == []


def test_what_the_readers_made_is_compared_in_turn() -> None:
    run = Run(*slots(1), *job(1, 1, 2))
    run(made(0, 0, 7), made(1, 0, 70), written(2, 0))
    run(BlockLost(task(1, 0)), BlockLost(task(0, 0)), written(2, 1))
    assert ended(run.history)[0].state is JobState.SUCCEEDED  # all of the output is of one generation


def three_generations() -> Run:
    """A chain of three stages; the middle one has to run again, and for that the first, which makes something else."""
    run = Run(*slots(1), *job(1, 1, 3))
    run(made(0, 0, 7), made(1, 0, 70), written(2, 0))
    run(BlockLost(task(1, 0)), BlockLost(task(0, 0)))
    run(written(2, 1))
    assert run.state.slots["w-0"].attempt == attempt(0, 0, 2)
    assert revoked(run(made(0, 0, 8, number=2))) == []  # no reader is done
    assert run.state.slots["w-0"].attempt == attempt(1, 0, 2)
    return run


def test_a_cascade_ends_where_nothing_changed() -> None:
    run = three_generations()
    assert revoked(run(made(1, 0, 70, number=2))) == []
    assert ended(run(written(2, 2)))[0].state is JobState.SUCCEEDED


def test_a_cascade_goes_on_where_something_changed() -> None:
    run = three_generations()
    assert revoked(run(made(1, 0, 80, number=2))) == [(2, 0), (2, 1)]
    run(written(2, 0, 2), written(2, 1, 2))
    assert ended(run(written(2, 2)))[0].state is JobState.SUCCEEDED


def test_the_job_does_not_end_before_every_reader_has_run_again() -> None:
    run = Run(*slots(1), JobSubmitted("j", 1))
    run(StageAdded("j", 0, (), 1, False), StageAdded("j", 1, (0,), 1, False))
    run(StageAdded("j", 2, (1,), 1, True), StageAdded("j", 3, (0,), 2, True))
    run(made(0, 0, 7), made(1, 0, 70), written(2, 0))
    assert run.state.slots["w-0"].attempt == attempt(3, 0)
    run(BlockLost(task(0, 0)), written(3, 0))
    out = run(made(0, 0, 8, number=2))
    assert revoked(out) == [(1, 0), (3, 0)]
    run(*slots(2, first=1))
    out = run(written(3, 0, 2), written(3, 1))
    assert ended(out) == []  # stage 1 has yet to tell whether stage 2 is right
    assert state_of(run, 2, 0) is TaskState.DONE
    out = run(made(1, 0, 80, number=2))
    assert revoked(out) == [(2, 0)]
    assert ended(run(written(2, 0, 2)))[0].state is JobState.SUCCEEDED


def test_readers_that_made_the_same_again_let_the_job_end() -> None:
    run = Run(*slots(1), JobSubmitted("j", 1))
    run(StageAdded("j", 0, (), 1, False), StageAdded("j", 1, (0,), 1, False))
    run(StageAdded("j", 2, (1,), 1, True), StageAdded("j", 3, (0,), 2, True))
    run(made(0, 0, 7), made(1, 0, 70), written(2, 0))
    run(BlockLost(task(0, 0)), written(3, 0), made(0, 0, 8, number=2))
    run(*slots(2, first=1), written(3, 0, 2), written(3, 1))
    assert ended(run(made(1, 0, 70, number=2)))[0].state is JobState.SUCCEEDED


def test_a_stage_is_reported_once_all_the_same() -> None:
    run = Run(*slots(1), *job(1, 3))
    run(made(0, 0, 7), written(1, 0), BlockLost(task(0, 0)), written(1, 1), made(0, 0, 8, number=2))
    run(written(1, 0, 2), written(1, 1, 2), written(1, 2))
    assert [c.stage for c in of(run.history, ReportStage)] == [0, 1]


def test_digests_take_no_memory_where_nobody_tells_them() -> None:
    run = Run(*slots(1), *job(1, 1))
    run(TaskFinished(attempt(0, 0), True))
    assert run.state.jobs["j"].stages[0].digests is None


def test_large_digests_are_compared_by_their_last_64_bits() -> None:
    run = Run(*slots(1), *job(1, 3))
    run(made(0, 0, -1), written(1, 0), BlockLost(task(0, 0)), written(1, 1))
    assert revoked(run(made(0, 0, 2**64 - 1, number=2))) == []


def test_launches_after_a_change_read_the_new_data_only() -> None:
    run = half_read()
    out = run(*slots(2, "v"))
    launched = [c.attempt for c in of(out, Launch)]
    assert launched == [attempt(0, 0, 2)]
    out = run(made(0, 0, 9, number=2))
    assert (1, 0) in revoked(out)
    assert all(c.attempt.number > 1 or c.attempt.index == 2 for c in of(out, Launch))
