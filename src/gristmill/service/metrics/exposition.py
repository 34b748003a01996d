"""Metrics as Prometheus reads them.

Names follow Prometheus' rules: a prefix, base units, ``_total`` for what is counted. No label names a job: there
would be a time series for each.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from pathlib import Path

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from gristmill.config import VERSION
from gristmill.errors import GristmillError
from gristmill.runtime.journal.journal import Journal
from gristmill.runtime.journal.summaries import JobState
from gristmill.runtime.views import WorkerView
from gristmill.service.metrics.figures import Figures, Histogram
from gristmill.service.metrics.metrics import Metrics

WORKER_STATES = ("up", "suspect", "resting", "draining", "gone")
_COUNTED = (
    ("jobs_submitted", "jobs_submitted", "Jobs that were submitted."),
    ("jobs_late", "jobs_late", "Jobs that outlived their deadline."),
    ("retries", "task_retries", "Attempts at tasks that had failed or were lost before; copies of stragglers aside."),
    ("input_records", "input_records", "Records that were read from inputs, by attempts that count."),
    ("input_bytes", "input_bytes", "Bytes that were read from inputs, by attempts that count."),
    ("output_records", "output_records", "Records that were written to outputs, by attempts that count."),
    ("output_bytes", "output_bytes", "Bytes that were written to outputs, by attempts that count."),
    ("shuffle_bytes", "shuffle_bytes", "Bytes that tasks made for other tasks."),
    ("spilled_bytes", "spilled_bytes", "Bytes that did not fit in a task's memory and went to its disk."),
    ("facts", "journal_facts", "Facts that were written to the journal."),
    ("workers_joined", "workers_joined", "Workers that joined; one that was lost and comes back counts again."),
    ("workers_gone", "workers_gone", "Workers that left or were lost."),
)  # fmt: skip


class Exposition(Collector):
    """Collects what the metrics of a server are now.

    Args:
        metrics: the server's.
    """

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._registry = CollectorRegistry()
        self._registry.register(self)
        ProcessCollector(registry=self._registry)

    def page(self, accept: str) -> tuple[bytes, str]:
        """See ``Metrics.page``."""
        encode, form = choose_encoder(accept)
        return encode(self._registry), form

    def collect(self) -> Iterable[Metric]:
        """All of it now."""
        with self._metrics.lock:
            counted = [*families_of(self._metrics.figures), *self._of_calls()]
        return [*counted, *self._of_now()]

    def describe(self) -> Iterable[Metric]:
        """Nothing: else all would be collected to register it."""
        return ()

    def _of_calls(self) -> Iterator[Metric]:
        calls = CounterMetricFamily(
            "gristmill_http_requests", "Calls that were answered.", labels=("method", "route", "status")
        )
        for labels, count in self._metrics.answers.items():
            calls.add_metric(labels, count)
        yield calls
        seconds = HistogramMetricFamily(
            "gristmill_http_request_duration_seconds", "Until an answer began.", labels=("method", "route")
        )
        for route, histogram in self._metrics.calls.items():
            _add(seconds, route, histogram)
        yield seconds

    def _of_now(self) -> Iterator[Metric]:
        """What is there now. What cannot be told now is left out: Prometheus sees that by itself."""
        info = GaugeMetricFamily("gristmill_build_info", "Always 1.", labels=("version",))
        info.add_metric((VERSION,), 1)
        yield info
        try:
            yield from _of_jobs(self._metrics.journal.counts())
            size = sum(path.stat().st_size for path in _files_of(self._metrics.journal) if path.exists())
            yield GaugeMetricFamily("gristmill_journal_size_bytes", "The files of the journal.", value=size)
        except (GristmillError, OSError):
            pass
        try:
            yield from _of_workers(self._metrics.workers())
        except GristmillError:
            pass


def _files_of(journal: Journal) -> list[Path]:
    return [journal.path, journal.path.with_name(f"{journal.path.name}-wal")]


def families_of(figures: Figures) -> Iterator[Metric]:
    """What was counted, as Prometheus' library shows it."""
    for total, name, text in _COUNTED:
        yield CounterMetricFamily(f"gristmill_{name}", text, value=figures.totals[total])
    yield _counter("jobs_ended", "Jobs that are over.", "state", figures.jobs_ended)
    yield _counter(
        "attempts", "Attempts at tasks that are over; `done` are those that count.", "outcome", figures.attempts
    )
    yield _counter("attempt_failures", "Attempts that failed or were lost.", "kind", figures.failures)
    yield _counter(
        "speculative_attempts", "Copies of stragglers that are over: first, or not.", "result", figures.speculation
    )
    yield _counter(
        "bad_records",
        "Records that failed and were set aside, by the name of the job.",
        "job_name",
        figures.bad_records,
    )
    yield _histogram("task_duration_seconds", "Of attempts that count.", "reads", figures.task_seconds)
    yield _histogram("job_duration_seconds", "From the begin of jobs to their ends.", "state", figures.job_seconds)
    yield _histogram("task_wait_seconds", "From when tasks could run to their begin.", "", {"": figures.task_wait})
    yield _histogram(
        "job_queue_wait_seconds",
        "From the submission of jobs, or their being tried again, to their begin; 0 for those that began at once.",
        "",
        {"": figures.queue_wait},
    )


def _of_jobs(counts: Mapping[JobState, int]) -> Iterator[Metric]:
    jobs = GaugeMetricFamily("gristmill_jobs", "Jobs that are remembered.", labels=("state",))
    for state, count in counts.items():
        jobs.add_metric((state.value,), count)
    yield jobs


_PER_WORKER: tuple[tuple[str, str, Callable[[WorkerView], float | None]], ...] = (
    ("slots", "Executors that are ready.", lambda worker: worker.slots),
    ("busy_slots", "Executors in which something runs.", lambda worker: worker.busy),
    ("cpus", "CPUs that it offers.", lambda worker: worker.cpus),
    ("cpu_busy_ratio", "What its machine's CPUs are busy, 0 to 1.",
     lambda worker: None if worker.cpu_percent is None else worker.cpu_percent / 100),
    ("memory_limit_bytes", "Memory that it offers.", lambda worker: worker.memory_bytes),
    ("memory_used_bytes", "Private memory of its executors.", lambda worker: worker.used_bytes),
    ("disk_free_bytes", "Free on the disk of its data directory; the least, if there are several.",
     lambda worker: worker.free_bytes),
    ("disk_size_bytes", "How large that disk is.", lambda worker: worker.disk_bytes),
    ("last_heartbeat_timestamp_seconds", "When it was heard last.", lambda worker: worker.beat or None),
)  # fmt: skip


def _of_workers(workers: Sequence[WorkerView]) -> Iterator[Metric]:
    states = GaugeMetricFamily("gristmill_workers", "Workers, by how they are.", labels=("state",))
    known = Counter(worker.state for worker in workers)
    for state in WORKER_STATES:
        states.add_metric((state,), known[state])
    yield states
    here = [worker for worker in workers if worker.state != "gone"]
    for name, text, figure in _PER_WORKER:
        family = GaugeMetricFamily(f"gristmill_worker_{name}", text, labels=("worker", "host"))
        for worker in here:
            if (value := figure(worker)) is not None:
                family.add_metric((worker.worker, worker.host), value)
        yield family


def _counter(name: str, text: str, label: str, counts: Mapping[str, int]) -> Metric:
    family = CounterMetricFamily(f"gristmill_{name}", text, labels=(label,))
    for value, count in counts.items():
        family.add_metric((value,), count)
    return family


def _histogram(name: str, text: str, label: str, histograms: Mapping[str, Histogram]) -> Metric:
    family = HistogramMetricFamily(f"gristmill_{name}", text, labels=(label,) if label else ())
    for value, histogram in histograms.items():
        _add(family, (value,) if label else (), histogram)
    return family


def _add(family: HistogramMetricFamily, labels: Sequence[str], histogram: Histogram) -> None:
    bounds = [*map(floatToGoString, histogram.bounds), "+Inf"]
    sums = list(map(float, accumulate(histogram.counts)))
    family.add_metric(labels, list(zip(bounds, sums, strict=True)), histogram.total)
