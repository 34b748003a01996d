"""How a job stands, as plain data for whoever shows it. Made by the coordinator, never changed after."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from gristmill.errors import FailureReport
from gristmill.scheduling.commands import JobState


@dataclass(frozen=True)
class StageView:
    """One stage. Records and bytes include those of attempts that still run."""

    id: int
    name: str
    reads_shuffle: bool
    tasks: int
    done: int
    running: int
    records_in: int
    bytes_in: int
    bytes_total: int  # input bytes of all tasks where known (splits; blocks once the parents are whole), else 0


@dataclass(frozen=True)
class JobView:
    """One job at one instant. Totals count accepted attempts only."""

    job: str
    name: str
    state: JobState
    seconds: float
    stages: tuple[StageView, ...]
    attempts: int = 0
    failed_attempts: int = 0
    records_in: int = 0
    records_out: int = 0
    bytes_in: int = 0
    shuffle_bytes: int = 0
    spilled_bytes: int = 0
    bad_records: int = 0
    counters: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    failures: tuple[FailureReport, ...] = ()  # the last few, newest last, also of attempts that were retried


Observer = Callable[[JobView], None]
"""Called from the coordinator's thread, at most about ten times a second and once at the end; must return at once."""
