"""What a dataset's tree holds, without running anything."""

from __future__ import annotations

from typing import Any

from gristmill.plan.logical import Exchange, Keep, Node, Pipe, Union


def nodes(dataset: Any) -> list[Node]:
    """All nodes of a tree, each once."""
    found: dict[int, Node] = {}

    def visit(node: Node) -> None:
        if id(node) in found:
            return
        found[id(node)] = node
        match node:
            case Pipe(children, _, sides):
                below = children + sides
            case Union(children):
                below = children
            case Exchange():
                below = (node.child, *((node.samples,) if node.samples else ()))
            case Keep():
                below = (node.child,)
            case _:
                below = ()
        for child in below:
            visit(child)

    visit(dataset._node)
    return list(found.values())


def exchanges(dataset: Any) -> list[Exchange]:
    """The exchanges of a tree."""
    return [node for node in nodes(dataset) if isinstance(node, Exchange)]
