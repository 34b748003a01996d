"""The plan of a job as a picture: its stages in layers from left to right, and what each reads. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gristmill.runtime.figures import finished, fraction_done
from gristmill.runtime.views import JobView, StageView
from gristmill.service.page.figures import count, percent, size

WIDTH = 204
HEIGHT = 74
_BETWEEN = 64  # layers
_ROW = 94
_MARGIN = 2
_NAME_CHARACTERS = 24
_SWEEPS = 4


@dataclass(frozen=True)
class Node:
    """A stage, and where it is drawn."""

    id: int
    x: int
    y: int
    name: str
    whole_name: str
    state: str  # waiting, running, done or stopped
    fraction: float
    tasks: str
    detail: str

    @property
    def filled(self) -> int:
        """The pixels of its bar."""
        return round((WIDTH - 24) * self.fraction)

    @property
    def says(self) -> str:
        """All of it in words, for those who do not see the picture."""
        return f"{self.whole_name}: {self.state}, {self.tasks}, {percent(self.fraction)}"


@dataclass(frozen=True)
class Edge:
    """A stage reads another."""

    path: str
    live: bool


@dataclass(frozen=True)
class Graph:
    """The picture, in pixels."""

    width: int
    height: int
    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]


def graph(view: JobView, parents: Mapping[int, Sequence[int]]) -> Graph:
    """The stages of a job.

    Args:
        view: how they stand.
        parents: which stages each one reads, as far as that is known; else it reads the one before.
    """
    stages = {stage.id: stage for stage in view.stages}
    reads = {id: _parents(stage, parents, stages) for id, stage in stages.items()}
    layers = _ordered(_layers(reads), reads)
    tallest = max((len(layer) for layer in layers), default=1)
    places: dict[int, tuple[int, int]] = {}
    for column, layer in enumerate(layers):
        top = _MARGIN + (tallest - len(layer)) * _ROW // 2
        for row, id in enumerate(layer):
            places[id] = _MARGIN + column * (WIDTH + _BETWEEN), top + row * _ROW
    over = view.state.is_final
    nodes = tuple(_node(stages[id], places[id], view) for id in sorted(places))
    edges = tuple(
        Edge(_curve(places[parent], places[id]), not over and stages[id].running > 0)
        for id in sorted(reads)
        for parent in reads[id]
    )
    columns = max(1, len(layers))
    return Graph(
        2 * _MARGIN + columns * WIDTH + (columns - 1) * _BETWEEN,
        2 * _MARGIN + (tallest - 1) * _ROW + HEIGHT,
        nodes,
        edges,
    )


def _parents(stage: StageView, parents: Mapping[int, Sequence[int]], stages: Mapping[int, StageView]) -> list[int]:
    if stage.id in parents:
        return [id for id in dict.fromkeys(parents[stage.id]) if id in stages and id != stage.id]
    return [stage.id - 1] if stage.reads_shuffle and stage.id - 1 in stages else []


def _layers(reads: Mapping[int, Sequence[int]]) -> list[list[int]]:
    """Each stage is one to the right of the last that it reads."""
    depth: dict[int, int] = {}

    def of(id: int, below: frozenset[int]) -> int:
        if id not in depth:
            some = [of(parent, below | {id}) for parent in reads[id] if parent not in below]
            depth[id] = 1 + max(some, default=-1)
        return depth[id]

    for id in reads:
        of(id, frozenset((id,)))
    layers: list[list[int]] = [[] for _ in range(1 + max(depth.values(), default=-1))]
    for id in sorted(depth):
        layers[depth[id]].append(id)
    return layers


def _ordered(layers: list[list[int]], reads: Mapping[int, Sequence[int]]) -> list[list[int]]:
    """Within its layer each stage is near those that it reads, and that read it: few lines cross."""
    readers: dict[int, list[int]] = {}
    for id, some in reads.items():
        for parent in some:
            readers.setdefault(parent, []).append(id)
    for sweep in range(_SWEEPS):
        near = reads if sweep % 2 == 0 else readers
        row = {id: number - len(layer) / 2 for layer in layers for number, id in enumerate(layer)}
        for layer in layers:
            layer.sort(key=lambda id: (_mean([row[one] for one in near.get(id, ())], row[id]), id))
    return layers


def _mean(rows: Sequence[float], otherwise: float) -> float:
    return sum(rows) / len(rows) if rows else otherwise


def _node(stage: StageView, place: tuple[int, int], view: JobView) -> Node:
    over = view.state.is_final
    whole = finished(stage, view.state.value == "succeeded")
    busy = stage.running or stage.done
    state = "done" if whole else "stopped" if over and busy else "running" if busy and not over else "waiting"
    tasks = f"{count(stage.done)} of {count(stage.tasks)} {'task' if stage.tasks == 1 else 'tasks'}"
    if stage.running and not over:
        tasks = f"{count(stage.done)} of {count(stage.tasks)}"
        tasks += f" · {count(stage.running)} running"
    moved = f"{count(stage.records_in)} records · {size(stage.bytes_in)}" if stage.records_in else ""
    fraction = fraction_done(stage, view.state.value == "succeeded")
    name = stage.name if len(stage.name) <= _NAME_CHARACTERS else f"{stage.name[: _NAME_CHARACTERS - 1]}…"
    return Node(stage.id, *place, name, stage.name, state, fraction, tasks, moved)


def _curve(start: tuple[int, int], end: tuple[int, int]) -> str:
    x1, y1 = start[0] + WIDTH, start[1] + HEIGHT // 2
    x2, y2 = end[0], end[1] + HEIGHT // 2
    bend = (x2 - x1) // 2
    return f"M{x1} {y1}C{x1 + bend} {y1} {x2 - bend} {y2} {x2} {y2}"
