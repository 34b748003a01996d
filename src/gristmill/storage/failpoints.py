"""Places where a test lets the process die, to see what a crash there leaves behind."""

from __future__ import annotations

import os
import signal

FAIL_POINTS = (
    "prepare.parents-made",
    "prepare.staging-unnamed",
    "prepare.done",
    "commit.begun",
    "commit.first-part-named",
    "commit.parts-named",
    "commit.success-written",
    "commit.synced",
    "swap.journalled",
    "swap.old-moved",
    "commit.published",
    "commit.cleaning",
    "commit.cleaned",
    "abort.begun",
)
"""Every step of an output's life, in order. The two of ``swap`` are passed only where an atomic exchange is missing."""

APPEND_POINTS = ("append.journalled", "append.first-moved", "append.moved", "append.list-written")
"""Steps that are passed when files are added to an output that is there, after ``commit.synced``."""

OBJECT_POINTS = (
    "objects.prepared",
    "objects.commit-begun",
    "objects.checked",
    "objects.published",
    "objects.cleaned",
    "objects.abort-begun",
)
"""Every step of an output's life on an object store."""

_ENV = "GRISTMILL_FAILPOINT"


def failpoint(name: str) -> None:
    """Do nothing; or, if the environment's GRISTMILL_FAILPOINT names this one, end the process as SIGKILL would.

    ``NAME:SIGINT`` sends this process a signal instead.
    """
    wanted, _, sent = os.environ.get(_ENV, "").partition(":")
    if wanted == name:
        if not sent:
            os._exit(137)
        signal.raise_signal(signal.Signals[sent])
