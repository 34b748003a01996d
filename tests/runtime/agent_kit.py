"""A local fleet, a job of one map stage, and a queue of what the fleet says: what the tests of the agent need."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import cloudpickle
import psutil

from gristmill.config import MIB
from gristmill.errors import FailureReport
from gristmill.fleets.local import LocalFleet
from gristmill.plan.functions import JobCode, StepFunctions
from gristmill.plan.stages import Branch, MapOp, OutputSink, SplitSource, Stage
from gristmill.runtime.agent.agent import AgentSettings
from gristmill.runtime.contracts import (
    AttemptDone,
    AttemptFailed,
    FleetEvent,
    JobSpec,
    SlotDown,
    SlotUp,
    TaskResult,
    TaskSpec,
)
from gristmill.scheduling.events import AttemptId
from gristmill.storage.contracts import Split

E = TypeVar("E", bound=FleetEvent)
PATIENCE = 60.0
STAGE = Stage(0, (Branch((SplitSource(),), (MapOp(0),)),), OutputSink("text", "m"), "map")


class _Counting(LocalFleet):
    """A local fleet that knows which attempts have had no answer yet."""

    def __init__(self, executors: int, settings: AgentSettings | None) -> None:
        super().__init__(executors, settings)
        self.unanswered: set[AttemptId] = set()

    def launch(self, slot: str, spec: TaskSpec) -> None:
        self.unanswered.add(spec.attempt)
        super().launch(slot, spec)


class Mill:
    """A fleet and one job, under a folder of their own. Tests may share one: each begins in another folder."""

    def __init__(self, folder: Path, executors: int = 1, settings: AgentSettings | None = None) -> None:
        self.folder = self._home = folder
        self._executors, self._settings = executors, settings
        self._probes = 0
        self._open()

    def _open(self) -> None:
        self._elders = psutil.Process().children()  # another test of this process may keep its own fleet up
        self._lock = threading.Lock()
        self._up: dict[str, SlotUp] = {}
        self._done: set[AttemptId] = set()
        self.events: queue.Queue[FleetEvent] = queue.Queue()
        self.fleet = fleet = _Counting(self._executors, self._settings)
        self.fleet.start(lambda event: self._note(event, fleet))
        self._jobs = 0
        self._fill(self.folder)

    def _fill(self, folder: Path) -> None:
        self.folder = folder
        self._input = folder / "input.txt"
        self._input.write_text("a line\n")

    def _note(self, event: FleetEvent, fleet: _Counting) -> None:
        with self._lock:
            if fleet is not self.fleet:
                return
            if isinstance(event, SlotUp):
                self._up[event.slot] = event
            elif isinstance(event, SlotDown):
                self._up.pop(event.slot, None)
            elif isinstance(event, (AttemptDone, AttemptFailed)):
                if isinstance(event, AttemptDone):
                    self._done.add(event.attempt)
                fleet.unanswered.discard(event.attempt)
            self.events.put(event)

    def begin(self, folder: Path) -> None:
        """Be as new, for another test: with another folder, and with all slots there."""
        used, self._jobs = self._jobs, 0
        for number in range(used):
            self.fleet.drop_job(f"job{number + 1}")
        if self.fleet.unanswered or not self.children() or not self._answers():
            self.fleet.close()
            self._open()
        with self._lock:
            self.events = queue.Queue()
            for event in self._up.values():
                self.events.put(event)
        self._fill(folder)

    def _answers(self) -> bool:
        """Whether the fleet still runs attempts: what a test leaves may be about to end its executor."""
        job = self._job("probe", self._home / "probe", lambda key, line: [(line, 1)])
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            slot = next(iter(self._up), None)
            if slot is None:
                time.sleep(0.002)
                continue
            self._probes += 1
            spec = self.spec(job, number=self._probes)
            self.fleet.launch(slot, spec)
            while spec.attempt in self.fleet.unanswered and time.monotonic() < deadline:
                time.sleep(0.002)
            if spec.attempt in self._done:
                self.fleet.drop_job("probe")
                return True
        return False

    def children(self) -> list[psutil.Process]:
        """The processes that the fleet started itself."""
        return [child for child in psutil.Process().children() if child not in self._elders]

    def family(self) -> list[psutil.Process]:
        """All processes of the fleet."""
        children = self.children()
        return [*children, *(child for parent in children for child in parent.children(recursive=True))]

    def job(self, mapper: Callable[[Any, Any], Any], memory_bytes: int = 64 * MIB, **options: Any) -> JobSpec:
        """A job whose one task has one record."""
        self._jobs += 1
        name = f"job{self._jobs}"
        return self._job(name, self.folder / name, mapper, memory_bytes, **options)

    def _job(
        self, name: str, folder: Path, mapper: Callable[[Any, Any], Any], memory_bytes: int = 64 * MIB, **options: Any
    ) -> JobSpec:
        staging = folder / "staging"
        (staging / "attempts").mkdir(parents=True, exist_ok=True)
        job = JobSpec(
            job=name,
            code=cloudpickle.dumps(JobCode((StepFunctions(mapper=mapper),))),
            import_paths=options.get("import_paths", ()),
            staging=str(staging),
            folder=str(folder),
            memory_bytes=memory_bytes,
            max_bad_records=0,
            max_record_bytes=MIB,
            task_timeout_seconds=options.get("task_timeout_seconds"),
        )
        self.fleet.add_job(job)
        return job

    def spec(self, job: JobSpec, index: int = 0, number: int = 1) -> TaskSpec:
        """One attempt at one task of a job."""
        size = self._input.stat().st_size
        split = Split(str(self._input), 0, size, size, "text")
        return TaskSpec(AttemptId(job.job, 0, index, number), STAGE, splits=(split,))

    def wait_for(self, kind: type[E], seconds: float = PATIENCE) -> E:
        """The next event of a kind; what comes before it is passed over."""
        deadline = time.monotonic() + seconds
        while True:
            event = self.events.get(timeout=max(0.01, deadline - time.monotonic()))
            if isinstance(event, kind):
                return event

    def launch(self, mapper: Callable[[Any, Any], Any], **options: Any) -> AttemptId:
        """Run a mapper in the next slot that comes up."""
        slot = self.wait_for(SlotUp).slot
        spec = self.spec(self.job(mapper, **options))
        self.fleet.launch(slot, spec)
        return spec.attempt

    def run(self, mapper: Callable[[Any, Any], Any], **options: Any) -> TaskResult | FailureReport:
        """Run a mapper in the next slot that comes up, to its end."""
        attempt = self.launch(mapper, **options)
        deadline = time.monotonic() + PATIENCE
        while True:
            event = self.events.get(timeout=max(0.01, deadline - time.monotonic()))
            if isinstance(event, (AttemptDone, AttemptFailed)):
                assert event.attempt == attempt
                return event.result if isinstance(event, AttemptDone) else event.report

    def failure(self, mapper: Callable[[Any, Any], Any], **options: Any) -> FailureReport:
        """Run a mapper that fails."""
        outcome = self.run(mapper, **options)
        assert isinstance(outcome, FailureReport), outcome
        return outcome

    def success(self, mapper: Callable[[Any, Any], Any], **options: Any) -> TaskResult:
        """Run a mapper that does not."""
        outcome = self.run(mapper, **options)
        assert isinstance(outcome, TaskResult), outcome
        return outcome


def wait_until(condition: Callable[[], object], seconds: float = PATIENCE) -> None:
    """Wait for the operating system, which says nothing when it is done."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.01)


def is_gone(pid: int) -> bool:
    """Whether a process is no more. A zombie that waits for its parent counts as gone."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def read_when_there(path: Path) -> str:
    """The content of a file that another process is about to write."""
    wait_until(lambda: path.exists() and path.read_text().endswith("\n"))
    return path.read_text()
