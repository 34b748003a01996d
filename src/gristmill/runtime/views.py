"""How a job stands, as plain data for whoever shows it. Made by the coordinator, never changed after."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from gristmill.config import format_size
from gristmill.errors import FailureReport
from gristmill.runtime.contracts import numbers_from_json, numbers_to_json
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
    """One job at one instant. Totals of records and bytes, and counters, are those of accepted attempts only.

    ``attempts`` are those that began in an executor, as far as is known, and those that are launched now. Each of them
    was accepted, or has failed (``failed_attempts``), or was cancelled, or runs. What came back before it began is
    none, nor is what waited behind another attempt when it was called back or its worker was lost. What was the first
    in its slot when the slot or its worker was lost has begun and failed, unless it is heard later that it had not.
    Attempts of earlier tries, and of a server that was killed since, count as well, as far as facts tell of them.
    """

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
    resumed_after_seconds: float = 0.0  # a local job that was taken up: between its first start and this run's
    note: str = ""  # why nothing happens, or what else should be known; one sentence, mostly empty
    adaptations: tuple[str, ...] = ()  # how stages were cut by what was measured, and why; a sentence each
    accumulated: Mapping[str, int | float] = field(default_factory=dict)  # for the owner of accumulators; at the end
    hot_keys: tuple[tuple[str, int], ...] = ()  # keys with so many rows that their task takes long, the worst first

    def to_json(self) -> dict[str, Any]:
        """As values that ``json.dumps`` takes."""
        data = {field.name: getattr(self, field.name) for field in fields(self)}
        data["state"] = self.state.value
        data["stages"] = [dict(vars(stage)) for stage in self.stages]
        data["counters"] = {group: dict(names) for group, names in self.counters.items()}
        data["accumulated"] = numbers_to_json(self.accumulated)
        data["failures"] = [report.to_json() for report in self.failures]
        return data

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> JobView:
        """The inverse of :meth:`to_json`."""
        view = dict(data)
        view["state"] = JobState(view["state"])
        view["stages"] = tuple(StageView(**stage) for stage in view["stages"])
        view["failures"] = tuple(FailureReport.from_json(report) for report in view.get("failures", ()))
        view["accumulated"] = numbers_from_json(view.get("accumulated", {}))
        view["adaptations"] = tuple(view.get("adaptations", ()))
        view["hot_keys"] = tuple((key, rows) for key, rows in view.get("hot_keys", ()))
        return cls(**view)


@dataclass(frozen=True)
class RunningView:
    """An attempt that runs now. Times are seconds since the epoch; ``began`` is 0 while it waits behind another."""

    stage: int
    index: int
    number: int
    slot: str
    launched: float
    began: float
    speculative: bool = False
    records_in: int = 0
    bytes_in: int = 0
    fraction: float = 0.0  # of its input, 0 to 1; 0 when that is not known


@dataclass(frozen=True)
class WorkerView:
    """A worker at one instant.

    Attributes:
        state: ``up``; ``suspect``: silent for a while; ``resting``: too much has failed there; ``draining``: it takes
            no new work; ``gone``: it was lost within the last hour.
        slots: executors that are ready.
        busy: those in which something runs.
        joined: seconds since the epoch.
        beat: when it was heard last, likewise.
        cpu_percent: what its machine's CPUs are busy, 0 to 100; None when that is not known.
        used_bytes: the private memory of its executors.
        free_bytes: on the disk of its data directory; the least, if there are several.
        disk_bytes: how large that disk is.
        note: why it is in this state, one sentence; mostly empty.
    """

    worker: str
    host: str
    state: str
    rack: str = ""
    cpus: float | None = None
    memory_bytes: int | None = None
    slots: int = 0
    busy: int = 0
    joined: float = 0.0
    beat: float = 0.0
    cpu_percent: float | None = None
    used_bytes: int | None = None
    free_bytes: int | None = None
    disk_bytes: int | None = None
    note: str = ""


Observer = Callable[[JobView], None]
"""Called from the coordinator's thread, at most about ten times a second and once at the end; must return at once."""


def waiting_note(cpus: float, memory_bytes: int, offers: Sequence[tuple[float, int | None]]) -> str:
    """Why no task of a job runs, if the workers are the reason.

    Args:
        cpus: what each task needs.
        memory_bytes: likewise.
        offers: the CPUs and the memory of each worker; None: no limit.
    """
    if not offers:
        return "Waiting: no worker is connected yet."
    if all(offered < cpus for offered, _ in offers):
        most = max(offered for offered, _ in offers)
        return f"Waiting: a task needs {cpus:g} CPUs, and no worker has more than {most:g}."
    if all(offered < cpus or (memory is not None and memory < memory_bytes) for offered, memory in offers):
        return f"Waiting: no worker offers {format_size(memory_bytes)} of memory and {cpus:g} CPUs for a task."
    return ""
