"""``Dataset``: elements that are computed when an action asks for them."""

from __future__ import annotations

from gristmill.api.datasets.actions import Actions
from gristmill.api.datasets.base import T_co
from gristmill.api.datasets.border import with_short_tracebacks
from gristmill.api.datasets.joins import Joins
from gristmill.api.datasets.keeping import Keeping
from gristmill.api.datasets.keyed import Keyed
from gristmill.api.datasets.narrow import Narrow
from gristmill.api.datasets.numbering import Numbering
from gristmill.api.datasets.order import Order
from gristmill.api.datasets.sets import Sets
from gristmill.api.datasets.shown import Explanation, chain_of, html_of, name_of, run_of, tree_of
from gristmill.api.datasets.writing import Writing


@with_short_tracebacks
class Dataset(
    Narrow[T_co],
    Keyed[T_co],
    Joins[T_co],
    Sets[T_co],
    Order[T_co],
    Numbering[T_co],
    Keeping[T_co],
    Actions[T_co],
    Writing[T_co],
):
    """Elements of any kind, in tasks, in an order that is always the same.

    A dataset is made of files or of values at hand (see :class:`~gristmill.api.datasets.sources.Sources`), and of other
    datasets by *transformations*, which compute nothing: they say what is to be done. *Actions* do it, and bring a
    result here or write it. The elements of a dataset never change, so many others may be made of it; each action
    computes it anew, unless it is kept (see ``cache``).

    Functions that are given to methods run in other processes, some times more than once: what they change outside of
    themselves is not seen here. They must not use datasets.
    """

    def explain(self) -> str:
        """The plan as text: the steps with the lines that built them, and the stages that they will run in.

        After an action on this dataset it also tells how that one ran: with how many tasks, and what was adapted to
        the sizes that were measured, and why.
        """
        from gristmill.plan.cut import cut
        from gristmill.plan.explain import explain
        from gristmill.plan.stages import RowsSink

        made = cut(self._node, RowsSink())
        stages = explain(made.plan, names=[name_of(given) for given in made.inputs])
        ran = "" if self._ran is None else f"\n\n{run_of(self._ran)}"
        return Explanation(f"{tree_of(self._node)}\n\n{stages}{ran}")

    def __repr__(self) -> str:
        kind = f"[{self._kind}]" if self._kind else ""
        return f"<Dataset{kind}, not computed: {chain_of(self._node)}>"

    def _repr_html_(self) -> str:
        return html_of(self._node, self._kind)
