"""What the engine notes while it runs, shown to who started it: who joins and leaves, and what is amiss."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

import click


def show_log(say: Callable[[str], None], level: int = logging.INFO) -> None:
    """Have everything that the engine notes from ``level`` on said, a message at a time, in any thread."""
    log = logging.getLogger("gristmill")
    log.addHandler(_Teller(say))
    log.setLevel(level)
    log.propagate = False


def say_with_time(text: str) -> None:
    """For processes that run for days: to the stderr of that moment, with the time."""
    click.echo(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {text}", err=True)


class _Teller(logging.Handler):
    def __init__(self, say: Callable[[str], None]) -> None:
        super().__init__()
        self._say = say

    def emit(self, record: logging.LogRecord) -> None:
        """Say one message, with the traceback if there is one."""
        self._say(self.format(record))
