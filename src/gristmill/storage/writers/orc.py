"""``orc``: typed columns as in parquet. A column that has no value but None in a whole file is one of strings."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from gristmill.storage.writers.columnar import ColumnarPart
from gristmill.storage.writers.compression import Unclosed

if TYPE_CHECKING:
    import pyarrow as pa


class OrcPart(ColumnarPart):
    """Writes ``orc``."""

    format = "orc"
    _writer: Any = None

    def _write_group(self, table: pa.Table) -> None:
        import pyarrow as pa
        from pyarrow import orc

        if self._writer is None:
            sink = pa.PythonFile(Unclosed(self._file), mode="w")
            compression = self._options.compression or "zlib"
            compression = "uncompressed" if compression == "none" else compression
            self._writer = orc.ORCWriter(sink, compression=compression, stripe_size=self._group_bytes)
        schema = self._schema_of(table.schema)
        self._writer.write(table if table.schema == schema else table.cast(schema))

    def _schema_of(self, schema: pa.Schema) -> pa.Schema:
        import pyarrow as pa

        for number, field in enumerate(schema):
            if pa.types.is_null(field.type):
                schema = schema.set(number, field.with_type(pa.string()))
        return schema

    def _close_writer(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _give_up(self) -> None:
        with suppress(Exception):  # the file is about to be removed
            self._close_writer()
        self._writer = None
