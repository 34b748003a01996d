"""Where the pairs of datasets lie, and how equal keys are brought together with as few exchanges as can be."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gristmill.api.datasets.base import Elements, Partitioned, checked_partitions
from gristmill.plan.functions import ExchangeFunctions, Fold

if TYPE_CHECKING:
    from gristmill.api.datasets.dataset import Dataset


@dataclass(frozen=True)
class KeyPartitioner:
    """A partitioner of what a user's function makes of a key. Two of one function agree."""

    function: Callable[[Any], int]

    def __call__(self, key: Any, partitions: int) -> int:
        """Where a key goes; whoever calls this refuses what is no int."""
        made = self.function(key)
        return made % partitions if isinstance(made, int) else made


def target_of(datasets: Sequence[Elements[Any]], partitions: int | None) -> Partitioned:
    """How the groups of some datasets are to lie: as most of their pairs lie already.

    Args:
        datasets: of pairs.
        partitions: how many the user wants; None if he did not say.

    Raises:
        UsageError: that is no number of partitions.
    """
    wanted = checked_partitions(partitions)
    known = [each._partitioned for each in datasets if each._partitioned is not None and each._partitioned.ordered]
    fitting = [each for each in known if partitions is None or each.partitions == wanted]
    return max(fitting, key=lambda each: each.partitions, default=Partitioned(wanted, ordered=True))


def lies_as(dataset: Elements[Any], target: Partitioned) -> bool:
    """Whether a dataset's pairs can be grouped where they lie."""
    lies = dataset._partitioned
    return lies is not None and lies.ordered and lies.agrees(target)


def grouped(dataset: Elements[Any], target: Partitioned, fold: Fold | None = None) -> Dataset[Any]:
    """The groups of a dataset's pairs, with an exchange only if it is needed. They are for one operator's use.

    Args:
        dataset: of pairs.
        target: where they are to lie.
        fold: what an exchange may do with the values on their way.
    """
    if lies_as(dataset, target):
        return dataset._pipe("regroup")
    step = ExchangeFunctions(fold=fold, partitioner=target.partitioner)
    return dataset._derive(dataset._exchange(step, target.partitions or None))


def side_by_side(
    how: str, *arguments: Any, sides: Sequence[Elements[Any]], partitions: int | None, folds: Sequence[Fold | None] = ()
) -> Dataset[Any]:
    """What an operator makes of the groups of several datasets.

    Args:
        how: the operator.
        arguments: what it takes.
        sides: datasets of pairs.
        partitions: how many the user wants; None if he did not say.
        folds: for each side: see ``grouped``.

    Raises:
        UsageError: ``partitions`` is no number of partitions, or the sides belong to different sessions.
    """
    target = target_of(sides, partitions)
    first, *others = map(grouped, sides, [target] * len(sides), folds or [None] * len(sides))
    made = first._pipe(how, *arguments, others=tuple(others))
    made._partitioned = target
    return made


def keep_first(first: Any, _other: Any) -> Any:
    """Of two values, the one that came first."""
    return first


FIRST = Fold(None, keep_first, keep_first)
"""For keys whose values do not matter."""
