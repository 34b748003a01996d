"""Tables for terminals and for pipes: rows in, lines out. Pure but for :func:`show_table`."""

from __future__ import annotations

import os
import re
import shutil
import sys
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, replace

import click

_GAP = "  "
_LEAST = 8  # columns that a cut text keeps


@dataclass(frozen=True)
class Column:
    """A column.

    Attributes:
        title: what stands above it.
        right: figures are set to the right.
        cut: its texts may be cut off where there is no room.
        wide: it is left out where there is no room at all; the higher, the sooner.
    """

    title: str
    right: bool = False
    cut: bool = False
    wide: int = 0


@dataclass(frozen=True)
class Cell:
    """A text.

    Attributes:
        text: what it says.
        colour: its colour; None: the terminal's.
        tail: its end says more than its beginning, as that of a path: that stays if it is cut.
    """

    text: str
    colour: str | None = None
    tail: bool = False


Row = Sequence[str | Cell]


def table(columns: Sequence[Column], rows: Sequence[Row], width: int | None = None) -> list[str]:
    """The lines of a table, with colours.

    Args:
        columns: from left to right. One that is empty in all rows is left out.
        rows: a cell for each column.
        width: columns of the terminal; None: nothing is cut off or left out.
    """
    cells = [[_cell(each) for each in row] for row in rows]
    shown = [at for at in range(len(columns)) if any(row[at].text for row in cells)]
    sizes = {at: max(_width(columns[at].title), *(_width(row[at].text) for row in cells)) for at in shown}
    if width is not None:
        shown = _fitting(columns, shown, sizes, width)
    head = _line([Cell(columns[at].title) for at in shown], shown, columns, sizes)
    return [click.style(head, dim=True), *(_line([row[at] for at in shown], shown, columns, sizes) for row in cells)]


def _fitting(columns: Sequence[Column], shown: list[int], sizes: dict[int, int], width: int) -> list[int]:
    """The columns that fit; texts that may be cut get narrower."""
    while True:
        excess = sum(sizes[at] + len(_GAP) for at in shown) - len(_GAP) - width
        if excess <= 0:
            return shown
        spare = {at: sizes[at] - max(_LEAST, len(columns[at].title)) for at in shown if columns[at].cut}
        if sum(max(0, each) for each in spare.values()) >= excess:
            for at in sorted(spare, key=lambda each: -sizes[each]):  # the widest first
                less = min(excess, max(0, spare[at]))
                sizes[at] -= less
                excess -= less
            return shown
        droppable = [at for at in shown if columns[at].wide]
        if not droppable:
            for at, each in spare.items():
                sizes[at] -= max(0, each)
            return shown
        shown = [at for at in shown if at != max(droppable, key=lambda each: columns[each].wide)]


def _line(cells: Sequence[Cell], shown: Sequence[int], columns: Sequence[Column], sizes: dict[int, int]) -> str:
    parts = []
    for cell, at in zip(cells, shown, strict=True):
        text = _cut(cell.text[::-1], sizes[at])[::-1] if cell.tail else _cut(cell.text, sizes[at])
        padding = " " * (sizes[at] - _width(text))
        text = click.style(text, fg=cell.colour) if cell.colour and text else text
        last = at == shown[-1] and not columns[at].right
        parts.append(padding + text if columns[at].right else text if last else text + padding)
    return _GAP.join(parts).rstrip()


def _cell(value: str | Cell) -> Cell:
    cell = Cell(value) if isinstance(value, str) else value
    return replace(cell, text=printable(cell.text))


def printable(text: str) -> str:
    """A text of somebody else's, without what could command the terminal."""
    return "".join(each if each.isprintable() else "\ufffd" for each in text)


_COMMANDS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def printable_lines(text: str) -> str:
    """Likewise of several lines: newlines and tabs stay, and what would go back in a line begins another."""
    return _COMMANDS.sub("\ufffd", text.replace("\r\n", "\n").replace("\r", "\n"))


def _width(text: str) -> int:
    return sum(_columns(each) for each in text)


def _columns(character: str) -> int:
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def _cut(text: str, size: int) -> str:
    if _width(text) <= size:
        return text
    used, kept = 0, ""
    for each in text:
        used += _columns(each)
        if used > size - 1:
            break
        kept += each
    return kept + "…"


def show_table(columns: Sequence[Column], rows: Sequence[Row]) -> None:
    """Print a table on stdout: as wide as the terminal, or whole and without colours where there is none."""
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    color = False if os.environ.get("NO_COLOR") else None
    click.echo("\n".join(table(columns, rows, width)), color=color)
