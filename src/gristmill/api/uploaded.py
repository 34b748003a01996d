"""Code that came to a server as a file, or that only the workers have: loaded in an executor, not in the server.

The server makes a job of one task for that, a :class:`LoadTask`. It runs where all user code runs, makes of the file
what ``gristmill submit`` makes of it on its user's machine, and hands that back for the job that was asked for. A
script of datasets is not loaded but run, as one that was submitted is: a :class:`ScriptTask` is its driver.
"""

from __future__ import annotations

import linecache
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

from gristmill.api.driver import Driver, Here, Script, ScriptText, own_frames
from gristmill.api.job import Job
from gristmill.api.loading import (
    import_paths,
    is_script_text,
    is_users_file,
    job_of,
    load_job,
    load_module,
    load_module_text,
)
from gristmill.api.mapreduce import MapReduce
from gristmill.config import JobOptions
from gristmill.errors import FailureReport, Frame, GristmillError, JobNotFound, TaskError, UserCodeError
from gristmill.plan.functions import JobCode

_FILE = ".py"
_AS_A_SCRIPT = "send it without inputs and output, which it names itself. What it is to be told goes into arguments."


@dataclass(frozen=True)
class LoadTask:
    """What to load, as the maker of a job's input. It makes no records.

    Attributes:
        job: the job whose code it is.
        file: the name of the file that was sent; empty: a module that is here.
        source: what is in it, if it is a script. A zip file comes as a bundle of this job.
        spec: the class in the script; else ``package.module:Name``. Empty: the only one there is.
        functions: functions of the module by their roles, if they are named.
        params: the job's parameters.
        inputs: absolute.
        output: likewise.
        options: how the job is to run.
        name: for people; empty: the job's own.
    """

    job: str
    file: str
    source: bytes
    spec: str
    functions: Mapping[str, str]
    params: Mapping[str, Any]
    inputs: tuple[str, ...]
    output: str
    options: JobOptions
    name: str = ""

    def make(self, task: int) -> Iterator[Any]:  # noqa: ARG002 - there is one
        """Load it, and hand it to the server, in an executor of that."""
        from gristmill.api.client import connect
        from gristmill.api.remote import fulfil

        here = Here.find()
        server = connect(here.server, here.token_file, here.scratch)
        try:
            loaded = self.load()
            options = replace(self.options, params=dict(self.params))
            fulfil(server, self.job, loaded, self.inputs, self.output, options)
        except TaskError:
            raise
        except GristmillError as error:
            raise UserCodeError(_report_of(error)) from error
        return iter(())

    def load(self) -> Job:
        """The job.

        Raises:
            UsageError: it cannot be loaded; the user's own line is in it.
        """
        if self.functions:
            return self._job_of_functions()
        if self.file.endswith(_FILE):
            if not self.spec and is_script_text(self.source):
                raise JobNotFound(f"{self.file} is a script of datasets, and no job: {_AS_A_SCRIPT}")
            loaded = job_of(self._module(), self.spec, self.params)
        else:
            loaded = load_job(self.spec, self.params)
        return replace(loaded, name=self.name) if self.name else loaded

    def _module(self) -> ModuleType:
        if self.file.endswith(_FILE):
            return load_module_text(self.file, self.source, ScriptText(Script(self.file, self.source)))
        return load_module(self.spec.partition(":")[0])

    def _job_of_functions(self) -> Job:
        """The job of functions that are named, of which none need be called as its role is."""
        module = self._module()
        named = {role: _named(module, name) for role, name in self.functions.items()}
        others = {role: vars(module).get(role) for role in ("combiner", "reducer") if role not in named}
        if "mapper" not in named:
            others["mapper"] = vars(module).get("mapper")
        if self.params and isinstance(own := vars(module).get("params"), dict):
            own.update(self.params)
        found = {role: function for role, function in others.items() if callable(function)}
        name = self.name or Path(self.file or module.__name__).stem
        return Job(name, JobCode((MapReduce.step(**named, **found),)), import_paths())


@dataclass(frozen=True)
class ScriptTask:
    """A script of datasets that was sent, as the maker of a driver's input. It makes no records.

    Attributes:
        file: the name of the file that was sent.
        source: what is in it. A zip file comes as a bundle of this job.
        module: the module of the zip file that is the script.
        arguments: see ``Script``.
        options: see ``Driver``.
    """

    file: str
    source: bytes
    module: str
    arguments: tuple[str, ...]
    options: Mapping[str, Any]

    def make(self, task: int) -> Iterator[Any]:
        """Run it, in an executor of a server."""
        return Driver(self._script(), self.options).make(task)

    def _script(self) -> Script:
        file, source = self.file, self.source
        if self.module:
            try:
                found = find_spec(self.module)
            except (ImportError, ValueError):
                found = None
            if found is None or found.origin is None or not found.has_location:
                raise _refused(f"There is no module {self.module} in {self.file}.")
            file, source = found.origin, Path(found.origin).read_bytes()
        name = Path(file).name
        try:
            compile(source, name, "exec", dont_inherit=True)
        except (SyntaxError, ValueError) as error:
            raise UserCodeError(_report_of_cause(error)) from error
        if not is_script_text(source):
            raise _refused(
                f"{name} is no script of datasets: it has a job in it, or does not import gristmill. A job needs "
                "inputs and an output."
            )
        return Script(file, source, self.arguments, name)


def _refused(why: str) -> UserCodeError:
    return UserCodeError(FailureReport("UserCodeError", why, exception="JobNotFound"))


def _named(module: ModuleType, name: str) -> Any:
    found: Any = module
    for part in name.split("."):
        found = getattr(found, part, None)
    if not callable(found):
        raise JobNotFound(f"{Path(module.__file__ or module.__name__).name} has no function {name}.")
    return found


def _report_of(error: GristmillError) -> FailureReport:
    """Why the code cannot be loaded, with the user's lines."""
    cause = error.__cause__
    if cause is None or not cause.__traceback__:
        return FailureReport("UserCodeError", str(error), exception=type(error).__name__)
    return _report_of_cause(cause)


def _report_of_cause(cause: BaseException) -> FailureReport:
    frames = own_frames(cause, is_users_file)
    if isinstance(cause, SyntaxError) and cause.filename:
        line = cause.lineno or 0
        source = (cause.text or linecache.getline(cause.filename, line)).strip()
        frames = (*frames, Frame(cause.filename, line, "<module>", source))
        return FailureReport("UserCodeError", str(cause.msg), frames, exception=type(cause).__name__)
    return FailureReport("UserCodeError", str(cause), frames, exception=type(cause).__name__)
