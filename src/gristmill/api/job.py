"""A job, whoever wrote it down and however, and the one way to run it."""

from __future__ import annotations

import logging
import os
import shlex
import signal
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Self

from gristmill.api.shared import tell_accumulators
from gristmill.config import OUTPUT_FORMATS, JobOptions, default_data_dir, format_size, parse_size
from gristmill.errors import JobCancelled, UsageError
from gristmill.plan.build import build_plan, shapes_of
from gristmill.plan.functions import JobCode
from gristmill.plan.stages import InputSpec, StagePlan

if TYPE_CHECKING:
    from gristmill.api.prepare import Preparation
    from gristmill.api.remote import RemoteHandle
    from gristmill.api.result import JobResult
    from gristmill.runtime.contracts import Fleet
    from gristmill.runtime.coordinator.coordinator import Coordinator, RunningJob
    from gristmill.runtime.files.jobfolder import JobFolder
    from gristmill.runtime.outcome import Outcome
    from gristmill.runtime.views import JobView, Observer

Inputs = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]

_log = logging.getLogger(__name__)
_CANCEL_SECONDS = 10.0  # how long a cancelled job may take to be over


@dataclass(frozen=True)
class Job:
    """What to run. Options that are given win over the job's own wishes.

    Attributes:
        name: for people.
        code: the user's functions.
        import_paths: where executors look for modules first.
        input_format: the job's own wish, or None.
        output_format: the job's own wish, or None.
        reducers: the job's own wish, or None.
        task_cpus: the job's own wish, or None.
        task_memory: the job's own wish, or None.
    """

    name: str
    code: JobCode
    import_paths: tuple[str, ...] = ()
    input_format: str | None = None
    output_format: str | None = None
    reducers: int | None = None
    task_cpus: float | None = None
    task_memory: str | int | None = None

    def resolve(self, options: JobOptions, output: Path | None) -> JobOptions:
        """Fill in what the options leave open with the job's wishes, then with what the output's suffix says.

        Raises:
            UsageError: a wish of the job is not possible.
        """
        suffix = output.suffix.lstrip(".").lower() if output is not None else ""
        by_suffix = suffix if suffix in OUTPUT_FORMATS else "text"
        return replace(
            options,
            input_format=options.input_format or self.input_format,
            output_format=options.output_format or self.output_format or by_suffix,
            reducers=options.reducers or self.reducers,
            task_cpus=options.task_cpus or self.task_cpus or 1.0,
            task_memory_bytes=options.task_memory_bytes or (parse_size(self.task_memory) if self.task_memory else 0),
        )

    def plan(self, options: JobOptions, *, private: bool) -> StagePlan:
        """The job's stages.

        Args:
            options: as resolved.
            private: the result is for this process alone.

        Raises:
            UsageError: a function is given that would never be called.
        """
        from gristmill.api.prepare import PRIVATE_FORMAT

        output_format = PRIVATE_FORMAT if private else options.output_format or "text"
        return build_plan(shapes_of(self.code.steps), output_format=output_format, combiner=options.combiner)


class JobHandle:
    """A job that was started. A context manager: leaving it cancels the job if it still runs.

    Attributes:
        notice: what became of ``resume``, in a sentence; empty if it was not asked for.
    """

    def __init__(
        self,
        name: str,
        running: RunningJob,
        resources: JobResources,
        output: Path | str | None,
        format: str,
        notice: str = "",
    ) -> None:
        self.notice = notice
        self._name = name
        self._running = running
        self._resources = resources
        self._output = output
        self._format = format
        self._result: JobResult | None = None
        self._has_ended = False
        # Also when the program ends: no process and no staging folder stays behind.
        self._finalizer = weakref.finalize(self, resources.close)

    @property
    def job_id(self) -> str:
        """The job's id."""
        return self._running.job

    def view(self) -> JobView:
        """How the job stands."""
        return self._running.view()

    def cancel(self) -> None:
        """End the job. Returns at once; ``wait`` then raises JobCancelled."""
        self._running.cancel()

    def wait(self, timeout: float | None = None) -> JobResult:
        """Wait for the job and return its result. With ``on="inline"`` this is what runs it.

        Raises:
            TimeoutError: it still runs after ``timeout`` seconds.
            JobFailed: it failed.
            JobCancelled: it was cancelled, by ``cancel`` or by Ctrl-C in here.
        """
        if self._result is None:
            self.finish(timeout)
            from gristmill.api.result import JobResult

            folder = self._resources.folder
            private = folder if self._output is None else None
            self._result = JobResult(self.view(), _output_path(self._output, folder), self._format, private)
        return self._result

    def finish(self, timeout: float | None = None) -> JobView:
        """Wait for the job, as :meth:`wait` does; its last view."""
        try:
            outcome = self._running.wait(timeout)
        except KeyboardInterrupt:
            self._running.cancel()
            outcome = self._running.wait(_CANCEL_SECONDS)
            if outcome is None:
                self.close()
                outcome = self._running.wait(0.0)
        except BaseException:
            self.close()
            raise
        if outcome is None:
            raise TimeoutError(f"Job {self.job_id} still runs.")
        if not self._has_ended:
            self._has_ended = True
            tell_accumulators(outcome.view.accumulated)
        self._note_end(outcome)
        if outcome.error is None:
            # A private output lies in the folder; elements lie in the session's.
            private = self._output is None and self._format
            self._resources.at_close = _keep if private else self._resources.folder.remove
        self.close()
        if outcome.error is not None:
            raise outcome.error
        return outcome.view

    def _note_end(self, outcome: Outcome) -> None:
        report = getattr(outcome.error, "report", None)
        with suppress(OSError):  # a full disk, say: the error itself is what matters
            self._resources.folder.update(
                state=outcome.view.state.value,
                ended=time.time(),
                error=str(outcome.error or ""),
                failure=None if report is None else report.to_json(),
            )

    def close(self) -> None:
        """Cancel the job if it still runs, and end all its processes. May be called again."""
        self._finalizer()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def __repr__(self) -> str:
        view = self.view()
        done, tasks = sum(stage.done for stage in view.stages), sum(stage.tasks for stage in view.stages)
        return f"<JobHandle {self._name} {self.job_id} {view.state.value}, {done} of {tasks} tasks done>"


class JobResources:
    """What a running job holds.

    Args:
        end: ends the job, if it still runs, and what was started for it.
        folder: its folder.
    """

    def __init__(self, end: Callable[[], None], folder: JobFolder) -> None:
        self._end = end
        self.folder = folder
        self.at_close = folder.release  # what becomes of the folder
        self._pid = os.getpid()

    def close(self) -> None:
        if os.getpid() != self._pid:
            return  # a fork of this process ends; the job is not its own
        self._end()
        if self.folder.facts["state"] == "running":  # nobody waited for its end
            with suppress(OSError):
                self.folder.update(state="cancelled", ended=time.time())
        self.at_close()


def _keep() -> None:
    """The folder holds the result: it is the result's to remove."""


def run_job(
    job: Job,
    inputs: Inputs,
    output: str | os.PathLike[str] | None,
    options: JobOptions,
    observer: Observer | None = None,
) -> JobResult:
    """Run a job and wait for it.

    Raises:
        UsageError: something is wrong with the inputs, the output or the code; nothing was started.
        JobFailed: the job failed; the report of the attempt that ended it is attached.
        JobCancelled: Ctrl-C.
    """
    handle: JobHandle | RemoteHandle | None = None
    try:
        with start_job(job, inputs, output, options, observer) as handle:
            return handle.wait()
    except KeyboardInterrupt:  # before the job began, or again while it was ending
        if handle is not None and handle.view().state.value == "succeeded":
            raise  # too late to be cancelled: the output is there
        raise JobCancelled(f"The job {job.name} was cancelled; no output was written.") from None


def start_job(
    job: Job,
    inputs: Inputs,
    output: str | os.PathLike[str] | None,
    options: JobOptions,
    observer: Observer | None = None,
) -> JobHandle | RemoteHandle:
    """Start a job and return at once. With ``on="inline"`` it runs when the handle is waited for.

    Args:
        job: what to run.
        inputs: a file, directory or glob, or several.
        output: the folder where the result is to appear; None to keep it for this process alone.
        options: how to run it.
        observer: is told how the job stands, about ten times a second and once at the end.

    Raises:
        UsageError: as in :func:`run_job`.
    """
    if options.is_remote:
        from gristmill.api.remote import submit

        return submit(job, _input_list(inputs), output, options, observer)
    with sigint_held():
        return _start_job(job, inputs, output, options, observer)


def _start_job(
    job: Job,
    inputs: Inputs,
    output: str | os.PathLike[str] | None,
    options: JobOptions,
    observer: Observer | None,
) -> JobHandle:
    from gristmill.storage.places import output_path

    path = None if output is None else output_path(output)
    options = job.resolve(options, None if path is None else Path(path))
    plan = job.plan(options, private=path is None)
    from gristmill.runtime.coordinator.coordinator import Coordinator

    options = within_this_machine(options)
    # Executors come up while the rest is planned. If that finds a fault, they go down again.
    fleet = open_fleet(options)
    coordinator = Coordinator(fleet, threaded=options.on != "inline")
    with ExitStack() as undo:
        undo.callback(coordinator.close)
        coordinator.start()
        from gristmill.api.pickling import pickle_code
        from gristmill.api.prepare import Submission, prepare
        from gristmill.api.shipping import Shipment

        code = pickle_code(job.code)
        if options.on_ray:
            pack(fleet, code)
        submission = Submission(
            name=job.name,
            code=code,
            plan=plan,
            inputs=(InputSpec(_input_list(inputs)),),
            output=path,
            options=options,
            import_paths=job.import_paths,
            sources=Shipment(code, options.py_files).sources(),
        )
        preparation = prepare(submission)
        undo.callback(preparation.undo)
        running = _begin(coordinator, preparation, observer)
        resources = JobResources(coordinator.close, preparation.folder)
        handle = JobHandle(job.name, running, resources, path, submission.format, preparation.notice)
        undo.pop_all()
        return handle


def _begin(coordinator: Coordinator, preparation: Preparation, observer: Observer | None) -> RunningJob:
    """Start a job, or go on with it; with a journal of its own, in its folder."""
    from gristmill.runtime.coordinator.coordinator import RunningJob
    from gristmill.runtime.journal.journal import JOURNAL, Journal

    folder = preparation.folder
    prepared = replace(preparation.prepared, replay=replay_command(folder))
    journal = Journal(folder.path / JOURNAL, essential=False)
    if preparation.resumption is None:
        running = coordinator.submit(prepared, observer, journal=journal)
        assert isinstance(running, RunningJob), "without a key it is another job each time"
        return running
    _log.info("%s", preparation.notice)
    return coordinator.resume(prepared, preparation.resumption, observer, journal=journal)


def replay_command(folder: JobFolder) -> str:
    """What runs a task of the job again, but for the task's name."""
    data_dir = folder.path.parents[1]
    where = "" if data_dir == default_data_dir().absolute() else f"--data-dir {shlex.quote(str(data_dir))} "
    return f"gristmill replay {where}{folder.job}"


@contextmanager
def sigint_held() -> Iterator[None]:
    """Hold the first Ctrl-C back until the end of the block.

    Between making a folder or a process and noting that it is there, it would leave that behind.
    """
    pending = False

    def hold(_number: int, _frame: FrameType | None) -> None:
        nonlocal pending
        if pending:
            raise KeyboardInterrupt  # whoever asks twice is in a hurry
        pending = True

    before = signal.getsignal(signal.SIGINT)
    if before in (signal.SIG_IGN, None) or threading.current_thread() is not threading.main_thread():
        yield
        return
    signal.signal(signal.SIGINT, hold)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if pending:
        signal.raise_signal(signal.SIGINT)


def within_this_machine(options: JobOptions) -> JobOptions:
    """What a task asks for must be there, or it would wait for ever.

    Raises:
        UsageError: it is not.
    """
    if options.on == "inline":
        return replace(options, task_cpus=1.0, task_memory_bytes=0)  # one task at a time has all there is
    if options.on_ray:
        return options  # it is not on this machine: the fleet sees what there is
    if options.task_cpus is not None and options.task_cpus > options.executor_count:
        raise UsageError(
            f"A task that takes {options.task_cpus:g} CPUs never runs on {options.executor_count} executors, which "
            f"stand for a CPU each. Give more --executors, or less --task-cpus."
        )
    total = options.executor_memory_bytes * options.executor_count
    if options.task_memory_bytes > total:
        raise UsageError(
            f"A task that reserves {format_size(options.task_memory_bytes)} of memory never runs with "
            f"{format_size(total)} for all. Give more --memory, or less --task-memory."
        )
    return options


def open_fleet(options: JobOptions) -> Fleet:
    """Where the tasks of jobs of this process run."""
    if options.on_ray:
        return _ray_fleet(options)
    if options.on == "inline":
        from gristmill.fleets.inline import InlineFleet

        return InlineFleet()
    from gristmill.fleets.local import LocalFleet
    from gristmill.runtime.agent.agent import AgentSettings
    from gristmill.runtime.process.limits import limits_of

    limits = limits_of(options.max_processes, options.max_file_bytes)
    return LocalFleet(options.executor_count, AgentSettings(limits=limits))


def first_words(options: JobOptions) -> str:
    """What is being done until a job can begin, where that takes a while; else empty."""
    if not options.on_ray:
        return ""
    named = options.on if options.on != "ray" else os.environ.get("RAY_ADDRESS", "")
    if named in ("", "local"):
        return "Starting a Ray of its own on this machine …"
    return f"Connecting to {'the Ray cluster here' if named == 'auto' else f'the Ray cluster at {named}'} …"


def _ray_fleet(options: JobOptions) -> Fleet:
    from gristmill.api.shipping import Shipment
    from gristmill.fleets.ray.fleet import RayFleet
    from gristmill.fleets.ray.settings import PLACE_SECONDS, RaySettings
    from gristmill.runtime.process.limits import limits_of

    settings = RaySettings(
        address=options.on,
        executors=options.executors,
        memory_bytes=options.memory_bytes,
        task_cpus=options.task_cpus or 1.0,
        task_memory_bytes=options.task_memory_bytes,
        limits=limits_of(options.max_processes, options.max_file_bytes),
        data_dir=options.data_dir,
        place_seconds=options.place_timeout_seconds or PLACE_SECONDS,
    )
    return RayFleet(settings, lambda code: Shipment(code, options.py_files).bundle())


def pack(fleet: Fleet, code: bytes) -> None:
    """Gather the modules that a job on Ray imports.

    Raises:
        UsageError: they are too large, or cannot be read.
    """
    from gristmill.fleets.ray.fleet import RayFleet

    assert isinstance(fleet, RayFleet), "nowhere else are tasks on machines that this one does not share its files with"
    fleet.pack(code)


def _input_list(inputs: Inputs) -> tuple[str, ...]:
    several = [inputs] if isinstance(inputs, (str, os.PathLike)) else list(inputs)
    return tuple(os.fspath(item) for item in several)


def _output_path(output: Path | str | None, folder: JobFolder) -> Path | str:
    """The folder, or the URI, that a job has written to."""
    from gristmill.storage.places import output_path
    from gristmill.storage.targets import is_object_uri

    if output is None:
        return folder.path / "output"
    return str(output) if is_object_uri(str(output)) else Path(output_path(output))
