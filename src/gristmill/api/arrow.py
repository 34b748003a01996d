"""What a job gave as an Arrow table."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pyarrow as pa

from gristmill.errors import GristmillError


def table_of(chunks: Iterable[tuple[list[Any], list[Any]]], job: str) -> pa.Table:
    """The columns ``key`` and ``value`` of pairs that come in chunks.

    Types are found chunk by chunk and widened where they differ (int and float give float). A column of strings that
    are not all UTF-8 becomes one of their bytes.

    Raises:
        GristmillError: there is no type for all values of a column.
    """
    keys: list[list[Any]] = []
    values: list[list[Any]] = []
    for chunk_keys, chunk_values in chunks:
        keys.append(chunk_keys)
        values.append(chunk_values)
    return pa.table({"key": _column("key", keys, job), "value": _column("value", values, job)})


def joined_tables(streams: Iterable[bytes]) -> pa.Table:
    """One table of Arrow streams. Types are widened where they differ; a column that one has not is null there.

    Raises:
        GristmillError: there is no type for all values of a column.
    """
    tables = [pa.ipc.open_stream(stream).read_all() for stream in streams]
    try:
        return pa.concat_tables(tables, promote_options="permissive") if tables else pa.table({})
    except pa.ArrowException as error:
        raise GristmillError(
            f"The elements do not fit in one Arrow table: {error}. Make them alike first, with map(); or collect() "
            "them as they are."
        ) from error


def _column(name: str, chunks: list[list[Any]], job: str) -> pa.ChunkedArray:
    try:
        try:
            tables = [pa.table({name: pa.array(chunk)}) for chunk in chunks]
        except UnicodeEncodeError:
            tables = [pa.table({name: pa.array([_as_bytes(item) for item in chunk])}) for chunk in chunks]
        if not tables:
            return pa.chunked_array([], pa.null())
        return pa.concat_tables(tables, promote_options="permissive").column(name)
    except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
        raise GristmillError(
            f"The {name}s of job {job} do not fit in one Arrow column: {error}. Iterate over the result instead, "
            f"or let the job yield {name}s of one plain type."
        ) from error


def _as_bytes(item: Any) -> Any:
    return item.encode("utf-8", "surrogateescape") if isinstance(item, str) else item
