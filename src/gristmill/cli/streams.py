"""Standard streams of a command."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO


@contextmanager
def stdout_for_data() -> Iterator[IO[bytes]]:
    """Standard output for bytes. A reader that has had enough (``| head``) ends the writing quietly."""
    out = sys.stdout.buffer
    try:
        yield out
        out.flush()
    except BrokenPipeError:
        # What is still buffered has nowhere to go; without this the interpreter complains about it at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
