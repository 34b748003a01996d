"""How an output is written: what goes beyond its format, as plain values that travel with a stage."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gristmill.config import COMPRESSIONS, OUTPUT_FORMATS, parse_size
from gristmill.errors import UsageError

if TYPE_CHECKING:
    import pyarrow as pa

_WITH_SCHEMA = ("parquet", "orc", "avro")


@dataclass(frozen=True, kw_only=True)
class WriteOptions:
    """How the elements of a dataset are written.

    Attributes:
        partition_by: columns that become folders, ``year=2024/month=1``, outermost first.
        target_bytes: about how large a file is to be; a task's part is cut into several. None: it is one file.
        columns: names of columns: of tuples all of them, of records with named columns those that are wanted.
        compression: one of ``config.COMPRESSIONS`` of the format; empty: the format's own default.
        schema: columns and their types (parquet, orc, avro); see :meth:`with_schema`. Empty: as the rows say.
        elements: what is written are elements of a dataset under the key None; else pairs of key and value.
    """

    partition_by: tuple[str, ...] = ()
    target_bytes: int | None = None
    columns: tuple[str, ...] = ()
    compression: str = ""
    schema: str = ""
    elements: bool = True

    @classmethod
    def of(
        cls,
        format: str,
        *,
        partition_by: str | Sequence[str] = (),
        target_size: int | str | None = None,
        columns: Sequence[str] | None = None,
        compression: str | None = None,
        schema: pa.Schema | None = None,
    ) -> WriteOptions:
        """What a user has asked for, checked.

        Args:
            format: one of ``config.OUTPUT_FORMATS``.
            partition_by: columns that become folders; one may be named by itself.
            target_size: about how large a file is to be, as ``"128MiB"`` or in bytes.
            columns: names of columns.
            compression: ``"gzip"``, say; ``"none"`` turns a format's own default off.
            schema: columns and their types.

        Raises:
            UsageError: it makes no sense, or the format has no such thing.
        """
        if format not in OUTPUT_FORMATS:
            raise UsageError(f"{format!r} is not an output format; there are: {', '.join(OUTPUT_FORMATS)}.")
        by = _names("partition_by", (partition_by,) if isinstance(partition_by, str) else partition_by)
        named = _names("columns", columns or ())
        for name in by:
            if name.startswith(("_", ".")):
                raise UsageError(
                    f"partition_by cannot name {name!r}: readers skip folders whose names begin with _ or a dot. "
                    "Give the column another name."
                )
        compression = (compression or "").lower()
        if compression and compression not in COMPRESSIONS[format]:
            known = ", ".join(COMPRESSIONS[format])
            raise UsageError(f"{compression!r} is not a compression of {format}; there are: {known}.")
        if schema is not None and format not in _WITH_SCHEMA:
            raise UsageError(f"{format} has no schema. Write one of: {', '.join(_WITH_SCHEMA)}.")
        if schema is not None and named and tuple(schema.names) != named:
            raise UsageError("columns and schema name different columns; give one of the two.")
        if schema is not None:
            _names("schema", schema.names)
        if columns is not None and schema is None and set(named) and set(named) <= set(by):
            raise UsageError("partition_by takes all columns; at least one must be left for the files.")
        for name in by:
            if named and name not in named:
                raise UsageError(f"partition_by names {name!r}, which is not among the columns.")
        size = None if target_size is None else parse_size(target_size)
        text = "" if schema is None else base64.b64encode(schema.serialize()).decode("ascii")
        return cls(partition_by=by, target_bytes=size, columns=named, compression=compression, schema=text)

    def arrow_schema(self) -> pa.Schema | None:
        """The schema, if one was given."""
        if not self.schema:
            return None
        import pyarrow as pa

        return pa.ipc.read_schema(pa.py_buffer(base64.b64decode(self.schema)))

    def to_pairs(self) -> tuple[tuple[str, str], ...]:
        """As pairs of strings; never empty for elements."""
        pairs: dict[str, Any] = {
            "elements": self.elements,
            "partition_by": self.partition_by,
            "target_bytes": self.target_bytes,
            "columns": self.columns,
            "compression": self.compression,
            "schema": self.schema,
        }
        return tuple((name, json.dumps(value)) for name, value in pairs.items() if value)

    @classmethod
    def from_pairs(cls, pairs: Iterable[tuple[str, str]]) -> WriteOptions:
        """The inverse of :meth:`to_pairs`; of no pairs, :data:`PAIRS`."""
        values: dict[str, Any] = {name: json.loads(value) for name, value in pairs}
        for name in ("partition_by", "columns"):
            values[name] = tuple(values.get(name, ()))
        return cls(**{"elements": False, **values})


PAIRS = WriteOptions(elements=False)
"""Pairs of key and value, in the format's own way: what a MapReduce job writes."""


def _names(what: str, names: Sequence[str]) -> tuple[str, ...]:
    for name in names:
        if not isinstance(name, str) or not name:
            raise UsageError(f"{what} must be names of columns, not {name!r}.")
    if len(set(names)) < len(names):
        raise UsageError(f"{what} names a column twice: {', '.join(names)}.")
    return tuple(names)
