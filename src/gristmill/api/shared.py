"""Shared variables: values that all tasks may read (``broadcast``), and sums that all may add to (``accumulator``)."""

from __future__ import annotations

import secrets
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar, overload

from gristmill.errors import BroadcastDestroyed, UnpicklableCode, UsageError
from gristmill.plan.functions import accumulate

if TYPE_CHECKING:
    from gristmill.api.datasets.base import Elements
    from gristmill.api.datasets.dataset import Dataset

__all__ = ["Accumulator", "Broadcast", "accumulator", "broadcast"]

T = TypeVar("T")
Destroyer = Callable[[str], None]


# Broadcasts


class Broadcast(Generic[T]):
    """A value that functions in tasks may read; made by :func:`broadcast`.

    Functions that use it hold a reference, not the value: that is sent to each machine once, however many jobs use it,
    and loaded once in each of its processes.
    """

    _in_task = False

    def __init__(self, value: T) -> None:
        import cloudpickle

        from gristmill.runtime.files.blobs import digest_of

        try:
            # Now rather than when a job starts: changes to the value after this are not seen, wherever it runs.
            self._data = bytes(cloudpickle.dumps(value))
        except Exception as error:  # a value's own __reduce__ or __getstate__ may raise anything
            raise UnpicklableCode(
                f"A value of type {type(value).__qualname__} cannot be sent to tasks: {type(error).__name__}: {error}."
            ) from error
        self._value = value
        self._digest = digest_of(self._data)
        self._destroyed = False
        self._destroyers: list[weakref.WeakMethod[Destroyer]] = []  # of the sessions that hold it

    @property
    def digest(self) -> str:
        """What tells its value from others: a SHA-256."""
        return self._digest

    @property
    def value(self) -> T:
        """The value. It is the same for all tasks: do not change it.

        In a task it is loaded when it is first asked for in the process.

        Raises:
            BroadcastDestroyed: it was destroyed.
        """
        if self._in_task:
            from gristmill.runtime.executor.broadcasts import value_of

            found: T = value_of(self._digest)
            return found
        if self._destroyed:
            raise BroadcastDestroyed(_DESTROYED)
        return self._value

    def destroy(self) -> None:
        """Delete the value wherever it was sent to. Functions that use it cannot run any more. May be called again.

        Raises:
            UsageError: in a task.
        """
        if self._in_task:
            raise UsageError("A broadcast is destroyed by the program that made it, not in a task.")
        self._destroyed = True
        self._data = b""
        self._value = None  # type: ignore[assignment]  # nobody gets to see it
        destroyers, self._destroyers = self._destroyers, []
        for reference in destroyers:
            if (destroy := reference()) is not None:
                destroy(self._digest)

    def __reduce__(self) -> tuple[Any, ...]:
        if self._in_task:
            return _broadcast_in_task, (self._digest,)
        if self._destroyed:
            raise UnpicklableCode(_DESTROYED)
        used = _used.get()
        if used is None:
            raise UnpicklableCode(
                "A broadcast can be used by functions of datasets, such as one given to map(), and nowhere else: not "
                "within elements, and not by a MapReduce class."
            )
        used[self._digest] = self
        return _broadcast_in_task, (self._digest,)

    def __repr__(self) -> str:
        if self._in_task:
            return "<Broadcast in a task>"
        return f"<Broadcast of {type(self._value).__name__}{', destroyed' if self._destroyed else ''}>"


def _broadcast_in_task(digest: str) -> Broadcast[Any]:
    found: Broadcast[Any] = Broadcast.__new__(Broadcast)
    found._digest, found._in_task = digest, True
    return found


_DESTROYED = "This broadcast was destroyed by destroy(): no function that uses it can run any more. Make another."
_used: ContextVar[dict[str, Broadcast[Any]] | None] = ContextVar("gristmill_broadcasts_used", default=None)


@contextmanager
def broadcasts_used() -> Iterator[Mapping[str, Broadcast[Any]]]:
    """Within, broadcasts can be pickled; those that were, by their digests."""
    used: dict[str, Broadcast[Any]] = {}
    token = _used.set(used)
    try:
        yield used
    finally:
        _used.reset(token)


def data_of(broadcast: Broadcast[Any], destroy: Destroyer) -> bytes:
    """What is to be sent of a broadcast.

    Args:
        broadcast: the broadcast.
        destroy: a method that deletes what was sent, by its digest.

    Raises:
        BroadcastDestroyed: it was destroyed.
    """
    if broadcast._destroyed:
        raise BroadcastDestroyed(_DESTROYED)
    broadcast._destroyers.append(weakref.WeakMethod(destroy))
    return broadcast._data


@overload
def broadcast(value: Elements[T]) -> Dataset[T]: ...  # type: ignore[overload-overlap]
@overload
def broadcast(value: T) -> Broadcast[T]: ...
def broadcast(value: Any) -> Any:
    """Send something to all tasks, once to each machine.

    A value becomes a :class:`Broadcast`: functions in tasks read its ``value``. Use it instead of the value itself if
    that is large, for what a function holds is sent with every job and loaded by every task::

        names = gm.broadcast({"de": "Germany", "fr": "France"})
        countries = orders.map(lambda order: names.value[order["country"]])

    The value is taken as it is now, and must not be changed by tasks.

    A dataset becomes a dataset that is marked as small: a join that is given it sends it whole to every task, and the
    other side needs no exchange: ``large.join(broadcast(small))``. All of it must fit in the memory of one task. The
    mark is for the join that is given this very dataset, not for what is made of it. It is of no use where a join also
    wants those of the small side that find no partner, and so for either side of an ``outer_join``.

    Raises:
        UnpicklableCode: the value cannot travel to another process.
    """
    from gristmill.api.datasets.base import Elements

    if isinstance(value, Elements):
        from gristmill.api.datasets.joins import broadcast as mark

        return mark(value)
    return Broadcast(value)


# Accumulators


class Accumulator:
    """A sum that functions in tasks add to, and that the program which made it reads; made by :func:`accumulator`."""

    _in_task = False

    def __init__(self, initial: int | float = 0) -> None:
        self._id = secrets.token_hex(8)
        self._value = _number(initial)
        self._lock = threading.Lock()
        _accumulators[self._id] = self

    @property
    def value(self) -> int | float:
        """The initial value, what was added here, and what was added in tasks of jobs that are over.

        Raises:
            UsageError: in a task.
        """
        if self._in_task:
            raise UsageError(
                "The value of an accumulator cannot be read in a task: no task knows what the others add. Read it in "
                "the program that made it, when the job is over."
            )
        return self._value

    def add(self, n: int | float) -> None:
        """Add a number. In a task, it counts when the task's job is over."""
        number = n if type(n) in (int, float) else _number(n)
        if self._in_task:
            accumulate(self._id, number)
            return
        with self._lock:
            self._value += number

    def __iadd__(self, n: int | float) -> Self:
        self.add(n)
        return self

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, _memo: Any) -> Self:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return _accumulator_in_task, (self._id,)

    def __repr__(self) -> str:
        return "<Accumulator in a task>" if self._in_task else f"<Accumulator {self._value}>"


def _accumulator_in_task(id: str) -> Accumulator:
    found = Accumulator.__new__(Accumulator)
    found._id, found._in_task = id, True
    return found


_accumulators: weakref.WeakValueDictionary[str, Accumulator] = weakref.WeakValueDictionary()


def accumulator(initial: int | float = 0) -> Accumulator:
    """A sum that functions in tasks add to::

        broken = gm.accumulator()

        def parse(line):
            try:
                return [json.loads(line)]
            except ValueError:
                broken.add(1)
                return []

        records = gm.read_text("logs/").flat_map(parse)
        print(records.count(), broken.value)

    Each task of a job counts once, whatever is tried again, run twice or lost; the attempts that failed count nothing.
    The sums of tasks are added in the tasks' order, so that sums of floats are the same each time, too.

    A job adds what its own tasks have added, when it is over; also one that has failed, or was cancelled: then it is
    what the tasks added that were done by then. An action that runs a dataset again adds again. What is kept
    (``cache``, ``persist``) is not run again, and if a part of it is lost and made again, that does not count a second
    time. ``sort_by`` of what is read from files, and no more than mapped or filtered, runs the functions twice on the
    first elements of each split, where it takes samples: keep it before, or count after the sort.

    Raises:
        UsageError: ``initial`` is not a number.
    """
    return Accumulator(initial)


def tell_accumulators(accumulated: Mapping[str, int | float]) -> None:
    """A job is over, and its tasks have added this."""
    for id, n in accumulated.items():
        if (found := _accumulators.get(id)) is not None:
            found.add(n)


def _number(n: Any) -> int | float:
    """A number as Python has it; also one of NumPy's."""
    if isinstance(n, int):
        return int(n)
    if isinstance(n, float):
        return float(n)
    value = n.item() if hasattr(n, "item") else None
    if isinstance(value, (int, float)):
        return value
    raise UsageError(f"An accumulator adds whole numbers and floats, not {n!r}, of type {type(n).__name__}.")
