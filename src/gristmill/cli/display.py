"""Progress on the screen: bars on a terminal, a line every 30 seconds elsewhere. Only effects; see ``progress``."""

from __future__ import annotations

import os
import sys
import threading
import time
from types import TracebackType
from typing import TYPE_CHECKING, Self, TextIO

from gristmill.cli.progress import Bar, Clock, bars, plain_line, summary_lines, summary_title, trouble
from gristmill.runtime.views import JobView

if TYPE_CHECKING:
    from rich.console import RenderableType

    from gristmill.api.messages import JobStatus

# A job that is over sooner than this needs no bars, and does not pay for loading them.
_BARS_AFTER_SECONDS = 0.4
_REFRESH_SECONDS = 0.1
_LINE_EVERY_SECONDS = 30.0
_JOIN_SECONDS = 2.0
_WIDE = 100  # columns of the terminal from which on everything is shown
_MEDIUM = 72
_INPUTS_SHOWN = 5


class ProgressDisplay:
    """An observer of one job that shows how it goes, from a thread of its own.

    Args:
        stream: where to; stderr, so that stdout stays clean for data.
        live: whether bars may be drawn there. ``None`` finds out.
        transient: whether they vanish at the end.
        first: what is being done until there is a job to be shown.

    Attributes:
        first: the same; it may be changed.
    """

    def __init__(
        self, stream: TextIO | None = None, live: bool | None = None, *, transient: bool = False, first: str = ""
    ) -> None:
        self._transient = transient
        self.first = first
        self._stream = self._drawn = stream or sys.stderr
        self._live = can_draw(self._stream) if live is None else live
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._show, name="gristmill-progress", daemon=True)
        self._clock = Clock()
        self.view: JobView | None = None

    def __call__(self, view: JobView) -> None:
        """Take note of how the job stands; called by the coordinator, returns at once."""
        self._clock = self._clock.after(view)
        self.view = view

    def __enter__(self) -> Self:
        if self._live:
            self._drawn = own_copy(self._stream)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join(_JOIN_SECONDS)

    def _show(self) -> None:
        if not self._live:
            self._print_lines()
            return
        if not self._stop.wait(_BARS_AFTER_SECONDS):
            self._draw_bars()
        if self._drawn is not self._stream:
            self._drawn.close()

    def _print_lines(self) -> None:
        while not self._stop.wait(_LINE_EVERY_SECONDS):
            if self.view is not None:
                print(plain_line(self.view, self._clock), file=self._stream, flush=True)
            elif self.first:
                print(self.first, file=self._stream, flush=True)

    def _draw_bars(self) -> None:
        from rich.console import Console
        from rich.live import Live
        from rich.text import Text

        console = Console(file=self._drawn)
        # stdout is left alone: it may be the result. What user code prints to stderr appears above the bars.
        with Live(
            console=console,
            auto_refresh=False,
            redirect_stdout=False,
            redirect_stderr=True,
            transient=self._transient,
        ) as live:
            while True:
                stopped = self._stop.wait(_REFRESH_SECONDS)
                view = self.view
                if view is not None:
                    table = render(bars(view, self._clock), trouble(view), console.width)
                    live.update(table, refresh=True)
                elif self.first:
                    live.update(Text("" if stopped else self.first, style="dim"), refresh=True)
                if stopped:
                    return


def own_copy(stream: TextIO) -> TextIO:
    """The same stream by a descriptor of its own: what libraries do to that of stderr meanwhile is not seen."""
    try:
        return os.fdopen(os.dup(stream.fileno()), "w", encoding=stream.encoding, errors="backslashreplace")
    except (OSError, ValueError):  # it has none
        return stream


def can_draw(stream: TextIO) -> bool:
    """Whether bars can be drawn on a stream: a terminal that understands more than lines."""
    return stream.isatty() and os.environ.get("TERM", "") not in ("dumb", "unknown")


def render(lines: list[Bar], note: str, width: int) -> RenderableType:
    """The bars as a table for rich. What does not fit in the width is left out, the least important first."""
    from rich.console import Group
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(width=max(10, min(30, width // 4 if width < _WIDE else width // 3 - 25)))
    for _ in range(5 if width >= _WIDE else 3 if width >= _MEDIUM else 1):
        table.add_column(justify="right", no_wrap=True)
    if width >= _WIDE:
        table.add_column(no_wrap=True)
    for line in lines:
        style = {"waiting": "dim", "running": "", "done": "green"}[line.state]
        bar = ProgressBar(total=1.0, completed=line.fraction, finished_style="green", complete_style="cyan")
        cells = [f"{line.fraction:.0%}", line.size, line.rate]
        if width >= _WIDE:
            tasks = f"{line.tasks} {'blocks' if line.name == 'shuffle' else 'tasks'}"
            cells = [f"{line.fraction:.0%}", tasks, line.size, line.records, line.rate, line.left]
        elif width < _MEDIUM:
            cells = cells[:1]
        table.add_row(Text(line.name, style=style), bar, *(Text(cell, style=style) for cell in cells))
    if note:
        return Group(table, Text(note, style="yellow", overflow="ellipsis", no_wrap=True))
    return table


def show_status(status: JobStatus) -> None:
    """Print how a job stands on stdout: its summary if it is over, else its stages."""
    import click
    from rich.console import Console

    from gristmill.cli.listing import headline

    view = status.view
    click.echo(headline(status, time.time()), color=False if os.environ.get("NO_COLOR") else None)
    if status.is_over:
        show_summary(view, status.output, err=False)
    elif view.state.value == "running":
        console = Console(highlight=False)
        console.print(render(bars(view, Clock().after(view)), trouble(view), console.width))
    elif view.note:
        click.echo(view.note)
    for label, lines in _asked_for(status):
        click.echo(f"{label}: {', '.join(lines)}")


def _asked_for(status: JobStatus) -> list[tuple[str, list[str]]]:
    """What was asked for with a job, as far as its server says so."""
    from gristmill.cli.tables import printable

    inputs = [*status.inputs[:_INPUTS_SHOWN]]
    if (more := len(status.inputs) - len(inputs) + status.more_inputs) > 0:
        inputs.append(f"and {more:,} more")
    named = (
        ("Inputs", inputs),
        ("Options", [f"{name}={value}" for name, value in status.options.items()]),
        ("Parameters", [f"{name}={value}" for name, value in status.params.items()]),
    )
    return [(label, [printable(line) for line in lines]) for label, lines in named if lines]


def show_summary(view: JobView, output: str | None, *, err: bool = True) -> None:
    """Print the closing summary, on stderr if not otherwise told."""
    import click

    colour = {"succeeded": "green", "failed": "red"}.get(view.state.value, "yellow")
    lines = summary_lines(view, output)
    width = max((len(line.label) for line in lines), default=0)
    color = False if os.environ.get("NO_COLOR") else None
    click.echo(click.style(summary_title(view), fg=colour, bold=True), err=err, color=color)
    for line in lines:
        text = click.style(line.text, fg="yellow") if line.alarm else line.text
        click.echo(f"  {click.style(f'{line.label:<{width}}', dim=True)}  {text}", err=err, color=color)
