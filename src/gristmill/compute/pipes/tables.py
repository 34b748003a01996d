"""Operators that see elements as rows of Arrow batches.

Columns are the keys of dicts; the fields of dataclasses and namedtuples; ``_1``, ``_2``, … of tuples; ``value`` of
anything else.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

import pyarrow as pa

from gristmill.compute.guard import misuse
from gristmill.compute.pipes.context import Context, Operator
from gristmill.compute.pipes.narrow import Streams
from gristmill.plan.functions import Call

_ROWS = 4096


class BatchStream(Iterator[Any]):
    """Rows of files that hold columns: whoever wants batches need not make them of rows.

    Args:
        rows: the rows one by one.
        batches: opens the same rows as batches, of any size.
    """

    def __init__(self, rows: Iterator[Any], batches: Callable[[], Iterator[pa.RecordBatch]]) -> None:
        self._rows = rows
        self.batches = batches

    def __next__(self) -> Any:
        return next(self._rows)


class Batcher:
    """Makes batches of elements. A column of nothing but None has the type that it had before, if it had one."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._types: dict[str, pa.DataType] = {}

    def batch(self, elements: Sequence[Any]) -> pa.RecordBatch:
        """One batch.

        Raises:
            UserCodeError: the elements are not alike, or there is no type for all values of a column.
        """
        columns = columns_of(elements, self._name)
        arrays = [self._array(name, values) for name, values in columns.items()]
        if not arrays:  # dicts without keys
            return pa.RecordBatch.from_struct_array(pa.array([{}] * len(elements), pa.struct([])))
        return pa.RecordBatch.from_arrays(arrays, list(columns))

    def _array(self, name: str, values: list[Any]) -> pa.Array:
        try:
            array = pa.array(values)
        except UnicodeEncodeError:  # what surrogateescape kept: Arrow's strings cannot hold it
            array = pa.array([_as_bytes(value) for value in values])
        except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
            message = f"The column {name!r} of a batch cannot be made: {error}".rstrip(".") + "."
            raise misuse(None, self._name, message, "A column holds values of one plain type.") from error
        if pa.types.is_null(array.type):
            return array.cast(self._types.get(name, array.type))
        self._types[name] = array.type
        return array


def columns_of(elements: Sequence[Any], name: str) -> dict[str, list[Any]]:
    """The columns of some elements.

    Raises:
        UserCodeError: they are not alike.
    """
    first = elements[0]
    if isinstance(first, dict):
        _check_alike(elements, dict, name)
        names = dict.fromkeys(str(key) for element in elements for key in element)
        return {key: [element.get(key) for element in elements] for key in names}
    if dataclasses.is_dataclass(first) and not isinstance(first, type):
        _check_alike(elements, type(first), name)
        fields = [field.name for field in dataclasses.fields(first)]
        return {field: [getattr(element, field) for element in elements] for field in fields}
    if isinstance(first, tuple) and first:
        _check_alike(elements, tuple, name)
        if any(len(element) != len(first) for element in elements):
            raise _unlike(name, "tuples of different lengths")
        fields = list(getattr(first, "_fields", None) or (f"_{place}" for place in range(1, len(first) + 1)))
        return {field: list(column) for field, column in zip(fields, zip(*elements, strict=True), strict=True)}
    return {"value": list(elements)}


def _check_alike(elements: Sequence[Any], kind: type, name: str) -> None:
    for element in elements:
        if not isinstance(element, kind):
            raise _unlike(name, f"{kind.__qualname__} and {type(element).__qualname__}")


def _unlike(name: str, what: str) -> Exception:
    advice = "Elements of a batch are rows with the same columns: make dicts of them with map first."
    return misuse(None, name, f"{name}() found {what} in one batch.", advice)


def _map_batches(_context: Context, call: Call, streams: Streams) -> Iterator[Any]:
    function, size, format = call.arguments
    for batch in _batches_of(streams[0], size, call.name):
        made = function(batch.to_pandas() if format == "pandas" else batch)
        yield from rows_of(made, function, call.name)


def _batches_of(stream: Iterator[Any], size: int, name: str) -> Iterator[pa.RecordBatch]:
    if isinstance(stream, BatchStream):
        for batch in stream.batches():
            for start in range(0, batch.num_rows, size):
                yield batch.slice(start, size)
    else:
        batcher = Batcher(name)
        while elements := list(islice(stream, size)):
            yield batcher.batch(elements)


def rows_of(made: Any, function: Any, name: str) -> Iterator[dict[str, Any]]:
    """The rows of what a function returned: a batch, a table, a DataFrame, or an iterable of such."""
    if isinstance(made, (pa.RecordBatch, pa.Table)):
        for batch in [made] if isinstance(made, pa.RecordBatch) else made.to_batches(max_chunksize=_ROWS):
            yield from batch.to_pylist()
    elif _is_frame(made):
        yield from rows_of(pa.Table.from_pandas(made, preserve_index=False), function, name)
    elif isinstance(made, Iterable) and not isinstance(made, (str, bytes, dict)):
        for part in made:
            if not (isinstance(part, (pa.RecordBatch, pa.Table)) or _is_frame(part)):
                raise _no_batch(function, part, name)
            yield from rows_of(part, function, name)
    else:
        raise _no_batch(function, made, name)


def _is_frame(value: Any) -> bool:
    kind = type(value)
    return kind.__name__ == "DataFrame" and kind.__module__.partition(".")[0] == "pandas"


def _no_batch(function: Any, made: Any, name: str) -> Exception:
    message = f"The function given to {name} must return a batch; this one returned {made!r:.200}."
    return misuse(function, name, message, "Return a pyarrow.RecordBatch or Table, or a pandas.DataFrame.")


def _to_arrow(_context: Context, call: Call, streams: Streams) -> Iterator[Any]:
    """Batches, each as the bytes of an Arrow stream."""
    batcher = Batcher(call.name)
    while elements := list(islice(streams[0], _ROWS)):
        batch = batcher.batch(elements)
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, batch.schema) as writer:
            writer.write_batch(batch)
        yield bytes(sink.getvalue())


def _as_bytes(value: Any) -> Any:
    return value.encode("utf-8", "surrogateescape") if isinstance(value, str) else value


TABLES: dict[str, Operator] = {"map_batches": _map_batches, "to_arrow": _to_arrow}
