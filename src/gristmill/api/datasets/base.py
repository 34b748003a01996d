"""What all methods of a dataset are made of: the tree so far, and how a node is put on top of it.

A :class:`~gristmill.api.datasets.dataset.Dataset` is made of mixins, each a file: they derive from :class:`Elements`. A
method that needs pairs says so by its ``self``: ``def keys(self: Elements[tuple[K, Any]]) -> Dataset[K]``, and mypy
refuses it on other datasets. Within such a method ``self._dataset`` has all methods.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, NoReturn, TypeVar, cast

from gristmill.api.datasets.where import call_site
from gristmill.errors import UnpicklableCode, UsageError
from gristmill.plan.functions import Call, ExchangeFunctions
from gristmill.plan.logical import Exchange, Node, Pipe

if TYPE_CHECKING:
    from gristmill.api.datasets.dataset import Dataset
    from gristmill.api.rows import Rows
    from gristmill.api.session import Session
    from gristmill.runtime.views import JobView

T = TypeVar("T")
U = TypeVar("U")
K = TypeVar("K")
V = TypeVar("V")
W = TypeVar("W")
T_co = TypeVar("T_co", covariant=True)


@dataclass(frozen=True)
class Partitioned:
    """Elements are (key, value) pairs that lie in the partition of their key.

    Attributes:
        partitions: how many; 0: it follows from the size of the job's input, and is the same for all such in one job.
        partitioner: the user's own function, or None for the stable hash of the key.
        ordered: whether each partition's pairs are still in the order of their keys.
    """

    partitions: int
    partitioner: Callable[[Any, int], int] | None = None
    ordered: bool = False

    def agrees(self, other: Partitioned | None) -> bool:
        """Whether equal keys lie in partitions of the same number."""
        return other is not None and self.partitions == other.partitions and self.partitioner == other.partitioner


class Elements(Generic[T_co]):
    """A dataset as its mixins see it."""

    _ran: JobView | None = None  # how the last action on it went

    def __init__(
        self, node: Node, session: Session | None = None, partitioned: Partitioned | None = None, kind: str = ""
    ) -> None:
        self._node = node
        self._session = session  # None: the default one, which is made at the first action
        self._partitioned = partitioned
        self._kind = kind  # the type of the elements, for people; empty if it is not known

    @property
    def _dataset(self) -> Dataset[T_co]:
        return cast("Dataset[T_co]", self)

    # Building nodes

    def _call(self, how: str, *arguments: Any, inputs: int = 1) -> Call:
        """A call of an operator of ``compute.pipes``; it is named after the method that the user called."""
        name, where = call_site()
        return Call(how, arguments, inputs, name=name, where=where)

    def _pipe(
        self,
        how: str,
        *arguments: Any,
        others: tuple[Elements[Any], ...] = (),
        sides: tuple[Node, ...] = (),
        keeps_keys: bool = False,
        kind: str = "",
    ) -> Dataset[Any]:
        """Put an operator on top that each task applies to its own elements.

        Args:
            how: the operator.
            arguments: what it takes.
            others: further datasets, cut into the same tasks, whose elements it takes as well.
            sides: what each task reads as a whole.
            keeps_keys: pairs come out with the keys that they had, in the order that they had.
            kind: the type of the elements that come out, for people.
        """
        call = self._call(how, *arguments, inputs=1 + len(others))
        node = Pipe((self._node, *(other._node for other in others)), call, sides)
        return self._derive(node, *others, partitioned=self._partitioned if keeps_keys else None, kind=kind)

    def _exchange(
        self, step: ExchangeFunctions, partitions: int | None = None, *, samples: Node | None = None
    ) -> Exchange:
        """The node that brings this dataset's pairs to the partitions of their keys: it gives groups.

        Raises:
            UsageError: ``partitions`` is not a number of partitions.
        """
        name, where = call_site()
        return Exchange(self._node, step, checked_partitions(partitions), samples, name, where)

    def _derive(
        self, node: Node, *others: Elements[Any], partitioned: Partitioned | None = None, kind: str = ""
    ) -> Dataset[Any]:
        """A dataset that stands for ``node``, made of this one and ``others``.

        Raises:
            UsageError: they belong to different sessions.
        """
        from gristmill.api.datasets.dataset import Dataset

        sessions = {id(each._session): each._session for each in (self, *others) if each._session is not None}
        if len(sessions) > 1:
            raise UsageError(
                "These datasets belong to different sessions. Make both with the same one: session.read_text(…), "
                "session.from_items(…)."
            )
        session = next(iter(sessions.values()), None)
        return Dataset(node, session, partitioned, kind)

    # Running

    def _rows(self, node: Node, first: int = 0, earlier: Rows | None = None) -> Rows:
        """Compute what ``node`` stands for, and wait for it. The job is named after the method that the user called.

        Args:
            node: what to compute.
            first: so many of its tasks are enough; 0: all.
            earlier: what fewer of them gave.
        """
        rows = self._runner.rows(node, call_site()[0], first, earlier)
        self._ran = rows.view
        return rows

    def _results(self, node: Node) -> Iterator[Any]:
        """Compute what ``node`` stands for now, and hand out its elements one by one, in their order."""
        return _elements_of(self._rows(node))

    @property
    def _runner(self) -> Session:
        from gristmill.api.session import default_session

        return self._session or default_session()

    # What must not be

    def __iter__(self) -> NoReturn:
        raise TypeError(
            "A Dataset is not iterated over by itself. Call iterate() for its elements one after another, take(n) for "
            "some, or collect() for a list of all."
        )

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        raise UnpicklableCode(
            "A dataset was used within a function that runs in a task, such as one given to map(). Tasks hold no "
            "datasets: join the two datasets instead, or collect() the small one first and use what comes back."
        )


def checked_partitions(partitions: int | None) -> int:
    """A number of partitions; 0 for None: it then follows from the size of the input.

    Raises:
        UsageError: it is not a positive whole number.
    """
    if partitions is None:
        return 0
    if not isinstance(partitions, int) or isinstance(partitions, bool) or partitions < 1:
        raise UsageError(f"A number of partitions must be a whole number, at least 1; this is {partitions!r}.")
    return partitions


def _elements_of(rows: Rows) -> Iterator[Any]:
    with rows:
        yield from rows
