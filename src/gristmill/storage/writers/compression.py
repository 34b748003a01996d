"""Files that are compressed as a whole. The same bytes go in, the same bytes come out: no time stamp, no name."""

from __future__ import annotations

import bz2
import gzip
from typing import BinaryIO, cast

SUFFIXES = {"gzip": ".gz", "bz2": ".bz2", "zstd": ".zst"}

_GZIP_LEVEL = 6


def compressing(raw: BinaryIO, compression: str) -> BinaryIO:
    """A file that compresses what is written into it. Closing it leaves ``raw`` open."""
    if compression == "gzip":
        return cast(BinaryIO, gzip.GzipFile("", "wb", _GZIP_LEVEL, raw, mtime=0))
    if compression == "bz2":
        return cast(BinaryIO, bz2.BZ2File(raw, "wb"))
    if compression == "zstd":
        import pyarrow as pa

        return cast(BinaryIO, pa.CompressedOutputStream(pa.PythonFile(Unclosed(raw), mode="w"), "zstd"))
    return raw


class Unclosed:
    """A file that its user cannot close."""

    closed = False

    def __init__(self, raw: BinaryIO) -> None:
        self.write, self.tell, self.flush = raw.write, raw.tell, raw.flush

    def close(self) -> None:
        """Nothing happens."""
