"""A job on the screen while it runs: ``gristmill status --watch``. Effects, and the frame that they draw."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import click

from gristmill.cli.display import can_draw, render
from gristmill.cli.listing import headline
from gristmill.cli.progress import Clock, bars, plain_line, trouble
from gristmill.cli.tables import Column, table
from gristmill.config import format_duration, format_size

if TYPE_CHECKING:
    from rich.console import RenderableType

    from gristmill.api.client import ServerClient
    from gristmill.api.messages import JobStatus
    from gristmill.api.remote import RemoteHandle
    from gristmill.api.service_client import Row

_LOOK_SECONDS = 0.5
_LINE_EVERY_SECONDS = 30.0
_TASKS_SHOWN = 8

_TASKS = (
    Column("TASK"), Column("STAGE", cut=True, wide=2), Column("TRY", right=True), Column("TIME", right=True),
    Column("READ", right=True), Column("WORKER", cut=True, wide=1),
)  # fmt: skip


def watch(client: ServerClient, handle: RemoteHandle, as_json: bool) -> JobStatus:
    """Show a job until it is over: redrawn on a terminal, a line now and then elsewhere; how it ended."""
    looks = _looks(handle)
    if as_json:
        return _print_json(client, looks)
    if can_draw(sys.stdout):
        return _draw(client, looks)
    return _print_lines(looks)


def _looks(handle: RemoteHandle) -> Iterator[JobStatus]:
    """The job, again and again; the last one is over."""
    status = handle.status()
    while True:
        yield status
        if status.is_over:
            return
        status = handle.status(_LOOK_SECONDS)


def _print_json(client: ServerClient, looks: Iterator[JobStatus]) -> JobStatus:
    """A line whenever something has changed, but for the time."""
    from gristmill.api.remote import failure_of
    from gristmill.cli.summary import with_error

    last = None
    for status in looks:
        summary = with_error(status.summary(), failure_of(status, client))
        if (now := {**summary, "seconds": 0}) != last:
            click.echo(json.dumps(summary))
            sys.stdout.flush()
            last = now
    return status


def _print_lines(looks: Iterator[JobStatus]) -> JobStatus:
    clock, printed = Clock(), float("-inf")
    for status in looks:
        clock = clock.after(status.view)
        if not status.is_over and time.monotonic() >= printed + _LINE_EVERY_SECONDS:
            click.echo(plain_line(status.view, clock))
            sys.stdout.flush()
            printed = time.monotonic()
    return status


def _draw(client: ServerClient, looks: Iterator[JobStatus]) -> JobStatus:
    from rich.console import Console, Group
    from rich.live import Live
    from rich.text import Text

    console = Console(highlight=False, no_color=bool(os.environ.get("NO_COLOR")) or None)
    clock = Clock()
    shown: RenderableType = Text()
    with Live(console=console, auto_refresh=False, transient=True) as live:

        def on_silence() -> None:
            said = Text(f"The server {client.url} does not answer. It is asked again.", style="yellow")
            live.update(Group(shown, Text(), said), refresh=True)

        client.on_silence = on_silence
        for status in looks:
            clock = clock.after(status.view)
            if not status.is_over:
                shown = frame(status, clock, _running(client, status), console.width, time.time())
                live.update(shown, refresh=True)
    return status


def _running(client: ServerClient, status: JobStatus) -> Row:
    """The tasks that run now."""
    from gristmill.api.service_client import task_page

    if not any(stage.running for stage in status.view.stages):
        return {"tasks": [], "total": 0}
    return task_page(client, status.view.job, _TASKS_SHOWN, state="running")


def frame(status: JobStatus, clock: Clock, running: Row, width: int, now: float) -> RenderableType:
    """What is on the screen: the job, its stages, and the tasks that run."""
    from rich.console import Group
    from rich.text import Text

    view = status.view
    parts: list[RenderableType] = [Text.from_ansi(headline(status, now))]
    if view.state.value == "running" and view.stages:
        parts += [Text(), render(bars(view, clock), trouble(view), width)]
    elif view.note:
        parts.append(Text(view.note, style="yellow"))
    if running["tasks"]:
        parts += [Text(), *(Text.from_ansi(line) for line in task_lines(running, width, now))]
    return Group(*parts)


def task_lines(running: Row, width: int | None, now: float) -> Sequence[str]:
    """Tasks that run, as a table."""
    lines = table(_TASKS, [_task_cells(task, now) for task in running["tasks"]], width)
    more = running["total"] - len(running["tasks"])
    return [*lines, click.style(f"and {more:,} more", dim=True)] if more > 0 else lines


def _task_cells(task: Row, now: float) -> list[str]:
    began = task.get("began")
    return [
        str(task["id"]), str(task.get("stage_name", "")), str(task.get("attempts", "")),
        format_duration(max(0.0, now - began)) if began else "",
        format_size(task["bytes_in"]) if task.get("bytes_in") else "", str(task.get("worker") or ""),
    ]  # fmt: skip
