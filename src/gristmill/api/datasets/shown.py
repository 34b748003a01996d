"""A dataset as people see it: its steps, with the lines that built them. Nothing is computed for it."""

from __future__ import annotations

import html
from collections.abc import Iterator
from typing import TYPE_CHECKING

from gristmill.plan.logical import Exchange, Keep, Node, Pipe, Read, Union

if TYPE_CHECKING:
    from gristmill.runtime.views import JobView

_STEPS_SHOWN = 40


def steps_of(node: Node, depth: int = 0, last: tuple[str, str] = ("", "")) -> Iterator[tuple[int, str, str]]:
    """The steps that lead to a node, the last one first: depth in the tree, name, the user's line."""
    while True:
        name, where, children = _step(node)
        # One method of the user's may have made several nodes.
        if name and (name, where) != last:
            yield depth, name, where
            last = name, where
        if len(children) != 1:
            break
        node = children[0]
    for child in children:
        yield from steps_of(child, depth + 1, last)


def _step(node: Node) -> tuple[str, str, tuple[Node, ...]]:
    match node:
        case Read():
            paths = ", ".join(node.input.paths[:3]) + (", …" if len(node.input.paths) > 3 else "")
            return f"{node.name} {paths}".rstrip(), node.where, ()
        case Pipe():
            return node.call.name, node.call.where, node.children or node.sides
        case Union():
            return "union", "", node.children
        case Exchange():
            return node.name, node.where, (node.child,)
        case Keep():
            return f"kept: {node.kept.partition(':')[0]}" if node.kept else "", "", (node.child,)


def tree_of(node: Node) -> str:
    """The steps as text, a line each."""
    steps = list(steps_of(node))
    width = max(2 * depth + len(name) for depth, name, _ in steps)
    lines = [f"{'  ' * depth}{name}".ljust(width) + f"  {where}" for depth, name, where in steps[:_STEPS_SHOWN]]
    if len(steps) > _STEPS_SHOWN:
        lines.append(f"… and {len(steps) - _STEPS_SHOWN} more steps")
    return "\n".join(line.rstrip() for line in lines)


def chain_of(node: Node) -> str:
    """The steps in one line, in the order in which they are done; of several branches the first."""
    steps: list[str] = []
    depth_before = 0
    for depth, name, _ in steps_of(node):
        if depth < depth_before or len(steps) > _STEPS_SHOWN:
            steps.append("…")
            break
        steps.append(name)
        depth_before = depth
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
