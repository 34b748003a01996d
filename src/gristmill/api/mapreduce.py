"""``MapReduce``: the classic job. One class, one or several steps."""

from __future__ import annotations

import difflib
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypedDict

from gristmill.config import JobOptions, parse_duration, parse_size
from gristmill.errors import UsageError
from gristmill.plan.functions import Pairs, count
from gristmill.plan.functions import StepFunctions as Step

if TYPE_CHECKING:
    from typing import Unpack

    from gristmill.api.job import Inputs, Job, JobHandle
    from gristmill.api.remote import RemoteHandle
    from gristmill.api.result import JobResult
    from gristmill.runtime.views import JobView, Observer

__all__ = ["MapReduce", "RunOptions", "Step"]


class RunOptions(TypedDict, total=False):
    """How a job is to run. What is left out is chosen; see the table of options of ``gristmill run``."""

    params: Mapping[str, Any] | None  # what self.params holds, over the class's own
    on: str  # "local", "inline", the address of a server: "http://HOST:7077"; "ray" or "ray://HOST:10001"
    executors: int | None  # processes; the CPUs this process may use
    memory: str | int | None  # of all executors together: "2GiB" or bytes
    reducers: int | None  # reduce tasks, and so files in the output
    split_size: str | int | None  # input of one map task: "16MiB" or bytes
    input_format: str | None  # text, whole, csv, jsonl or parquet; by the file's suffix
    output_format: str | None  # text, csv, jsonl or parquet
    overwrite: bool  # True to replace an existing output, once the new one is whole
    combiner: bool  # False to run without
    max_attempts: int  # how often a task is tried when the job's own code fails: 4
    max_bad_records: int  # failing records to set aside instead of failing: 0
    max_record_size: str | int | None  # a longer record is refused: "64MiB" or bytes
    task_timeout: str | float | None  # of one attempt: "10m" or seconds
    data_dir: str | os.PathLike[str] | None  # where jobs keep their working files
    resume: bool  # True to take up an interrupted run of the same job
    speculation: bool  # False never to run a straggler twice
    priority: int  # over other jobs of a server: 0
    task_cpus: float  # CPUs that each task takes of its worker: 1
    task_memory: str | int | None  # memory that each task reserves on its worker
    shuffle_dir: str | os.PathLike[str] | None  # a folder or URI on shared storage for what goes from map to reduce
    py_files: Sequence[str | os.PathLike[str]]  # .py, .zip and .whl files and directories to send along
    token_file: str | os.PathLike[str] | None  # holds the server's token
    max_processes: int | None  # that a task's code may have at a time; 256, or 4 for each CPU
    max_file_size: str | int | None  # of a file that a task writes: "1GiB" or bytes
    place_timeout: str | float | None  # on Ray, for room for the first slot: "10m" or seconds
    progress: Observer | bool | None  # a function that is told, or True for bars on the terminal


class ScriptLoading:
    """Whether a job's script is being loaded now, so that ``main`` and ``run`` in it must not start anything."""

    active: ClassVar[bool] = False
    started: ClassVar[type[MapReduce] | None] = None  # the class whose main() or run() the script called
    acts: ClassVar[bool] = False  # the script wanted to compute a dataset


_given_params: ContextVar[Mapping[str, Any] | None] = ContextVar("gristmill_params", default=None)


class _Plain(str):
    """Text whose repr is itself: a KeyError shows the repr of its argument."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


class _Params(dict[str, Any]):
    """A job's parameters. Reading one that is not there says how to give it."""

    def __missing__(self, name: str) -> Any:
        how = f"--set {name}=VALUE or params={{{name!r}: value}}"
        raise KeyError(_Plain(f"the job has no parameter {name!r}; give it with {how}"))


class StopLoading(BaseException):
    """Ends the loading of a script at its ``run()``: all that the job can need is defined by then."""


class MapReduce:
    """A job: subclass it and write a ``mapper``, a ``reducer``, or both.

    ``mapper(key, value)`` is called on every record and yields pairs; for lines of text the key is None.
    ``reducer(key, values)`` is called on every distinct key, in order, with an iterator over its values, and yields
    pairs of the result. What is not written is left out: no mapper passes records on as they are, and without a
    reducer the mapper's pairs are the result. Methods may also return a list of pairs, or None for no pairs.

    An instance lives as long as one task: what ``mapper_init`` puts on ``self`` is there in ``mapper``.

    Attributes:
        params: the job's parameters. A class may give defaults; ``run(params=…)`` and ``--set`` win over them.
        input_format: text, whole, csv, jsonl or parquet, if the file's suffix does not say it.
        output_format: text, csv, jsonl or parquet, if it shall not be text.
        reducers: how many reduce tasks, if it shall not follow from the input's size.
        task_cpus: how many CPUs each task takes of its worker, if not one.
        task_memory: how much memory each task reserves on its worker: "2GiB" or bytes.
    """

    params: dict[str, Any] = {}  # noqa: RUF012 - a default that is never changed, only replaced
    input_format: str | None = None
    output_format: str | None = None
    reducers: int | None = None
    task_cpus: float | None = None
    task_memory: str | int | None = None

    def __new__(cls, *_args: Any, **_named: Any) -> Self:
        # Here rather than in __init__, which belongs to the user and may already read the parameters.
        job = super().__new__(cls)
        job.params = _Params()
        for base in reversed(cls.__mro__):
            job.params.update(vars(base).get("params") or {})
        job.params.update(_given_params.get() or {})
        return job

    # What a job may define. These stand here for their names and their help; none of them is ever called.

    def mapper(self, key: Any, value: Any) -> Pairs | None:
        """Yield pairs for one record."""
        raise NotImplementedError

    def mapper_init(self) -> Pairs | None:
        """Prepare a map task, before its first record: open connections, load models. May yield pairs."""
        raise NotImplementedError

    def mapper_final(self) -> Pairs | None:
        """Finish a map task, after its last record. May yield pairs."""
        raise NotImplementedError

    def combiner(self, key: Any, values: Iterator[Any]) -> Pairs | None:
        """Reduce a part of a key's values where they are made. May run any number of times, also not at all."""
        raise NotImplementedError

    def reducer(self, key: Any, values: Iterator[Any]) -> Pairs | None:
        """Yield pairs for one key and all its values."""
        raise NotImplementedError

    def reducer_init(self) -> Pairs | None:
        """Prepare a reduce task, before its first key. May yield pairs."""
        raise NotImplementedError

    def reducer_final(self) -> Pairs | None:
        """Finish a reduce task, after its last key. May yield pairs."""
        raise NotImplementedError

    def partitioner(self, key: Any, partitions: int) -> int:
        """The reduce task of a key, from 0 to ``partitions`` - 1. Equal keys must go to the same."""
        raise NotImplementedError

    def steps(self) -> Sequence[Step]:
        """The job's steps. A job of several overrides this; each step reads what the one before it yields."""
        return [self.step(**{role: getattr(self, role) for role in ROLES if self._defines(role)})]

    # What a job may call.

    @staticmethod
    def step(**functions: Callable[..., Any] | None) -> Step:
        """One step for ``steps``: ``self.step(mapper=self.first, reducer=self.second)``.

        Raises:
            UsageError: there is no such role, or what is given for it cannot be called.
        """
        for role, function in functions.items():
            if role not in ROLES:
                raise UsageError(f"A step has no {role!r}. It may have: {', '.join(ROLES)}.")
            if function is not None and not callable(function):
                raise UsageError(f"The {role} of a step must be a function, not {function!r}.")
        return Step(**functions)

    def counter(self, group: str, name: str, n: int = 1) -> None:
        """Add ``n`` to a counter of the job. Attempts that failed do not count."""
        count(group, name, n)

    @classmethod
    def run(
        cls, inputs: Inputs, output: str | os.PathLike[str] | None = None, **options: Unpack[RunOptions]
    ) -> JobResult:
        """Run the job and wait for it.

        Args:
            inputs: a file, directory or glob, or a list of them.
            output: the folder where the result is to appear, all at once. Without it the result is kept for this
                process, until the returned object goes.
            **options: see :class:`RunOptions`.

        Returns:
            The result: iterate over it for the pairs, or ask it for ``counters``, ``summary()`` or ``to_arrow()``.

        Raises:
            UsageError: something is wrong with the inputs, the output, the options or the code.
            JobFailed: the job failed; ``error.report`` says where and why.
            JobCancelled: Ctrl-C.
        """
        from gristmill.api.job import run_job

        return run_job(*cls._prepared(inputs, output, options))

    @classmethod
    def start(
        cls, inputs: Inputs, output: str | os.PathLike[str] | None = None, **options: Unpack[RunOptions]
    ) -> JobHandle | RemoteHandle:
        """Start the job and return at once: a handle with ``wait(timeout)``, ``cancel()`` and ``view()``.

        The arguments are those of :meth:`run`. With ``on="inline"`` the job runs when it is waited for.
        """
        from gristmill.api.job import start_job

        return start_job(*cls._prepared(inputs, output, options))

    @classmethod
    def _prepared(
        cls, inputs: Inputs, output: str | os.PathLike[str] | None, options: RunOptions
    ) -> tuple[Job, Inputs, str | os.PathLike[str] | None, JobOptions, Observer | None]:
        """The arguments of ``run_job``."""
        if ScriptLoading.active:
            ScriptLoading.started = cls
            raise StopLoading
        from gristmill.api.loading import job_of_class

        observer = observer_of(options.pop("progress", None))
        parsed = parse_options(options)
        if parsed.py_files:
            from gristmill.api.shipping import add_to_path

            add_to_path(parsed.py_files)
        return job_of_class(cls, parsed.params), inputs, output, parsed, observer

    @classmethod
    def main(cls, argv: Sequence[str] | None = None) -> None:
        """The command line of the job: ``python wordcount.py INPUT... -o OUTPUT``. Ends the program."""
        if ScriptLoading.active:
            ScriptLoading.started = cls
            return
        from gristmill.cli.run import main_for_job

        sys.exit(main_for_job(cls, argv))

    @classmethod
    def with_params(cls, params: Mapping[str, Any]) -> Self:
        """An instance whose ``params`` are the class's own and, over them, these."""
        token = _given_params.set(params)
        try:
            return cls()
        finally:
            _given_params.reset(token)

    @classmethod
    def _defines(cls, role: str) -> bool:
        return getattr(cls, role) is not getattr(MapReduce, role)


ROLES = tuple(Step.__dataclass_fields__)
"""The names of a step's functions."""


def parse_options(options: RunOptions) -> JobOptions:
    """The options of ``run`` in their parsed form.

    Raises:
        UsageError: an option does not exist, or its value is not possible.
    """
    known = sorted(RunOptions.__annotations__)
    for name in options:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"Did you mean {close[0]}?" if close else f"There are: {', '.join(known)}."
            raise UsageError(f"There is no option {name}. {hint}")
    given = {name: value for name, value in options.items() if value is not None}
    for name, value in given.items():
        if not isinstance(value, _TYPES[name]) or (isinstance(value, bool) and _TYPES[name] is not bool):
            raise UsageError(f"The option {name} cannot be {value!r}, of type {type(value).__name__}.")
    renamed: dict[str, Any] = {_FIELDS.get(name, name): value for name, value in given.items()}
    for name in ("memory_bytes", "split_bytes", "max_record_bytes", "task_memory_bytes", "max_file_bytes"):
        if name in renamed:
            renamed[name] = parse_size(renamed[name])
    for name in ("task_timeout_seconds", "place_timeout_seconds"):
        if name in renamed:
            renamed[name] = parse_duration(renamed[name])
    for name in ("data_dir", "token_file"):
        if name in renamed:
            renamed[name] = Path(renamed[name])
    if "py_files" in renamed:
        renamed["py_files"] = tuple(map(os.fspath, renamed["py_files"]))
    if "shuffle_dir" in renamed:
        renamed["shuffle_dir"] = os.fspath(renamed["shuffle_dir"])
    return JobOptions(**renamed)


_TYPES: dict[str, Any] = {
    "params": Mapping, "on": str, "executors": int, "memory": (str, int), "reducers": int, "split_size": (str, int),
    "input_format": str, "output_format": str, "overwrite": bool, "combiner": bool, "max_attempts": int,
    "max_bad_records": int, "max_record_size": (str, int), "task_timeout": (str, int, float),
    "data_dir": (str, os.PathLike), "shuffle_dir": (str, os.PathLike), "resume": bool, "speculation": bool,
    "priority": int, "task_cpus": (int, float), "task_memory": (str, int), "py_files": (list, tuple),
    "token_file": (str, os.PathLike), "max_processes": int, "max_file_size": (str, int),
    "place_timeout": (str, int, float),
}  # fmt: skip
_FIELDS = {
    "memory": "memory_bytes",
    "split_size": "split_bytes",
    "max_file_size": "max_file_bytes",
    "max_record_size": "max_record_bytes",
    "task_timeout": "task_timeout_seconds",
    "place_timeout": "place_timeout_seconds",
    "task_memory": "task_memory_bytes",
}


def observer_of(progress: Observer | bool | None, *, transient: bool = False) -> Observer | None:
    """Who is told how a job stands, by what the user gave as ``progress``."""
    return (Bars(transient=transient) if progress else None) if isinstance(progress, bool) else progress


class Bars:
    """An observer that draws bars on the terminal for as long as the job runs.

    Args:
        transient: they vanish at its end, for there are many jobs.
        first: what is shown where there is no job yet: within a ``with``.
    """

    def __init__(self, *, transient: bool = False, first: str = "") -> None:
        from gristmill.cli.display import ProgressDisplay

        self._display = ProgressDisplay(transient=transient, first=first)
        self._drawing = False

    def __enter__(self) -> None:
        self._display.__enter__()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._display.__exit__(kind, error, tb)

    def __call__(self, view: JobView) -> None:
        """Take note of how the job stands."""
        if not self._drawing:  # not before there is a job: wrong use must leave the terminal as it was
            self._drawing = True
            self._display.__enter__()
        self._display(view)
        if view.state.is_final:
            self._display.__exit__(None, None, None)
