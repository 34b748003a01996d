"""Short tasks: several attempts in one slot, not too much work, nothing waits for long, and one alone to blame."""

from __future__ import annotations

from scheduler_run import Run, attempt, ended, failed, job, launches, of, worker, written

from gristmill.errors import FailureKind
from gristmill.scheduling.commands import Cancel, Command, DiscardOutput, JobState, Launch
from gristmill.scheduling.events import (
    Heartbeat,
    JobCancelled,
    SlotLeft,
    TaskFailed,
    TaskFinished,
    TimePassed,
    WorkerDraining,
    WorkerLost,
)
from gristmill.scheduling.launching import AHEAD_SECONDS, STALL_SECONDS


def finish(run: Run, index: int, seconds: float, number: int = 1, job: str = "j") -> list[Command]:
    return run(TaskFinished(attempt(0, index, number, job), False, seconds=seconds))


def warm(tasks: int = 1000, seconds: float = 0.001, depth: int = 16, count: int = 1) -> Run:
    """A slot in which two tasks have run, so that it is known how long they take; it holds some more."""
    run = Run(*worker("w", count, depth=depth), *job(tasks))
    for index in range(2):
        finish(run, index, seconds)
    return run


def test_a_slot_gets_one_attempt_until_it_is_known_how_long_tasks_take() -> None:
    run = Run(*worker("w", 1, depth=16), *job(100))
    assert len(run.state.slots["w-0"].attempts) == 1
    finish(run, 0, 0.001)
    assert len(run.state.slots["w-0"].attempts) == 1
    finish(run, 1, 0.001)
    assert len(run.state.slots["w-0"].attempts) == 16


def test_a_slot_never_holds_more_than_so_much_work() -> None:
    run = warm(seconds=0.01, depth=64)
    assert len(run.state.slots["w-0"].attempts) == int(AHEAD_SECONDS / 0.01)


def test_long_tasks_are_not_sent_ahead() -> None:
    run = warm(seconds=0.05)
    assert len(run.state.slots["w-0"].attempts) == 1


def test_a_slot_is_filled_up_when_it_is_half_empty() -> None:
    run = warm()
    counts = []
    for index in range(2, 20):
        counts.append(len(launches(finish(run, index, 0.001))))
    assert counts == [0] * 7 + [8] + [0] * 7 + [8] + [0, 0]


def test_free_slots_come_first() -> None:
    run = Run(*worker("w", 4, depth=16), *job(3))
    assert [slot.attempt is not None for slot in run.state.slots.values()] == [True, True, True, False]
    finish(run, 0, 0.001)
    finish(run, 1, 0.001)
    assert launches(run(*job(2, name="k"))) == [(0, 0, 1, "w-3"), (0, 1, 1, "w-0")]


def test_near_the_end_each_slot_gets_its_share() -> None:
    run = Run(*worker("w", 4, depth=64), *job(24))
    for index in range(2):
        finish(run, index, 0.001)
    assert max(len(slot.attempts) for slot in run.state.slots.values()) <= 6


def test_attempts_finish_in_order() -> None:
    run = warm(tasks=10)
    for index in range(2, 10):
        out = finish(run, index, 0.001)
    assert ended(out)[0].state is JobState.SUCCEEDED


def test_when_the_slot_leaves_only_the_first_attempt_is_counted() -> None:
    run = warm()
    run(SlotLeft("w-0"))
    troubles = run.state.jobs["j"].stages[0].troubles
    assert {index: t.failures for index, t in troubles.items()} == {2: {FailureKind.LOST: 1}}
    out = run(*worker("v", 1, depth=16))
    assert launches(out) == [(0, 2, 2, "v-0")]
    assert launches(run(written(0, 2, 2))) == [(0, 3, 2, "v-0")]  # what waited goes first, where there is room


def test_when_the_process_dies_only_the_first_attempt_is_blamed() -> None:
    run = warm()
    run(failed(0, 2, kind=FailureKind.DEATH))
    assert list(run.state.jobs["j"].stages[0].troubles) == [2]
    assert run(failed(0, 3, kind=FailureKind.LOST)) == []  # it was given back already
    assert launches(run(SlotLeft("w-0"))) == []


def test_an_attempt_that_never_began_is_not_counted() -> None:
    run = warm()
    out = run(TaskFailed(attempt(0, 5), FailureKind.LOST, slot_leaves=False, begun=False))
    assert launches(out) == []
    assert run.state.jobs["j"].stages[0].troubles == {}
    assert len(run.state.slots["w-0"].attempts) == 15


def test_a_lost_worker_gives_back_what_waited_there() -> None:
    run = warm()
    run(WorkerLost("w"))
    assert launches(run(*worker("v", 3))) == [(0, 2, 2, "v-0"), (0, 3, 2, "v-1"), (0, 4, 2, "v-2")]


def test_what_waits_behind_a_long_attempt_is_called_back() -> None:
    run = warm()
    out = run(TimePassed(), at=STALL_SECONDS)
    recalled = of(out, Cancel)
    assert [c.attempt.index for c in recalled] == list(range(3, 18))
    assert all(c.recalled for c in recalled)
    assert len(run.state.slots["w-0"].attempts) == 1
    assert launches(run(*worker("v", 2))) == [(0, 3, 2, "v-0"), (0, 4, 2, "v-1")]
    assert run(written(0, 3)) == [DiscardOutput(attempt(0, 3))]


def test_silence_of_a_worker_does_not_tell_of_its_attempts() -> None:
    run = Run(*worker("w", 1, depth=16, limits=(30.0, 60.0)), *job(1000))
    for index in range(2):
        finish(run, index, 0.001)
    for step in range(1, 5):
        assert of(run(TimePassed(), at=step * STALL_SECONDS), Cancel) == []
    run(Heartbeat("w", (run.state.slots["w-0"].attempts[0].id,)), at=1.1)
    assert len(of(run(TimePassed(), at=1.1 + STALL_SECONDS), Cancel)) == 15


def test_a_worker_that_speaks_may_say_next_what_was_waited_for() -> None:
    run = warm(count=2)
    late = 2 * STALL_SECONDS  # so late come the answers of both slots, and the first one's is heard first
    first, second = (slot.attempts[0].id for slot in run.state.slots.values())
    assert of(run(TaskFinished(first, False, seconds=0.001), at=late), Cancel) == []
    assert of(run(TaskFinished(second, False, seconds=0.001), at=late), Cancel) == []
    assert of(run(TimePassed(), at=late + STALL_SECONDS / 2), Cancel) == []
    second = run.state.slots["w-1"].attempts[0].id
    run(TaskFinished(run.state.slots["w-0"].attempts[0].id, False, seconds=0.001), at=late + STALL_SECONDS)
    recalled = of(run(TimePassed(), at=late + STALL_SECONDS + 0.02), Cancel)
    assert recalled and all(c.slot == "w-1" and c.attempt != second for c in recalled)


def test_nothing_is_called_back_while_attempts_come_and_go() -> None:
    run = warm()
    for step in range(1, 15):
        run.now = step * 0.1
        out = finish(run, step + 1, 0.001)
        assert of(out, Cancel) == []
        assert of(run(TimePassed()), Cancel) == []


def test_a_long_task_stops_the_sending_ahead_until_tasks_are_short_again() -> None:
    run = warm()
    run(TimePassed(), at=STALL_SECONDS)
    finish(run, 2, 5.0)
    assert len(run.state.slots["w-0"].attempts) == 1
    for _ in range(40):
        (first,) = [slot.attempts[0].id for slot in run.state.slots.values()]
        finish(run, first.index, 0.001, first.number)
    assert len(run.state.slots["w-0"].attempts) > 1


def test_another_job_gets_the_slot_when_it_is_its_turn() -> None:
    run = warm()
    run(*job(1000, name="k", priority=1))
    for index in range(2, 18):
        out = finish(run, index, 0.001)
    assert [c.attempt.job for c in of(out, Launch)] == ["k"]


def test_a_cancelled_job_cancels_all_that_waits() -> None:
    run = warm()
    out = run(JobCancelled("j"))
    assert len(of(out, Cancel)) == 16
    assert run.free == []


def test_nothing_is_sent_ahead_to_a_worker_that_leaves() -> None:
    run = warm()
    run(WorkerDraining("w"))
    for index in range(2, 18):
        assert launches(finish(run, index, 0.001)) == []


def test_nothing_is_expected_of_heartbeats_about_what_waits() -> None:
    run = warm()
    for second in range(1, 5):
        run(Heartbeat("w", (attempt(0, 2),), began=second * 0.01), at=second * 0.01)
    assert len(run.state.slots["w-0"].attempts) == 16


def test_a_vanished_first_attempt_gives_back_what_waits_behind_it() -> None:
    run = warm()
    run(Heartbeat("w", (), began=0.01), at=0.01)
    out = run(Heartbeat("w", (), began=0.02), at=0.02)
    assert len(of(out, Cancel)) == 16
    assert list(run.state.jobs["j"].stages[0].troubles) == [2]


def test_nothing_waits_behind_a_task_that_failed() -> None:
    run = warm(depth=4)
    run(failed(0, 2, kind=FailureKind.DEATH), SlotLeft("w-0"))
    run(*worker("v", 1, depth=4), at=5.0)
    assert [a.id for a in run.state.slots["v-0"].attempts] == [attempt(0, 2, 2)]


def test_an_attempt_that_never_began_costs_nothing_even_as_the_first_in_its_slot() -> None:
    run = Run(*worker("w", 2), *job(1))
    out = run(TaskFailed(attempt(0, 0), FailureKind.LOST, slot_leaves=True, begun=False))
    assert launches(out) == [(0, 0, 2, "w-1")]  # the worker is not avoided
    assert run.state.jobs["j"].stages[0].troubles == {}
