"""Puts a new output in the place of an old one: in one step where the system can, else in two that are noted first.

What a job is to replace is looked at when it begins, and may be another thing by the time it is done. If nothing but a
job's output was there in the beginning, or nothing at all, then nothing else is replaced in the end: what somebody has
put there meanwhile is his. A mark beside the parts says so, and goes where they go: to whoever takes the job up.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from gristmill.errors import OutputExists
from gristmill.storage import manifest
from gristmill.storage.failpoints import failpoint
from gristmill.storage.renames import exchange, rename_new
from gristmill.storage.staging import ATTEMPTS, OLD, READY, SWAP, write_durably

_SPARES = f"{ATTEMPTS}/.spares"


def note_replaced(staging: Path, output: Path) -> None:
    """Take note of what is in an output's place when its job begins.

    Raises:
        OSError: that cannot be written.
    """
    try:
        spares = not manifest.stranger_below(output)
    except OSError:  # it cannot be told: whoever asked for it knows what is there
        return
    if spares:
        (staging / _SPARES).touch()


def replace_output(staging: Path, final: Path, output: Path) -> None:
    """Let ``final`` be the output, and what was that be below ``staging``.

    Raises:
        OutputExists: somebody has put something there since the job began. It is left there.
        OSError: a rename failed.
    """
    spares = (staging / _SPARES).exists()
    if spares:
        _see_no_stranger(output, output)
    # Under a name of its own: what has that name afterwards must never be taken for what this job has made.
    ready = staging / READY
    final.rename(ready)
    if exchange(ready, output):
        failpoint("replace.exchanged")
        if spares:  # it came between the look and the step
            try:
                _see_no_stranger(ready, output)
            except (OSError, OutputExists):
                exchange(ready, output)
                ready.rename(final)
                raise
    else:
        ready.rename(final)
        _replace_in_two_steps(staging, final, output, spares=spares)


def _replace_in_two_steps(staging: Path, final: Path, output: Path, *, spares: bool) -> None:
    write_durably(staging / SWAP, {"output": output.name})
    failpoint("swap.journalled")
    output.rename(staging / OLD)
    failpoint("swap.old-moved")
    try:
        if spares:
            _see_no_stranger(staging / OLD, output)
        rename_new(final, output)
    except (OSError, OutputExists):
        with suppress(OSError):  # somebody else's output is in its place
            rename_new(staging / OLD, output)
        raise


def _see_no_stranger(folder: Path, output: Path) -> None:
    if os.path.lexists(folder) and (stranger := manifest.stranger_below(folder, unlisted=True)):
        raise OutputExists(
            f"The output {output} is not replaced: {stranger} has come there since the job began, and no job has "
            "written it. Take it away and try again, or name another output."
        )
