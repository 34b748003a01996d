"""From what others ask for to a job: built-in ones are made here, and those whose code must be loaded wait for that."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from gristmill.api.loading import load_builtin
from gristmill.api.messages import SubmitRequest
from gristmill.api.pickling import pickle_code
from gristmill.api.prepare import Submission
from gristmill.errors import UsageError
from gristmill.plan.stages import InputSpec
from gristmill.service.doors.roles import Caller
from gristmill.service.jobs import JobService
from gristmill.service.wishes import JobWish, WrongWish


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
        if code is None and wish.is_builtin:
            if wish.functions:
                raise WrongWish({role: "A built-in job has functions of its own." for role in wish.functions})
            return self._jobs.submit(self._builtin(wish), key, None, caller.driver, caller.user)
        raise UsageError("Code that is not built in cannot be loaded yet.")

    def _builtin(self, wish: JobWish) -> SubmitRequest:
        """A built-in job as a client would submit it: its code is ours."""
        assert wish.job is not None
        job = load_builtin(wish.job, wish.params)
        options = job.resolve(wish.job_options(), Path(wish.output))
        code = pickle_code(job.code, stable=True)
        submission = Submission(
            name=wish.name or job.name,
            code=b"",
            plan=job.plan(options, private=False),
            inputs=(InputSpec(tuple(wish.inputs)),),
            output=wish.output,
            options=replace(options, params={}),
        )
        return SubmitRequest(submission, self._jobs.blobs.add(code))
