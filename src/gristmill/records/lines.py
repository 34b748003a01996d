"""Lines of text, as Python values and as an Arrow array."""

from __future__ import annotations

import sys
from typing import Any

_MOST_BYTES = (1 << 31) - 1  # that an Arrow array of strings holds


def decode_lines(data: bytes) -> list[str]:
    """Lines without their ends (LF or CRLF; a CR elsewhere stays)."""
    # One decode and one split for all: no work per line in Python.
    if b"\r" in data:
        data = data.replace(b"\r\n", b"\n")
    lines = data.decode("utf-8", "surrogateescape").split("\n")
    if not lines[-1]:
        lines.pop()  # what follows the last line end is not a line
    return lines


def encode_lines(data: bytes) -> Any:
    """The same lines as an Arrow array; None if they hold what is no UTF-8, or are too long."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if b"\r" in data:
        data = data.replace(b"\r\n", b"\n")
    if len(data) > _MOST_BYTES:
        return None
    if not data.isascii():
        try:
            data.decode()
        except UnicodeDecodeError:
            return None
    end = len(data) - data.endswith(b"\n")
    offsets = pa.py_buffer(bytes(4) + end.to_bytes(4, sys.byteorder))
    text = pa.Array.from_buffers(pa.string(), 1, [None, offsets, pa.py_buffer(data)])
    return pc.split_pattern(text, "\n").values
