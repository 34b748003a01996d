"""Gristmill grinds batches: map, shuffle, reduce, in Python, all or nothing.

Importing this is cheap: what is named here is loaded when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gristmill.api.job import JobHandle
    from gristmill.api.mapreduce import MapReduce, Step
    from gristmill.api.mr import KeyValue
    from gristmill.api.result import JobResult
    from gristmill.errors import (
        GristmillError,
        InputMissing,
        InputUnreadable,
        JobCancelled,
        JobFailed,
        JobNotFound,
        OutputExists,
        OutputNotWritable,
        TooManyBadRecords,
        UnpicklableCode,
        UsageError,
    )
    from gristmill.plan.functions import count

__version__ = "0.1.0"

__all__ = [
    "GristmillError",
    "InputMissing",
    "InputUnreadable",
    "JobCancelled",
    "JobFailed",
    "JobHandle",
    "JobNotFound",
    "JobResult",
    "KeyValue",
    "MapReduce",
    "OutputExists",
    "OutputNotWritable",
    "Step",
    "TooManyBadRecords",
    "UnpicklableCode",
    "UsageError",
    "__version__",
    "count",
]

_HOMES = {
    "JobHandle": "gristmill.api.job",
    "JobResult": "gristmill.api.result",
    "KeyValue": "gristmill.api.mr",
    "MapReduce": "gristmill.api.mapreduce",
    "Step": "gristmill.api.mapreduce",
    "count": "gristmill.plan.functions",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES.get(name, "gristmill.errors")), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
