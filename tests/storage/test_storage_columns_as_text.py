"""An array of elements is written as the elements are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from gristmill.storage.writers.options import WriteOptions
from gristmill.storage.writers.parts import open_parts

ELEMENTS = WriteOptions(elements=True)


def written(folder: Path, column: Any, options: WriteOptions = ELEMENTS) -> bytes | None:
    """What a part holds; None if it wants values."""
    (folder / "attempts").mkdir(parents=True)
    parts = open_parts(folder, "a", 0, "r", "text", options.to_pairs())
    if not parts.write_column(column):
        parts.discard()
        return None
    [part] = parts.close()
    assert part.rows == len(column)
    return (folder / part.staged).read_bytes()


@pytest.mark.parametrize("kind", [pa.string(), pa.binary()])
def test_strings_and_bytes_are_lines(kind: Any, tmp_path: Path) -> None:
    column = pa.array(["a\tb", "", "é", ""], kind)
    assert written(tmp_path / "all", column) == "a\tb\n\né\n\n".encode()
    assert written(tmp_path / "some", column.slice(1, 2)) == "\né\n".encode()
    assert written(tmp_path / "empty", column.slice(1, 1)) == b"\n"


def test_what_needs_escapes_is_wanted_as_values(tmp_path: Path) -> None:
    assert written(tmp_path / "newline", pa.array(["a\nb", "c"])) is None
    assert written(tmp_path / "cut", pa.array(["a\nb", "c"]).slice(1)) == b"c\n"
    assert written(tmp_path / "numbers", pa.array([1, 2])) is None
    assert written(tmp_path / "nothing", pa.array([], pa.string())) is None
    assert written(tmp_path / "sized", pa.array(["a"]), WriteOptions(elements=True, target_bytes=1)) is None
