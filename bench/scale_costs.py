"""Measures what a job costs by task, by byte and by segment, for bench/scale.py: real processes, real jobs, small data.

The jobs run on a server and two workers of one executor each, all on this machine. Each worker counts as a machine of
its own, so half of all blocks go over Flight. What the server, the agents and the executors use of the processors is
looked at all the while, and cut at the end of the map phase. Jobs of the same data in few and in many tasks, for few
and for many reducers, then tell the cost of a byte, of a task and of a segment apart.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
import time
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cloudpickle
import data
import psutil
import tasks
from cluster import Cluster, cluster
from scale_model import Work

from gristmill.runtime.contracts import TaskResult
from gristmill.runtime.journal.facts import Fact, TaskDone
from gristmill.runtime.journal.journal import Journal

SPLIT_BYTES = 16 << 20  # of the jobs that tell the cost of a byte: a few waves on two executors
REDUCERS = 8  # likewise
TEXT_MB, LINES, ROWS, KEYS = 100, 2_000_000, 4_000_000, 1_000_000
GROUPINGS = {  # map tasks and reducers of jobs of the same data
    "few maps": (60, REDUCERS),
    "many maps": (2000, REDUCERS),
    "few maps, many reducers": (60, 1000),
    "many segments": (400, 1000),
}
EMPTY_TASKS = 20_000
_MEMORY = "1GiB"  # of an executor
_LOOK_SECONDS = 0.05
_TICK = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Cpu:
    """CPU seconds of the parts of a cluster."""

    server: float = 0.0
    agents: float = 0.0
    executors: float = 0.0

    def __add__(self, other: Cpu) -> Cpu:
        return Cpu(self.server + other.server, self.agents + other.agents, self.executors + other.executors)

    def __sub__(self, other: Cpu) -> Cpu:
        return Cpu(self.server - other.server, self.agents - other.agents, self.executors - other.executors)


@dataclass(frozen=True)
class Trial:
    """What one job took.

    Attributes:
        maps: tasks that read splits.
        reducers: tasks that read blocks.
        input_bytes: as the map tasks read them.
        shuffled_bytes: of their blocks.
        output_bytes: of all parts.
        segments: of their blocks, those that are not empty.
        journal_bytes: what the journal grew by.
        map_cpu: up to the end of the last map task.
        reduce_cpu: from there on.
        seconds: from the launch of the first task to the end of the last.
    """

    maps: int
    reducers: int
    input_bytes: int
    shuffled_bytes: int
    output_bytes: int
    segments: int
    journal_bytes: int
    map_cpu: Cpu
    reduce_cpu: Cpu
    seconds: float


class Bench:
    """A cluster, and the jobs that are tried on it. See :func:`bench`."""

    def __init__(self, made: Cluster) -> None:
        self._cluster = made
        self._out = made.folder / "out"
        self._out.mkdir()

    @property
    def url(self) -> str:
        """Where the server listens."""
        return self._cluster.url

    @property
    def token(self) -> str:
        """The server's."""
        return self._cluster.token_file.read_text().strip()

    def job(self, name: str, source: Path, *, split_bytes: int, reducers: int) -> Trial:
        """Run a job of bench/jobs."""
        options = ["--split-size", f"{split_bytes}", "--reducers", str(reducers), "--no-speculation"]

        def run(output: Path) -> None:
            done, _ = self._cluster.run(name, source, output, *options)
            if done.error:
                raise RuntimeError(done.error)

        return self.trial(run)

    def trial(self, run: Callable[[Path], None]) -> Trial:
        """Have a job run into a folder, and look at what it takes."""
        journal = self._cluster.folder / "server" / "journal.db"
        before = _size(journal)
        known = len(_facts(journal))
        output = self._out / "output"
        with _watch(self._cluster) as samples:
            run(output)
            time.sleep(2 * _LOOK_SECONDS)  # what is done after the job's end is the next job's
        shutil.rmtree(output, ignore_errors=True)
        return _trial(_facts(journal)[known:], samples, _size(journal) - before)


@contextmanager
def bench(workers: int = 2) -> Iterator[Bench]:
    """A server and so many workers, that end with the context."""
    with cluster(workers, memory=_MEMORY) as made:
        yield Bench(made)


@contextmanager
def _watch(made: Cluster) -> Iterator[list[tuple[float, Cpu]]]:
    """Looks at the processes all the while: (when, what they have used since they started)."""
    samples = [(time.time(), _used(made))]
    over = threading.Event()

    def look() -> None:
        while not over.wait(_LOOK_SECONDS):
            samples.append((time.time(), _used(made)))

    watcher = threading.Thread(target=look, daemon=True)
    watcher.start()
    try:
        yield samples
    finally:
        over.set()
        watcher.join()


def _used(made: Cluster) -> Cpu:
    agents = executors = 0.0
    for worker in made.workers:
        agents += _seconds(worker.process.pid)
        for child in psutil.Process(worker.process.pid).children(recursive=True):
            executors += _seconds(child.pid)
    return Cpu(_seconds(made.server_pid), agents, executors)


def _seconds(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    return (int(fields[11]) + int(fields[12])) / _TICK


def _trial(facts: list[Fact], samples: list[tuple[float, Cpu]], journal_bytes: int) -> Trial:
    done = [fact for fact in facts if isinstance(fact, TaskDone) and fact.span is not None]
    maps = [fact for fact in done if _is_map(fact.result)]
    others = [fact for fact in done if not _is_map(fact.result)]
    blocks = [fact.result.block for fact in maps if fact.result.block is not None]
    turn = max(fact.span.ended for fact in maps if fact.span)
    place = min(bisect_left(samples, turn, key=lambda sample: sample[0]), len(samples) - 1)
    (_, first), (_, middle), (_, last) = samples[0], samples[place], samples[-1]
    return Trial(
        maps=len(maps),
        reducers=len(others),
        input_bytes=sum(fact.result.bytes_in for fact in maps),
        shuffled_bytes=sum(block.size_bytes for block in blocks),
        output_bytes=sum(part.size_bytes for fact in others for part in fact.result.parts),
        segments=sum(1 for block in blocks for segment in block.segments if segment.length),
        journal_bytes=journal_bytes,
        map_cpu=middle - first,
        reduce_cpu=last - middle,
        seconds=max(f.span.ended for f in done if f.span) - min(f.span.launched for f in done if f.span),
    )


def _is_map(result: TaskResult) -> bool:
    return not result.parts and result.block is not None


def _facts(journal: Path) -> list[Fact]:
    reading = Journal(journal)
    try:
        return reading.facts()
    finally:
        reading.close()


def _size(journal: Path) -> int:
    return sum(path.stat().st_size for path in journal.parent.glob(f"{journal.name}*"))


def wordcount(where: Bench, text: Path | None) -> Trial:
    """Count the words of a text; of the standard library's sources, if none is named."""
    source = text or data.Texts().one_file(TEXT_MB)
    return where.job("wordcount", source, split_bytes=SPLIT_BYTES, reducers=REDUCERS)


def sort(where: Bench) -> Trial:
    """Sort lines, as bench/datasets/sort.py does."""
    source = data.sortable(LINES)

    def run(output: Path) -> None:
        with _session(where) as session:
            session.read_text(str(source)).sort_by(lambda line: line[:10]).write_text(output)

    return where.trial(run)


def join(where: Bench) -> Trial:
    """Join tables, as bench/datasets/join.py does."""
    source = data.tables(ROWS, ROWS // 10)

    def pair(line: str) -> tuple[str, str]:
        key, _, value = line.partition("\t")
        return key, value

    def text(joined: tuple[str, tuple[str, str]]) -> str:
        key, (value, other) = joined
        return f"{key}\t{value}\t{other}"

    def run(output: Path) -> None:
        with _session(where) as session:
            left, right = (session.read_text(f"{source}/{side}.txt").map(pair) for side in ("left", "right"))
            left.join(right).map(text).write_text(output)

    return where.trial(run)


def grouping(where: Bench, maps: int, reducers: int) -> Trial:
    """Group lines by their keys, in so many tasks."""
    source = data.hot_key_text(KEYS)
    return where.job("grouping", source, split_bytes=data.size_bytes(source) // maps, reducers=reducers)


def _session(where: Bench) -> Any:
    import gristmill as gm

    os.environ["GRISTMILL_TOKEN"] = where.token
    return gm.Session(on=where.url, split_size=SPLIT_BYTES, reducers=REDUCERS, speculation=False)


def trials(text: Path | None) -> Iterator[tuple[str, Trial]]:
    """Run all jobs, and hand out what each took."""
    with bench() as where:
        yield "word count", wordcount(where, text)
        yield "sort", sort(where)
        yield "join", join(where)
        for name, size in GROUPINGS.items():
            yield name, grouping(where, *size)


def trial_of(fields: Mapping[str, Any]) -> Trial:
    """The inverse of ``dataclasses.asdict``."""
    made: dict[str, Any] = {name: Cpu(**value) if isinstance(value, dict) else value for name, value in fields.items()}
    return Trial(**made)


def works(known: Mapping[str, Mapping[str, Any]], whole: Mapping[str, float]) -> dict[str, Work]:
    """What bytes cost in the jobs of few tasks, whose other costs are small beside that.

    Args:
        known: the trials.
        whole: CPU seconds of each job for a byte of input, map and reduce together, on a machine that did nothing else.
    """
    return {name: _work(name, trial_of(known[name]), seconds) for name, seconds in whole.items()}


def _work(name: str, trial: Trial, byte_seconds: float) -> Work:
    is_sort, combined = name == "sort", name == "word count"
    size_bytes = trial.output_bytes if is_sort else trial.input_bytes  # a sort looks at some of its input twice
    mapped = trial.map_cpu.executors / (trial.map_cpu.executors + trial.reduce_cpu.executors)
    return Work(
        name,
        map_byte_seconds=byte_seconds * mapped,
        reduce_byte_seconds=byte_seconds * (1 - mapped) * size_bytes / trial.shuffled_bytes,
        # What combined values take depends on the number of splits, not on their size.
        shuffle_ratio=0.0 if combined else trial.shuffled_bytes / size_bytes,
        shuffle_task_bytes=trial.shuffled_bytes / trial.maps if combined else 0.0,
        output_ratio=0.0 if combined else trial.output_bytes / size_bytes,
        tasks_a_split=2 if is_sort else 1,
    )


def executor_costs(few: Trial, many: Trial, wide: Trial, both: Trial) -> dict[str, float]:
    """What tasks, segments and passes cost, by the differences of four jobs of the same data.

    Args:
        few: few map tasks and few reducers; their blocks are merged at once.
        many: many map tasks, and few reducers: the blocks are first merged to few.
        wide: few map tasks, and many reducers.
        both: many segments; their blocks are first merged, too.
    """
    first, second = (_more(one, few) for one in (many, both))  # two equations: tasks, segments, seconds
    mapped = (second[2] * first[0] - first[2] * second[0]) / (second[1] * first[0] - first[1] * second[0])
    pairs = both.segments - many.segments, wide.segments - few.segments
    deep, flat = (more.reduce_cpu - less.reduce_cpu for more, less in ((both, many), (wide, few)))
    segment = (deep.executors - flat.executors) / (pairs[0] - pairs[1])
    served = (deep.agents - flat.agents) / (pairs[0] - pairs[1])
    merged = many.reduce_cpu.executors - few.reduce_cpu.executors - (many.segments - few.segments) * segment
    found = {
        "map_task_seconds": (first[2] - first[1] * mapped) / first[0],
        "map_segment_seconds": mapped,
        "reduce_task_seconds": (flat.executors - pairs[1] * segment) / (wide.reducers - few.reducers),
        "reduce_segment_seconds": segment,
        "merge_byte_seconds": merged / many.shuffled_bytes,
        "segment_bytes": (both.shuffled_bytes - few.shuffled_bytes) / (both.segments - few.segments),
        "agent_piece_seconds": 2 * served,  # of two machines, each has half of what is read at the other
        "agent_byte_seconds": 2 * few.reduce_cpu.agents / few.shuffled_bytes,
    }
    return {name: max(0.0, value) for name, value in found.items()}  # a difference of two measurements may be below


def _more(one: Trial, few: Trial) -> tuple[float, float, float]:
    """How many map tasks and segments a job has beyond another, and how much longer its map phase worked."""
    return one.maps - few.maps, one.segments - few.segments, one.map_cpu.executors - few.map_cpu.executors


def task_costs() -> dict[str, float]:
    """What an empty task costs the coordinator and the agent, over gRPC, when there are many."""
    cloudpickle.register_pickle_by_value(tasks)  # executors do not find a module that lies beside this one
    with tempfile.TemporaryDirectory(prefix="gristmill-bench-") as made:
        folder = Path(made)
        with tasks.over_grpc(2, folder) as (coordinator, journal):
            tasks.run_job(coordinator, journal, tasks.prepared_job(folder, "warm-up", 1000))
            agent = [child.pid for child in psutil.Process().children()]
            before = time.process_time(), sum(map(_seconds, agent))
            tasks.run_job(coordinator, journal, tasks.prepared_job(folder, "job", EMPTY_TASKS))
            after = time.process_time(), sum(map(_seconds, agent))
    own, theirs = ((now - then) / EMPTY_TASKS for now, then in zip(after, before, strict=True))
    return {"coordinator_task_seconds": own, "agent_task_seconds": theirs}
