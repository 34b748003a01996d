"""For how long a task could have run before there was a slot for it."""

from __future__ import annotations

from scheduler_run import Run, done, failed, job, slots, worker

from gristmill.scheduling.commands import Cancel, Command, Launch, WakeAt
from gristmill.scheduling.events import SlotJoined, SlotLeft, TaskFinished, TimePassed
from gristmill.scheduling.launching import STALL_SECONDS


def waits(commands: list[Command]) -> list[tuple[int, int, int, float]]:
    """What was launched, with how long it had waited: stage, index, number, seconds."""
    launched = (command for command in commands if isinstance(command, Launch))
    return [(*one.attempt[1:], round(one.waited_seconds, 3)) for one in launched]


def test_tasks_wait_for_a_slot_since_their_stage_is_open() -> None:
    run = Run(*slots(1))
    assert waits(run(*job(2, 2), at=5.0)) == [(0, 0, 1, 0.0)]
    assert waits(run(done(0, 0), at=8.0)) == [(0, 1, 1, 3.0)]
    assert waits(run(done(0, 1), at=9.0)) == [(1, 0, 1, 0.0)], "what it reads was not there before"
    assert waits(run(done(1, 0), at=9.5)) == [(1, 1, 1, 0.5)]


def test_the_pause_after_a_failure_is_no_wait_for_a_slot() -> None:
    run = Run(*slots(1), *job(2))
    assert waits(run(failed(0, 0), at=1.0)) == [(0, 1, 1, 1.0)]
    rested = max(command.when for command in run.history if isinstance(command, WakeAt))
    assert waits(run(TimePassed(), at=rested)) == []
    assert waits(run(done(0, 1), at=7.0)) == [(0, 0, 2, round(7.0 - rested, 3))]


def test_what_was_lost_can_run_again_at_once() -> None:
    run = Run(*slots(1), *job(1))
    run(SlotLeft("w-0"), at=4.0)
    assert waits(run(SlotJoined("w-1", "w"), at=6.0)) == [(0, 0, 2, 2.0)]


def test_what_is_called_back_has_waited_all_the_time() -> None:
    run = Run(*worker("w", 1, depth=16), *job(40))
    for index in range(2):
        [slot] = run.state.slots.values()
        assert slot.attempt is not None
        run(TaskFinished(slot.attempt, False, seconds=0.001), at=0.1 * (index + 1))
    recalled = [one for one in run(TimePassed(), at=0.2 + STALL_SECONDS) if isinstance(one, Cancel)]
    assert recalled and all(one.recalled for one in recalled)
    [(*_, waited)] = waits(run(SlotJoined("v-0", "v"), at=3.0))
    assert waited == 3.0
