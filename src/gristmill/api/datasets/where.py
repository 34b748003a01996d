"""Which line of the user's called a method of ours, and which method that was."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path


def call_site() -> tuple[str, str]:
    """The method that the user called, and his line: ``("count_by_key", "jobs/count.py:12")``.

    A file below the current folder is named from there. The line is empty if nobody outside of the package called.
    """
    frame = sys._getframe(1)
    name = ""
    while frame.f_code.co_filename.startswith(_PACKAGE):
        if frame.f_code.co_filename != _BORDER:
            name = frame.f_code.co_name
        if frame.f_back is None:
            return name, ""
        frame = frame.f_back
    file = frame.f_code.co_filename
    with suppress(OSError):  # the current folder may be gone
        file = file.removeprefix(f"{Path.cwd()}{os.sep}")
    return name, f"{file}:{frame.f_lineno}"


# As Python names the files of this package, through whatever links it was found.
_BORDER = str(Path(call_site.__code__.co_filename).with_name("border.py"))
_PACKAGE = str(Path(call_site.__code__.co_filename).parents[2]) + os.sep
