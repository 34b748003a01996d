"""Scripts of datasets: run as Python would, here or as the task of a job on a server (a driver).

A driver is a job of one task, whose maker runs the script. It talks to its server as any client does, with a session of
its own and a token that opens no more than that: see ``service.drivers``.
"""

from __future__ import annotations

import linecache
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from importlib.util import decode_source
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from gristmill.errors import FailureReport, Frame, GristmillError, JobFailed, TaskError, UsageError, UserCodeError

if TYPE_CHECKING:
    from gristmill.api.prepare import Submission
    from gristmill.api.remote import RemoteHandle
    from gristmill.config import JobOptions
    from gristmill.plan.functions import Maker


@dataclass(frozen=True)
class Script:
    """A script and what it is told.

    Attributes:
        file: where it lies, or lay on the machine where it was submitted, absolute; or the name of one that was
            uploaded.
        source: its text, in the encoding that it names.
        arguments: ``sys.argv`` but for its own name.
        named: how the user named it.
    """

    file: str
    source: bytes
    arguments: tuple[str, ...] = ()
    named: str = ""

    @classmethod
    def read(cls, path: Path, arguments: Sequence[str]) -> Script:
        """The script in a file.

        Raises:
            UsageError: it cannot be read.
        """
        try:
            return cls(str(path.absolute()), path.read_bytes(), tuple(arguments), str(path))
        except OSError as error:
            raise UsageError(f"The script {path} cannot be read: {error.strerror}.") from error

    @property
    def text(self) -> str:
        """Its text."""
        return decode_source(self.source)

    def run(self) -> None:
        """Run it as ``__main__``, with its folder in front of ``sys.path``. Whatever it raises is raised here."""
        code = compile(self.source, self.file, "exec", dont_inherit=True)
        module = ModuleType("__main__")
        module.__dict__.update(__file__=self.file, __loader__=ScriptText(self), __builtins__=__builtins__)
        if not (Path(self.file).is_absolute() and Path(self.file).is_file()):  # the lines that tracebacks show
            linecache.cache[self.file] = (len(self.source), None, self.text.splitlines(keepends=True), self.file)
        before = sys.argv, sys.path, sys.modules["__main__"]
        sys.argv = [self.named or self.file, *self.arguments]
        sys.path = [*([str(Path(self.file).parent)] if Path(self.file).is_absolute() else []), *sys.path]
        sys.modules["__main__"] = module
        try:
            exec(code, module.__dict__)
        finally:
            sys.argv, sys.path, sys.modules["__main__"] = before


class ScriptText:
    """The loader of a script's module: whoever wants its text need not find it on a disk."""

    def __init__(self, script: Script) -> None:
        self._script = script

    def get_source(self, name: str) -> str:  # noqa: ARG002 - as loaders have it
        """The text."""
        return self._script.text


@dataclass(frozen=True)
class Here:
    """Where a driver runs: what it needs to call its server.

    Attributes:
        server: where that is.
        scratch: a folder of its own.
        token_file: what it is known by there.
    """

    server: str
    scratch: Path
    token_file: Path

    @classmethod
    def find(cls) -> Here:
        """In an executor, within the driver's task."""
        from gristmill.runtime.executor.here import job_here, scratch_here

        job, scratch = job_here(), scratch_here()
        assert job is not None and scratch is not None, "a driver is a task"
        scratch.mkdir(parents=True, exist_ok=True)
        token = scratch / "token"
        token.touch(mode=0o600)
        token.write_text(f"{job.job}.{job.ticket}")
        return cls(job.server, scratch, token)


@dataclass(frozen=True)
class Driver:
    """A script as the maker of a job's input. It makes no records.

    Attributes:
        script: what to run.
        options: of the session that it gets.
        folder: the current folder where it was submitted, which is that of the script if it is there.
    """

    script: Script
    options: Mapping[str, Any] = field(default_factory=dict)
    folder: str = ""

    def make(self, task: int) -> Iterator[Any]:  # noqa: ARG002 - there is one
        """Run the script, in an executor of a server."""
        from gristmill.api.session import session_defaults

        here = Here.find()
        with suppress(OSError):  # it is another machine
            os.chdir(self.folder)
        own = {"on": here.server, "token_file": str(here.token_file), "data_dir": str(here.scratch)}
        options = {**self.options, **own}
        try:
            with session_defaults(options):
                self.script.run()
        except SystemExit as error:
            if error.code not in (None, 0):
                raise _exited(self.script, error.code) from error
        except JobFailed as error:
            if error.report is None:
                raise
            raise UserCodeError(error.report) from error
        except TaskError:
            raise
        except GristmillError as error:
            raise UserCodeError(_report_of(self.script, error)) from error
        return iter(())


def _exited(script: Script, code: Any) -> TaskError:
    name = Path(script.file).name
    if isinstance(code, int):
        return UserCodeError(FailureReport("UserCodeError", f"{name} ended with the exit code {code}."))
    return UserCodeError(FailureReport("UserCodeError", f"{name} ended: {code}"))


def _report_of(script: Script, error: GristmillError) -> FailureReport:
    """What a script's call of ours has raised, with the script's line."""
    frames = own_frames(error, lambda file: file == script.file)
    return FailureReport("UserCodeError", str(error), frames, exception=type(error).__name__)


def own_frames(error: BaseException, is_own: Callable[[str], bool]) -> tuple[Frame, ...]:
    """The lines of some files that an exception came by."""
    return tuple(
        Frame(one.filename, one.lineno or 0, one.name, (one.line or "").strip())
        for one in traceback.extract_tb(error.__traceback__)
        if is_own(one.filename)
    )


def submit_script(
    script: Script, options: JobOptions, session_options: Mapping[str, Any], attempts: int = 1
) -> RemoteHandle:
    """Hand a script to a server, to run there as a driver.

    Args:
        script: the script.
        options: says which server, what to send along, and with which priority.
        session_options: of its session.
        attempts: see :func:`driver_of`.

    Raises:
        UsageError: something is wrong with it; the server did not take it.
        ServerUnreachable: no server is there, or it is full.
    """
    from gristmill.api.client import connect
    from gristmill.api.remote import hand_over, request_for
    from gristmill.api.shipping import Shipment
    from gristmill.runtime.files.blobs import digest_of

    folder = os.getcwd()  # noqa: PTH109 - as it is, not resolved
    shipment = Shipment(b"", options.py_files, scripts=(script.file,))
    bundle = shipment.bundle()
    made = driver_of(Driver(script, dict(session_options), folder), Path(script.file).name, options, attempts)
    submission = replace(
        made,
        code=b"",
        base=folder,
        bundles=() if bundle is None else (digest_of(bundle),),
        sources=shipment.sources(),
    )
    server = connect(options.on if options.is_remote else None, options.token_file, options.data_dir)
    blobs = {digest_of(data): data for data in (made.code, bundle) if data is not None}
    return hand_over(server, request_for(submission, digest_of(made.code)), blobs)


def driver_of(maker: Maker, name: str, options: JobOptions, attempts: int = 1) -> Submission:
    """A driver as a job to submit, with its code.

    Args:
        maker: does all in its one task, and makes no records.
        name: for people.
        options: how it is to run.
        attempts: how often to run it, until it succeeds. What it did before it failed is done again then: so it is 1,
            unless its author knows that this does no harm.
    """
    import cloudpickle

    from gristmill.api.prepare import Submission
    from gristmill.plan.cut import cut
    from gristmill.plan.logical import Read
    from gristmill.plan.stages import InputSpec, RowsSink

    made = cut(Read(InputSpec(made=1), maker, name="driver"), RowsSink())
    return Submission(
        name=name,
        code=bytes(cloudpickle.dumps(made.code)),
        plan=made.plan,
        inputs=made.inputs,
        output=None,
        options=replace(
            options, max_attempts=attempts, speculation=False, task_timeout_seconds=None, reducers=None, params={}
        ),
        origins=made.origins,
        driver=True,
    )
