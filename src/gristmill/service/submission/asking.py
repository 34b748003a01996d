"""From what others ask for to a job: built-in ones are made here, and those whose code must be loaded wait for that."""

from __future__ import annotations

import io
import re
import time
import zipfile
from dataclasses import replace
from pathlib import Path, PurePosixPath

from gristmill.api.builtin import BUILTIN
from gristmill.api.driver import driver_of
from gristmill.api.loading import load_builtin
from gristmill.api.messages import SubmitRequest
from gristmill.api.pickling import pickle_code
from gristmill.api.places import look_at, shown
from gristmill.api.prepare import Submission
from gristmill.api.uploaded import ScriptTask
from gristmill.config import MIB, format_size
from gristmill.plan.stages import InputSpec
from gristmill.runtime.files.blobs import digest_of
from gristmill.runtime.files.jobfolder import claim_job
from gristmill.runtime.journal.facts import JobRequested
from gristmill.service.doors.roles import Caller
from gristmill.service.submission.jobs import JobService
from gristmill.service.submission.keys import key_of
from gristmill.service.submission.loader import CODE
from gristmill.service.submission.wishes import JobWish, WrongWish

_FILE = re.compile(r"[^\x00-\x1f/\\]{1,100}\.(py|zip)")
_MAX_UNPACKED_BYTES = 256 * MIB
_MAX_MEMBERS = 10_000
_MAX_TABLE_BYTES = 2 * MIB


class Asking:
    """Takes wishes in.

    Args:
        jobs: takes the jobs that they become.
    """

    def __init__(self, jobs: JobService) -> None:
        self._jobs = jobs

    def ask(self, wish: JobWish, code: tuple[str, bytes] | None, key: str, caller: Caller) -> str:
        """Take a wish in; the id of its job.

        Args:
            wish: what is asked for.
            code: the name and the bytes of the file that came along, if one did.
            key: see ``JobService.submit``.
            caller: who asks.

        Raises:
            UsageError: something is wrong with it.
        """
        if code is not None and wish.is_script:
            request, asked = self._script(wish, *code), _digest(wish, *code)
            return self._jobs.submit(request, key, None, caller.driver, caller.user, asked)
        wish.check_job()
        if code is None and wish.is_builtin:
            if wish.functions:
                raise WrongWish({role: "A built-in job has functions of its own." for role in wish.functions})
            return self._jobs.submit(self._builtin(wish), key, None, caller.driver, caller.user)
        return self._request(wish, code, key_of(key, caller.user), caller)

    def _builtin(self, wish: JobWish) -> SubmitRequest:
        """A built-in job as a client would submit it: its code is ours."""
        assert wish.job is not None
        job = load_builtin(wish.job, wish.params)
        options = job.resolve(wish.job_options(), Path(wish.place))
        code = pickle_code(job.code, stable=True)
        submission = Submission(
            name=wish.name or job.name,
            code=b"",
            plan=job.plan(options, private=False),
            inputs=(InputSpec(tuple(wish.inputs)),),
            output=wish.place,
            options=options,
        )
        return SubmitRequest(submission, self._jobs.blobs.add(code))

    def _script(self, wish: JobWish, given: str, data: bytes) -> SubmitRequest:
        """A script of datasets as a client would submit it: the code is ours, and the user's is bytes in it."""
        wish.check_script()
        file = _file_name(given)
        whole = not file.endswith(".zip")
        if whole and wish.job is not None:
            raise WrongWish(
                {"job": f"A script has no class to run. To run a job of {file}, name inputs and an output."}
            )
        module = "" if whole else _with_module(wish, file, data).job or ""
        task = ScriptTask(file, data if whole else b"", module, tuple(wish.arguments), wish.session_options())
        made = driver_of(task, wish.name or file, wish.job_options(), wish.driver_attempts)
        bundles = () if whole else (self._jobs.blobs.add(data),)
        return SubmitRequest(replace(made, code=b"", bundles=bundles), self._jobs.blobs.add(made.code))

    def _request(self, wish: JobWish, code: tuple[str, bytes] | None, key: str, caller: Caller) -> str:
        """Take in a job whose code an executor is to load, at its turn."""
        file, data = ("", b"") if code is None else (_file_name(code[0]), code[1])
        wish = _with_module(wish, file, data)
        options = wish.job_options()
        asked = _digest(wish, file, data) if key else ""
        if key and (known := self._jobs.find_key(key, asked)):
            return known
        written = [wish.place, *filter(None, [options.shuffle_dir])]
        self._jobs.check_paths([*wish.inputs, *written])
        self._jobs.check_written(written)
        look_at(wish.inputs, options.input_format, wish.place, options.overwrite)
        now = time.time()
        wanted = JobRequested(
            job=claim_job(self._jobs.data_dir, now),
            name=wish.name or wish.job or PurePosixPath(file).stem,
            user=caller.user,
            at=now,
            request={"wish": wish.model_dump(), "file": file},
            output=shown(wish.place),  # what others see of it
            key=key,
            digest=asked,
            priority=wish.priority,
            deadline_seconds=options.deadline_seconds,
        )
        return self._jobs.request(wanted, {CODE: data} if file else {})


def _digest(wish: JobWish, file: str, data: bytes) -> str:
    """Tells what is asked for from all else."""
    return wish.digest(f"{file}:{digest_of(data)}" if file else "")


def _file_name(given: str) -> str:
    """The name of an uploaded file, without folders.

    Raises:
        WrongWish: it is no file of code.
    """
    name = re.split(r"[/\\]", given)[-1]
    if not _FILE.fullmatch(name) or not name.isprintable():
        raise WrongWish({"code": f"{name!r} is neither a .py nor a .zip file."})
    return name


def _with_module(wish: JobWish, file: str, data: bytes) -> JobWish:
    """The wish with the module named in which the job is.

    Raises:
        WrongWish: it cannot be told, or the file is no such file.
    """
    if file.endswith(".py"):
        if wish.job is not None and not wish.job.isidentifier():
            raise WrongWish({"job": f"{wish.job} is not the name of a class in {file}."})
        return wish
    if file:
        modules = _modules_in(data)
        if wish.job is None and len(modules) == 1:
            return wish.model_copy(update={"job": modules[0]})
        if wish.job is None:
            there = f" There is: {', '.join(modules[:10])}." if modules else ""
            raise WrongWish({"job": f"Say which module of {file} the job is in, as module:Name.{there}"})
    elif wish.job is None:
        raise WrongWish({"job": f"Name a built-in job ({', '.join(BUILTIN)}) or a module, or upload a file as code."})
    if re.search(r"-|\.\.|\.$|\.:", wish.job):
        raise WrongWish({"job": f"{wish.job} is neither a built-in job ({', '.join(BUILTIN)}) nor a module."})
    return wish


def _modules_in(data: bytes) -> list[str]:
    """The modules at the top of a zip file. Only its table is read.

    Raises:
        WrongWish: it is none, or too large when unpacked.
    """
    try:
        _check_table(data)
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = archive.infolist()
    except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError, EOFError, IndexError) as error:
        raise WrongWish({"code": f"This is not a zip file: {error}."}) from None
    size = sum(member.file_size for member in members)
    if size > _MAX_UNPACKED_BYTES or len(members) > _MAX_MEMBERS:
        raise WrongWish(
            {"code": f"Unpacked it would be {len(members):,} files of {format_size(size)}: at most {_MAX_MEMBERS:,} of "
             f"{format_size(_MAX_UNPACKED_BYTES)} are taken."}
        )  # fmt: skip
    return [name[:-3] for member in members if (name := member.filename).endswith(".py") and name[:-3].isidentifier()]


def _check_table(data: bytes) -> None:
    """See by its last record that the table of a zip file is small, before it is read: it may be all of the file.

    Raises:
        WrongWish: it is not.
    """
    # Found as ZipFile itself finds it: of two such records in one file another reader might take the harmless one.
    end = zipfile._EndRecData(io.BytesIO(data))  # type: ignore[attr-defined]
    if end is None:
        raise zipfile.BadZipFile("it has no table")
    members, size = end[zipfile._ECD_ENTRIES_TOTAL], end[zipfile._ECD_SIZE]  # type: ignore[attr-defined]
    if members > _MAX_MEMBERS or size > _MAX_TABLE_BYTES:
        raise WrongWish(
            {"code": f"It has {members:,} files in a table of {format_size(size)}: at most {_MAX_MEMBERS:,} in one of "
             f"{format_size(_MAX_TABLE_BYTES)} are taken."}
        )  # fmt: skip
