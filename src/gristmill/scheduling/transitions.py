"""The states of a task, and every way from one to another, as data.

Whatever moves a task goes through :data:`TRANSITIONS`: a move that is not in the table is a bug, and raises. The
diagram in ``docs/architecture/task-states.generated.md`` is made from the same table.

The rules, in words:

* A task waits until every parent stage is whole: all its tasks done, all their blocks living. Then it is ready.
* Waiting and ready are stored as one state per task; which of the two it is, the stage's gate says. So a stage of
  a million tasks becomes ready in one move.
* A task that is done runs again only if its block is lost *and* something needs the block. If nothing does now,
  it is gone: it runs again when something does later.
* The exception: a task that has read a block which, made again, turned out to be another (its digest differs) runs
  again in any case, and so do its own readers if it makes something else in turn.
* A job that is resumed is held until all that was done is known. Then what nothing needs is as good as gone.
* When a job ends, its tasks are forgotten, whatever their state.
"""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple


class TaskState(IntEnum):
    """Where a task stands. Values are small integers: one byte a task."""

    WAITING = 0  # for a parent stage to be whole
    READY = 1  # it would run if a slot were free
    BACKING_OFF = 2  # failed; runs again after a pause
    RUNNING = 3  # one attempt runs, or waits in its slot; or two of them, in two slots
    DONE = 4  # an attempt was accepted; its block, if it has one, lives (or was freed for good)
    GONE = 5  # an attempt was accepted, its block was lost, and nothing needs it now


class Cause(IntEnum):
    """Why a task changes its state."""

    PARENTS_WHOLE = 0
    PARENT_BROKEN = 1
    LAUNCHED = 2
    FINISHED = 3
    FAILED = 4
    RETURNED = 5
    RESTED = 6
    BLOCK_WANTED = 7
    BLOCK_LOST = 8
    INPUT_CHANGED = 9
    RESTORED = 10
    RESTORED_GONE = 11


class Transition(NamedTuple):
    """One row of the table."""

    source: TaskState
    cause: Cause
    target: TaskState
    text: str  # for people, and for a diagram: no colon or semicolon


TRANSITIONS: tuple[Transition, ...] = (
    Transition(TaskState.WAITING, Cause.PARENTS_WHOLE, TaskState.READY, "every parent stage is whole"),
    Transition(TaskState.READY, Cause.PARENT_BROKEN, TaskState.WAITING, "a parent stage lost a block"),
    Transition(TaskState.READY, Cause.LAUNCHED, TaskState.RUNNING, "launched into a free slot"),
    Transition(TaskState.RUNNING, Cause.FINISHED, TaskState.DONE, "finished, and its output was accepted"),
    Transition(TaskState.RUNNING, Cause.FAILED, TaskState.BACKING_OFF, "failed, within the budget of its kind"),
    Transition(TaskState.RUNNING, Cause.RETURNED, TaskState.WAITING, "slot lost, or an input block gone or changed"),
    Transition(TaskState.BACKING_OFF, Cause.RESTED, TaskState.WAITING, "the pause is over"),
    Transition(TaskState.DONE, Cause.BLOCK_WANTED, TaskState.WAITING, "block lost, and still needed"),
    Transition(TaskState.DONE, Cause.BLOCK_LOST, TaskState.GONE, "block lost, not needed now"),
    Transition(TaskState.GONE, Cause.BLOCK_WANTED, TaskState.WAITING, "needed again"),
    Transition(TaskState.DONE, Cause.INPUT_CHANGED, TaskState.WAITING, "an input was made again and is not the same"),
    Transition(TaskState.GONE, Cause.INPUT_CHANGED, TaskState.WAITING, "an input was made again and is not the same"),
    Transition(TaskState.WAITING, Cause.RESTORED, TaskState.DONE, "done under an earlier coordinator"),
    Transition(TaskState.WAITING, Cause.RESTORED_GONE, TaskState.GONE, "done earlier, and its block is gone"),
)

_NEXT: tuple[tuple[TaskState | None, ...], ...] = tuple(
    tuple(
        next((row.target for row in TRANSITIONS if (row.source, row.cause) == (source, cause)), None) for cause in Cause
    )
    for source in TaskState
)


def follow(source: TaskState | int, cause: Cause) -> TaskState:
    """The state that ``cause`` leads to.

    Raises:
        AssertionError: the table has no such way, which is a bug of the scheduler.
    """
    target = _NEXT[source][cause]
    if target is None:
        raise AssertionError(f"a task that is {TaskState(source).name} cannot be {cause.name}")
    return target
