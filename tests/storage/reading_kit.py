"""Reading inputs as a job does: from names to tasks to records."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from gristmill.records.block import MalformedRecord
from gristmill.storage.contracts import Split
from gristmill.storage.formats import open_split
from gristmill.storage.inputs import plan_tasks, resolve_inputs
from gristmill.storage.read_options import Pairs

BIG = 1 << 26


def options(columns: list[str] | None = None, filter: list[tuple[str, str, Any]] | None = None, **others: str) -> Pairs:
    """Options of an input, as a dataset gives them."""
    pairs = dict(others)
    if columns is not None:
        pairs["columns"] = json.dumps(columns)
    if filter is not None:
        pairs["filter"] = json.dumps([list(each) for each in filter])
    return tuple(pairs.items())


def splits_of(place: str | Path, given: Pairs = (), format: str | None = None, split_bytes: int = BIG) -> list[Split]:
    """The splits of an input."""
    files = resolve_inputs([place], format, options=given)
    return [split for task in plan_tasks(files, split_bytes) for split in task]


def read(place: str | Path, given: Pairs = (), format: str | None = None, split_bytes: int = BIG) -> list[Any]:
    """The records of an input. What is malformed is its error's message."""
    found: list[Any] = []
    for split in splits_of(place, given, format, split_bytes):
        for block in open_split(split, BIG):
            found += [
                value.error.report.message if isinstance(value, MalformedRecord) else value for value in block.values
            ]
    return found


def offsets(place: str | Path, given: Pairs = (), split_bytes: int = BIG) -> list[int]:
    """Where the records of an input are said to be."""
    blocks = (block for split in splits_of(place, given, None, split_bytes) for block in open_split(split, BIG))
    return [block.offset_of(index) for block in blocks for index in range(len(block.values))]


def _shown(value: Any) -> Any:
    return value.error.report.message if isinstance(value, MalformedRecord) else value
