"""Transformations that need no keys: of each element, of each task's elements, and of where elements lie."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from gristmill.api.datasets.base import Elements, T_co, U, checked_partitions
from gristmill.api.datasets.kinds import kind_of_result
from gristmill.errors import UsageError
from gristmill.plan.functions import ExchangeFunctions
from gristmill.plan.logical import Union

if TYPE_CHECKING:
    from gristmill.api.datasets.dataset import Dataset

_BATCH_ROWS = 4096


class Narrow(Elements[T_co]):
    """See :class:`~gristmill.api.datasets.dataset.Dataset`."""

    def map(self, function: Callable[[T_co], U]) -> Dataset[U]:
        """One element for each: what ``function`` returns. The order stays.

        Args:
            function: called with an element.
        """
        return self._pipe("map", checked(function, "map"), kind=kind_of_result(function))

    def flat_map(self, function: Callable[[T_co], Iterable[U]]) -> Dataset[U]:
        """Any number of elements for each: those of the iterable that ``function`` returns. The order stays.

        Args:
            function: called with an element; returns a list or another iterable, or is a generator function.
        """
        return self._pipe("flat_map", checked(function, "flat_map"))

    def filter(self, function: Callable[[T_co], Any]) -> Dataset[T_co]:
        """The elements for which ``function`` returns something true. The order stays."""
        return self._pipe("filter", checked(function, "filter"), keeps_keys=True, kind=self._kind)

    def map_partitions(self, function: Callable[[Iterator[T_co]], Iterable[U]]) -> Dataset[U]:
        """What ``function`` makes of all elements of each task.

        It is called once in each task, with an iterator over the task's elements; what it returns is iterated over as
        it is needed, so a generator function never holds more than it wants to.
        """
        return self._pipe("map_partitions", checked(function, "map_partitions"))

    def map_batches(
        self,
        function: Callable[[Any], Any],
        *,
        batch_size: int = _BATCH_ROWS,
        format: Literal["arrow", "pandas"] = "arrow",
    ) -> Dataset[dict[str, Any]]:
        """What ``function`` makes of batches of elements, as dicts by the names of the columns. The order stays.

        Columns of a batch are the keys of dicts; the fields of dataclasses and namedtuples; ``_1``, ``_2``, … of
        tuples; and ``value`` of anything else. Elements of one batch must be alike.

        Args:
            function: takes a ``pyarrow.RecordBatch``, or a ``pandas.DataFrame``, and returns one (a table is fine too),
                or an iterable of such. It may have other columns and another number of rows.
            batch_size: at most so many elements come in one batch, always of one task.
            format: ``"arrow"`` or ``"pandas"``: what ``function`` takes. It may return either.

        Raises:
            UsageError: there is no such format, or the size is no positive number.
        """
        if format not in ("arrow", "pandas"):
            raise UsageError(f"map_batches() knows the formats 'arrow' and 'pandas', and not {format!r}.")
        if not isinstance(batch_size, int) or batch_size < 1:
            raise UsageError(f"batch_size must be a whole number, at least 1; this is {batch_size!r}.")
        return self._pipe("map_batches", checked(function, "map_batches"), batch_size, format, kind="dict")

    def glom(self) -> Dataset[list[T_co]]:
        """A list of the elements of each task: one element a task, which must fit in its memory."""
        return self._pipe("glom", kind=f"list[{self._kind}]" if self._kind else "list")

    def sample(self, fraction: float, seed: int = 0, *, with_replacement: bool = False) -> Dataset[T_co]:
        """A random part of the elements, in their order. The same seed takes the same elements.

        Args:
            fraction: the chance of each element to be taken, from 0 to 1.
            seed: another one takes others.
            with_replacement: an element may come several times, ``fraction`` times on average, which may be over 1.

        Raises:
            UsageError: ``fraction`` is not possible.
        """
        if not fraction >= 0 or (fraction > 1 and not with_replacement):
            allowed = "at least 0" if with_replacement else "from 0 to 1"
            raise UsageError(f"The fraction of a sample must be {allowed}; this is {fraction!r}.")
        if isinstance(self._node, Union):  # parts of a union's children have the same numbers, and shall differ
            parts = [self._derive(child) for child in self._node.children]
            sampled = [
                part._pipe("sample", fraction, f"{seed}.{place}", with_replacement)._node
                for place, part in enumerate(parts)
            ]
            return self._derive(Union(tuple(sampled)), kind=self._kind)
        return self._pipe("sample", fraction, str(seed), with_replacement, keeps_keys=True, kind=self._kind)

    def pipe(
        self, command: str | Sequence[str], env: Mapping[str, str] | None = None, *, check: bool = True
    ) -> Dataset[str]:
        """The lines that a program writes to its standard output. It is run once in each task, as a filter of lines.

        Each element goes to its standard input as a line, as ``str()`` says; its output is read as UTF-8, and what is
        not is kept as Python's surrogateescape keeps it. What it writes to standard error goes to the task's log.

        Args:
            command: the program with its arguments: a list, or one text that is cut as a shell does. No shell runs.
            env: variables to set in its environment.
            check: whether the job fails if the program ends with an exit code that is not 0.
        """
        import shlex

        words = shlex.split(command) if isinstance(command, str) else [str(word) for word in command]
        if not words:
            raise UsageError("pipe() needs a program to run, such as pipe('sort -u').")
        return self._pipe("command", tuple(words), dict(env or {}), check, kind="str")

    def union(self: Elements[U], *others: Elements[U]) -> Dataset[U]:
        """All elements of this dataset, then all of the others, one after another. Nothing is left out."""
        node = Union((self._node, *(other._node for other in others)))
        kinds = {self._kind, *(other._kind for other in others)}
        return self._derive(node, *others, kind=kinds.pop() if len(kinds) == 1 else "")

    def repartition(self, partitions: int) -> Dataset[T_co]:
        """The same elements, dealt out evenly to so many tasks. Their order becomes another, always the same one.

        Raises:
            UsageError: ``partitions`` is no positive number.
        """
        return self._moved("spread", checked_partitions(partitions))

    def coalesce(self, partitions: int) -> Dataset[T_co]:
        """The same elements in the same order in at most so many tasks: neighbours are put together.

        Where there are fewer tasks already, what comes out is as many with elements, and others without.

        Raises:
            UsageError: ``partitions`` is no positive number.
        """
        return self._moved("gather", checked_partitions(partitions))

    def _moved(self, how: str, partitions: int) -> Dataset[T_co]:
        keyed = self._pipe(how, partitions)
        exchange = keyed._exchange(ExchangeFunctions(partitioner=_itself), partitions)
        return keyed._derive(exchange)._pipe("ungather", kind=self._kind)


def checked(function: Any, method: str) -> Any:
    """A function that a method was given.

    Raises:
        UsageError: it cannot be called.
    """
    if not callable(function):
        raise UsageError(f"{method}() takes a function; {function!r:.100} is none.")
    return function


def _itself(key: int, _partitions: int) -> int:
    return key
