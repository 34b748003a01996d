"""One schema for all parquet files of an output.

A task tells the types of columns from its own rows: where all of them are None it cannot know one, and where one task
met 1 and another 1.5 they differ. Readers of a folder want one schema. So the commit compares the files' schemas, and
writes those again that lack something all others can be given.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, BinaryIO

from gristmill.storage.contracts import PartFile

if TYPE_CHECKING:
    from collections.abc import Callable

    import pyarrow as pa

_SUFFIX = ".parquet"
_LOOKS_AT_ONCE = 8


def to_be_rewritten(
    parts: Sequence[PartFile], opened: Callable[[PartFile], BinaryIO]
) -> tuple[pa.Schema | None, list[PartFile]]:
    """The schema that all parquet files of an output can have, and those that have another one.

    Args:
        parts: the output's files.
        opened: opens one for reading.

    Returns:
        None and none, if all have the same, or there is none for all: then each file stays as it is.

    Raises:
        OSError: one cannot be read.
    """
    files = [part for part in parts if part.final.endswith(_SUFFIX) and part.rows]
    if len(files) < 2:
        return None, []
    import pyarrow as pa
    import pyarrow.parquet as pq

    from gristmill.storage.writers.layout import KEY_VALUE

    def look(part: PartFile) -> pa.Schema:
        with opened(part) as file:
            return pq.read_schema(file)

    with ThreadPoolExecutor(_LOOKS_AT_ONCE) as pool:
        schemas = list(pool.map(look, files))
    first = schemas[0]
    if tuple(first.names) == KEY_VALUE or all(schema.equals(first) for schema in schemas):
        return None, []  # pairs are as they have always been
    try:
        wanted = pa.unify_schemas(_different(schemas), promote_options="permissive")
    except pa.ArrowException:
        return None, []
    others = [part for part, schema in zip(files, schemas, strict=True) if not schema.equals(wanted)]
    return wanted, others


def rewrite(source: BinaryIO, target: BinaryIO, schema: pa.Schema) -> bool:
    """Write a parquet file again, with another schema; False if its values do not fit that."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    with pq.ParquetFile(source) as file:
        codec = file.metadata.row_group(0).column(0).compression.lower()
        writer = pq.ParquetWriter(target, schema, compression="none" if codec == "uncompressed" else codec)
        try:
            for group in range(file.num_row_groups):
                table = _cast(file.read_row_group(group), schema)
                writer.write_table(table, row_group_size=max(table.num_rows, 1))
        except pa.ArrowException:
            return False
        finally:
            with suppress(pa.ArrowException):
                writer.close()
    return True


def _different(schemas: Sequence[pa.Schema]) -> list[pa.Schema]:
    found: list[pa.Schema] = []
    for schema in schemas:
        if not any(schema.equals(other) for other in found):
            found.append(schema)
    return found


def _cast(table: pa.Table, schema: pa.Schema) -> pa.Table:
    import pyarrow as pa

    columns = [
        table[field.name].cast(field.type) if field.name in table.column_names else pa.nulls(table.num_rows, field.type)
        for field in schema
    ]
    return pa.Table.from_arrays(columns, schema=schema)
