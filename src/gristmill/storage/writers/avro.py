"""``avro``: records by the package ``fastavro``, types told as in parquet. All columns may be null."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from gristmill.errors import FailureReport, OutputUnencodable
from gristmill.storage.writers.columnar import ColumnarPart

if TYPE_CHECKING:
    import pyarrow as pa

_CODECS = {"": "deflate", "none": "null"}
_BLOCK_BYTES = 64_000
_ROWS = 4096  # of which Python objects are held at once
_SYNC_BYTES = 16


class AvroPart(ColumnarPart):
    """Writes ``avro``."""

    format = "avro"
    _writer: Any = None

    def _write_group(self, table: pa.Table) -> None:
        if self._writer is None:
            self._open(table.schema)
        for batch in table.to_batches(_ROWS):
            for row in batch.to_pylist():
                self._writer.write(row)

    def _open(self, schema: pa.Schema) -> None:
        writer = _fastavro_writer()
        described = {"type": "record", "name": "Record", "fields": _fields(schema, "Record")}
        # Drawn at random it would make each attempt's file another one.
        marker = hashlib.sha256(json.dumps(described).encode()).digest()[:_SYNC_BYTES]
        codec = _CODECS.get(self._options.compression, self._options.compression)
        self._writer = writer(self._file, described, codec, _BLOCK_BYTES, sync_marker=marker)

    def _close_writer(self) -> None:
        if self._writer is not None:
            self._writer.flush()

    def _give_up(self) -> None:
        self._writer = None


def _fastavro_writer() -> Any:
    try:
        from fastavro.write import Writer
    except ImportError as error:
        raise _refused("avro needs the package fastavro: pip install 'gristmill[avro]', on all workers.") from error
    return Writer


def _fields(schema: Any, path: str) -> list[dict[str, Any]]:
    return [
        {"name": _name(field.name), "type": ["null", _type(field.type, f"{path}_{field.name}")], "default": None}
        for field in schema
    ]


def _type(kind: pa.DataType, path: str) -> Any:
    """Arrow's type as avro's. Records within records are named by where they are."""
    from pyarrow import types

    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        return {"type": "array", "items": ["null", _type(kind.value_type, f"{path}_item")]}
    if types.is_struct(kind):
        return {"type": "record", "name": _name(path), "fields": _fields(list(kind), path)}
    if types.is_decimal(kind):
        return {"type": "bytes", "logicalType": "decimal", "precision": kind.precision, "scale": kind.scale}
    if types.is_timestamp(kind):
        # Without a zone it is the time on somebody's clock, and comes back as such.
        return {"type": "long", "logicalType": "timestamp-micros" if kind.tz else "local-timestamp-micros"}
    for is_kind, found in (
        (types.is_null, "string"),
        (types.is_boolean, "boolean"),
        (types.is_signed_integer, "long"),
        (types.is_unsigned_integer, "long"),
        (types.is_float64, "double"),
        (types.is_floating, "float"),
        (types.is_string, "string"),
        (types.is_large_string, "string"),
        (types.is_binary, "bytes"),
        (types.is_large_binary, "bytes"),
        (types.is_date, {"type": "int", "logicalType": "date"}),
        (types.is_time, {"type": "long", "logicalType": "time-micros"}),
    ):
        if is_kind(kind):
            return found
    raise _refused(f"A column of type {kind} cannot be written as avro. Write parquet, or turn it into text.")


def _name(name: str) -> str:
    """Avro's names are those of most programming languages."""
    if name.isascii() and name.isidentifier():
        return name
    raise _refused(
        f"A column cannot be named {name!r} in avro: a name is made of letters, digits and _, and begins with no "
        "digit. Name the columns with columns=[…]."
    )


def _refused(message: str) -> OutputUnencodable:
    return OutputUnencodable(FailureReport(error=OutputUnencodable.__name__, message=message))
