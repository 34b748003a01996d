"""Jobs in lists: rows of the REST interface in, rows of a table out. Pure but for :func:`show_jobs`."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from gristmill.cli.tables import Cell, Column, printable, show_table
from gristmill.config import format_duration

if TYPE_CHECKING:
    from gristmill.api.messages import JobStatus
    from gristmill.api.service_client import Row

OVER = ("succeeded", "failed", "cancelled")
COLOURS = {
    "queued": "blue", "running": "cyan", "succeeded": "green", "failed": "red", "cancelled": "yellow",
    "up": "green", "suspect": "yellow", "resting": "yellow", "draining": "blue", "gone": "red",
}  # fmt: skip

JOBS = (
    Column("ID"), Column("STATE"), Column("DONE", right=True), Column("TIME", right=True),
    Column("USER", cut=True, wide=1), Column("NAME", cut=True), Column("OUTPUT", cut=True, wide=2),
)  # fmt: skip
HISTORY = (
    Column("ID"), Column("STATE"), Column("ENDED", wide=1), Column("TIME", right=True),
    Column("USER", cut=True, wide=3), Column("NAME", cut=True), Column("RESULT", cut=True, wide=4),
)  # fmt: skip


def show_jobs(columns: Sequence[Column], rows: Sequence[list[str | Cell]], limit: int, nothing: str) -> None:
    """Print jobs as a table, and whether there may be more.

    Args:
        columns: of the table.
        rows: the jobs.
        limit: as many were asked for.
        nothing: what to say if there are none.
    """
    if not rows:
        click.echo(nothing, err=True)
        return
    show_table(columns, rows)
    if len(rows) == limit:
        click.echo(f"These are the newest {limit:,}; more with --limit.", err=True)


def job_cells(job: Row) -> list[str | Cell]:
    """A row of ``gristmill jobs``."""
    running = job["state"] == "running"
    return [
        str(job["id"]), state_cell(job["state"]), f"{job.get('percent', 0):.0f} %" if running else "",
        _time(job), str(job.get("user") or ""), str(job["name"]), _output(job),
    ]  # fmt: skip


def past_cells(job: Row, now: float) -> list[str | Cell]:
    """A row of ``gristmill history``."""
    why = " ".join(str(job.get("error") or "").split())
    return [
        str(job["id"]), state_cell(job["state"]), moment(job.get("ended"), now), _time(job),
        str(job.get("user") or ""), str(job["name"]), why or _output(job),
    ]  # fmt: skip


def _time(job: Row) -> Cell:
    """How long a job runs, or ran; and whether it is late."""
    text = "" if job["state"] == "queued" else format_duration(job["seconds"])
    return Cell(f"late, {text}".removesuffix(", "), "red") if job.get("late") else Cell(text)


def _output(job: Row) -> Cell:
    return Cell(str(job.get("output") or ""), tail=True)


def state_cell(state: Any) -> Cell:
    """A state in its colour."""
    return Cell(str(state), COLOURS.get(str(state)))


def moment(at: float | None, now: float) -> str:
    """A time of the clock, in this place: with the day if that is another one, with the year likewise."""
    if not at:
        return ""
    then, today = time.localtime(at), time.localtime(now)
    if then[:3] == today[:3]:
        return time.strftime("%H:%M:%S", then)
    return time.strftime("%b %d %H:%M" if then[0] == today[0] else "%Y-%m-%d", then)


def headline(status: JobStatus, now: float) -> str:
    """The job in a line: its name, its id, how it stands, whose it is and since when."""
    view = status.view
    state = click.style(view.state.value, fg=COLOURS.get(view.state.value))
    parts = [f"{click.style(printable(view.name), bold=True)}  {view.job}  {state}"]
    if view.state.value == "queued" and status.submitted:
        parts.append(f"for {format_duration(max(0.0, now - status.submitted))}")
    elif view.seconds:
        parts.append(f"for {format_duration(view.seconds)}")
    if status.user:
        parts.append(f"by {printable(status.user)}")
    if status.late:
        parts.append(click.style("late", fg="red"))
    elif status.deadline and not status.is_over:
        parts.append(f"due in {format_duration(max(0.0, status.deadline - now))}")
    return "  ".join(parts)
