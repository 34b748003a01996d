"""A dataset as people see it: its steps, with the lines that built them. Nothing is computed for it."""

from __future__ import annotations

import html
from collections.abc import Iterator
from typing import TYPE_CHECKING

from gristmill.plan.cut import union_of
from gristmill.plan.logical import Exchange, Keep, Node, Pipe, Read, Union
from gristmill.plan.stages import InputSpec

if TYPE_CHECKING:
    from gristmill.runtime.views import JobView

_STEPS_SHOWN = 40
_PATHS_SHOWN = 3
_SENDS_WHOLE = ("broadcast_join", "broadcast_join_left", "broadcast_subtract", "cartesian")


def steps_of(root: Node) -> Iterator[tuple[int, str, str]]:
    """The steps that lead to a node, the last one first: depth in the tree, name, the user's line.

    What several steps are made of is shown once: a tree may have far more branches than nodes.
    """
    pending: list[tuple[Node, int, tuple[str, str], str]] = [(root, 0, ("", ""), "")]
    shown: set[int] = set()
    while pending:
        node, depth, last, remark = pending.pop()
        name, where, children = _step(node)
        is_again = node.number in shown
        if children:
            shown.add(node.number)
        if name and (name, where) != last:  # one method of the user's may have made several nodes
            yield depth, name + remark + (", as above" if is_again else ""), where
            last, remark = (name, where), ""
        if not is_again:
            whole = len(children) - len(node.sides) if isinstance(node, Pipe) else len(children)
            below = depth if len(children) == 1 else depth + 1
            for place in reversed(range(len(children))):
                is_sent = place >= whole and len(children) > 1
                pending.append((children[place], below, last, ", sent whole to every task" if is_sent else remark))


def _step(node: Node) -> tuple[str, str, tuple[Node, ...]]:
    match node:
        case Read():
            return _read(node), node.where, ()
        case Pipe(children, call, sides):
            shown = (*children, *sides) if call.how in _SENDS_WHOLE else children or sides
            return call.name, call.where, shown
        case Union():
            return "union", "", tuple(union_of(node))
        case Exchange():
            return node.name, node.where, (node.child,)
        case Keep():
            return f"kept: {node.kept.partition(':')[0]}" if node.kept else "", "", (node.child,)


def name_of(given: InputSpec) -> str:
    """An input as people name it."""
    if given.made:
        return "values at hand"
    return ", ".join(given.paths[:_PATHS_SHOWN]) + (", …" if len(given.paths) > _PATHS_SHOWN else "")


def _read(node: Read) -> str:
    """What is read, and what of it."""
    from gristmill.storage.read_options import ReadOptions

    given = node.input
    if given.made:
        return f"{node.name} ({given.made} part{'' if given.made == 1 else 's'})"
    paths = name_of(given)
    options = ReadOptions.from_pairs(given.options)
    wishes = [] if options.columns is None else [f"columns {', '.join(options.columns)}"]
    if options.filter:
        wishes.append("only " + " and ".join(map(str, options.filter)))
    return f"{node.name} {paths}" + (f" ({'; '.join(wishes)})" if wishes else "")


def tree_of(node: Node) -> str:
    """The steps as text, a line each."""
    steps = list(steps_of(node))
    width = max(2 * depth + len(name) for depth, name, _ in steps[:_STEPS_SHOWN])
    lines = [f"{'  ' * depth}{name}".ljust(width) + f"  {where}" for depth, name, where in steps[:_STEPS_SHOWN]]
    if len(steps) > _STEPS_SHOWN:
        lines.append(f"… and {len(steps) - _STEPS_SHOWN} more steps")
    return "\n".join(line.rstrip() for line in lines)


def chain_of(node: Node) -> str:
    """The steps in one line, in the order in which they are done; of several branches the first."""
    steps: list[str] = []
    last = ("", "")
    while len(steps) <= _STEPS_SHOWN:
        name, where, children = _step(node)
        if name and (name, where) != last:
            others = f" (with {len(children) - 1} more)" if len(children) > 1 else ""
            steps.append(name + others)
            last = name, where
        if not children:
            break
        node = children[0]
    else:
        steps.append("…")
    return " → ".join(reversed(steps))


def html_of(node: Node, kind: str) -> str:
    """The steps for a notebook."""
    rows = "".join(
        f'<tr><td style="text-align:left;padding-left:{depth + 0.5}em">{html.escape(name)}</td>'
        f'<td style="text-align:left"><code>{html.escape(where)}</code></td></tr>'
        for depth, name, where in list(steps_of(node))[:_STEPS_SHOWN]
    )
    title = html.escape(f"Dataset[{kind}]" if kind else "Dataset")
    return f"<div><b>{title}</b>, not computed<table>{rows}</table></div>"


def run_of(view: JobView) -> str:
    """How a job ran: its stages, in order, and what was adapted to what was measured."""
    lines = [f"as it ran last, in job {view.job}:"]
    for stage in view.stages:
        prefix = f"stage {stage.id} ({stage.name}): "
        lines.append(f"stage {stage.id}: {stage.name}, {stage.tasks:,} task{'' if stage.tasks == 1 else 's'}")
        notes = (note.removeprefix(prefix) for note in view.adaptations if note.startswith(prefix))
        lines += [f"  adapted: {note}" for note in notes]
    if view.hot_keys:
        lines.append("hot keys: " + ", ".join(f"{key} {rows:,} rows" for key, rows in view.hot_keys))
    return "\n".join(lines)


class Explanation(str):
    """Text whose repr is itself, so that it can be read at a prompt."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)
