"""``parquet``: row groups of bounded size, types told by the first rows or by a given schema."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gristmill.storage.writers.columnar import ColumnarPart

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq


class ParquetPart(ColumnarPart):
    """Writes ``parquet``."""

    format = "parquet"
    _writer: pq.ParquetWriter | None = None

    def _write_group(self, table: pa.Table) -> None:
        import pyarrow.parquet as pq

        if self._writer is None:
            compression = self._options.compression or "snappy"
            self._writer = pq.ParquetWriter(self._file, table.schema, compression=compression)
        self._writer.write_table(table, row_group_size=max(table.num_rows, 1))

    def _close_writer(self) -> None:
        if self._writer is not None:
            self._writer.close()

    def _give_up(self) -> None:
        # Arrow's writer writes its footer when it is closed or collected: now, while the file is open.
        super()._give_up()
        if self._writer is not None:
            self._writer.is_open = False
