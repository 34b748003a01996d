"""A Python prompt that the documentation's programs are typed at, one block after another."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

_LIMIT_SECONDS = 60.0  # for one block
_END = "\0"

# Blocks come as lines of JSON. The value of each expression is shown; a line that begins with a zero byte says that a
# block is done, and whether it has failed.
_PROMPT = r"""
import __main__, ast, json, linecache, sys, traceback
for number, line in enumerate(sys.stdin, 1):
    text, name, failed = json.loads(line), f"<step {number}>", False
    linecache.cache[name] = len(text), None, text.splitlines(keepends=True), name
    try:
        for statement in ast.parse(text).body:
            exec(compile(ast.Interactive([statement]), name, "single"), vars(__main__))
    except Exception as error:
        failed = True
        traceback.print_exception(error.with_traceback(error.__traceback__.tb_next))
    print(f"\0{failed}", flush=True)
"""


class Prompt:
    """A context manager.

    Args:
        here: the current folder.
        environment: all of it.
    """

    def __init__(self, here: Path, environment: Mapping[str, str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-u", "-c", _PROMPT],
            cwd=here,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def enter(self, text: str) -> tuple[str, bool]:
        """Type a block; what was printed, and whether an exception was."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(text) + "\n")
        self._process.stdin.flush()
        limit = threading.Timer(_LIMIT_SECONDS, self._process.kill)
        limit.start()
        printed: list[str] = []
        try:
            for line in self._process.stdout:
                if line.startswith(_END):
                    return "".join(printed), line.strip() == f"{_END}True"
                printed.append(line)
        finally:
            limit.cancel()
        raise AssertionError(f"the prompt ended, or took more than {_LIMIT_SECONDS:g} s:\n{text}\n{''.join(printed)}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        try:
            self._process.communicate(timeout=60)
        finally:
            self._process.kill()
            self._process.wait(60)
