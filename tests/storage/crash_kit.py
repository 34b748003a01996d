"""Processes that die at a chosen step, of which a test may want dozens.

Each is forked from one that has imported what the program needs and has never had a second thread: it begins at once.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from types import TracebackType
from typing import Self

_FORKER = """
import json, os, sys
lines = iter(sys.stdin.readline, "")
program, modules = json.loads(next(lines))
code = compile(program, "<program>", "exec")
for module in modules:
    __import__(module)
for line in lines:
    arguments, environment = json.loads(line)
    if (child := os.fork()) == 0:
        try:
            os.environ.update(environment)
            sys.argv[1:] = arguments
            exec(code, {"__name__": "__main__"})
            os._exit(0)
        except BaseException:
            sys.excepthook(*sys.exc_info())
        finally:
            os._exit(1)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


class Forker:
    """Runs a program as often as asked, each time in a process of its own. A context manager.

    Args:
        program: its text. It finds its arguments in ``sys.argv``.
        modules: what it imports.
    """

    def __init__(self, program: str, *modules: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", _FORKER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        )
        self._tell([program, modules])

    def run(self, *arguments: str, failpoint: str) -> int:
        """Run the program, which is to die at a step; its exit code."""
        self._tell([arguments, {**os.environ, "GRISTMILL_FAILPOINT": failpoint}])
        assert self._process.stdout is not None
        return int(self._process.stdout.readline())

    def _tell(self, what: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(what) + "\n")
        self._process.stdin.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._process.communicate(timeout=60)
