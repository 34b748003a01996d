"""Gristmill grinds batches: map, shuffle, reduce, in Python, all or nothing.

Importing this is cheap: what is named here is loaded when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gristmill.api.datasets.dataset import Dataset
    from gristmill.api.datasets.keeping import StorageLevel
    from gristmill.api.datasets.sources import (
        from_arrow,
        from_items,
        from_pandas,
        read_avro,
        read_checkpoint,
        read_csv,
        read_jsonl,
        read_orc,
        read_parquet,
        read_text,
        read_whole_files,
    )
    from gristmill.api.datasets.sources import range as range
    from gristmill.api.datasets.stats import Stats
    from gristmill.api.job import JobHandle
    from gristmill.api.mapreduce import MapReduce, Step
    from gristmill.api.mr import KeyValue
    from gristmill.api.result import JobResult
    from gristmill.api.session import Session
    from gristmill.api.shared import Accumulator, Broadcast, accumulator, broadcast
    from gristmill.errors import (
        BroadcastDestroyed,
        CollectTooLarge,
        EmptyDataset,
        GristmillError,
        InputMissing,
        InputUnreadable,
        JobCancelled,
        JobFailed,
        JobNotFound,
        OutputExists,
        OutputNotWritable,
        SessionClosed,
        TooManyBadRecords,
        UnpicklableCode,
        UsageError,
    )
    from gristmill.plan.functions import count

__version__ = "0.1.0"

__all__ = [
    "Accumulator",
    "Broadcast",
    "BroadcastDestroyed",
    "CollectTooLarge",
    "Dataset",
    "EmptyDataset",
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
    "Session",
    "SessionClosed",
    "Stats",
    "Step",
    "StorageLevel",
    "TooManyBadRecords",
    "UnpicklableCode",
    "UsageError",
    "__version__",
    "accumulator",
    "broadcast",
    "count",
    "from_arrow",
    "from_items",
    "from_pandas",
    "read_avro",
    "read_checkpoint",
    "read_csv",
    "read_jsonl",
    "read_orc",
    "read_parquet",
    "read_text",
    "read_whole_files",
]

_SOURCES = "gristmill.api.datasets.sources"

_SHARED = "gristmill.api.shared"

_HOMES = {
    "Accumulator": _SHARED,
    "Broadcast": _SHARED,
    "Dataset": "gristmill.api.datasets.dataset",
    "JobHandle": "gristmill.api.job",
    "JobResult": "gristmill.api.result",
    "KeyValue": "gristmill.api.mr",
    "MapReduce": "gristmill.api.mapreduce",
    "Session": "gristmill.api.session",
    "Stats": "gristmill.api.datasets.stats",
    "Step": "gristmill.api.mapreduce",
    "StorageLevel": "gristmill.api.datasets.keeping",
    "accumulator": _SHARED,
    "broadcast": _SHARED,
    "count": "gristmill.plan.functions",
    "range": _SOURCES,  # not in __all__: `from gristmill import *` must not hide Python's own
    **dict.fromkeys((name for name in __all__ if name.startswith(("from_", "read_"))), _SOURCES),
}


def __getattr__(name: str) -> Any:
    if name not in __all__ and name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES.get(name, "gristmill.errors")), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*__all__, *_HOMES})
