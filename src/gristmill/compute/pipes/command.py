"""The operator that sends elements through a program, as lines."""

from __future__ import annotations

import os
import selectors
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import IO, Any

from gristmill.compute.guard import misuse
from gristmill.compute.pipes.context import Context, Operator
from gristmill.compute.pipes.narrow import Streams
from gristmill.plan.functions import Call

_CHUNK_BYTES = 64 * 1024


def _command(_context: Context, call: Call, streams: Streams) -> Iterator[Any]:
    words, env, check = call.arguments
    process = _started(words, env, call.name)
    try:
        yield from _lines(_output(process, streams[0]))
        code = process.wait()
        if code and check:
            end = f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"
            advice = "What it wrote to standard error is in the task's log. check=False takes what came out so far."
            raise misuse(None, call.name, f"The program {words[0]} {end}.", advice)
    finally:
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                with suppress(OSError):
                    stream.close()


def _started(words: Sequence[str], env: Mapping[str, str], name: str) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(
            list(words),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            env={**os.environ, **env} if env else None,
        )
    except OSError as error:
        message = f"The program {words[0]} cannot be run: {error.strerror}."
        raise misuse(None, name, message, "It must be there on all machines that run tasks.") from error


def _output(process: subprocess.Popen[bytes], elements: Iterator[Any]) -> Iterator[bytes]:
    """What the program writes, while it is fed. One thread does both, so that elements are taken where tasks run."""
    assert process.stdin is not None and process.stdout is not None
    waiting = memoryview(b"")
    with selectors.DefaultSelector() as selector:
        _watch(selector, process.stdout, selectors.EVENT_READ)
        _watch(selector, process.stdin, selectors.EVENT_WRITE)
        while selector.get_map():
            for key, _ in selector.select():
                if key.fileobj is process.stdout:
                    data = process.stdout.read(_CHUNK_BYTES)
                    if data:
                        yield data
                    elif data is not None:
                        selector.unregister(process.stdout)
                else:
                    waiting = waiting or memoryview(_next_lines(elements))
                    try:
                        written = process.stdin.write(waiting) if waiting else None
                    except BrokenPipeError:  # it wants to hear no more, as `head` does
                        written, waiting = None, memoryview(b"")
                    if waiting:
                        waiting = waiting[written or 0 :]
                    else:
                        selector.unregister(process.stdin)
                        with suppress(BrokenPipeError):
                            process.stdin.close()


def _watch(selector: selectors.BaseSelector, stream: IO[bytes], event: int) -> None:
    os.set_blocking(stream.fileno(), False)
    selector.register(stream, event)


def _next_lines(elements: Iterator[Any]) -> bytes:
    """Some elements as lines; empty at the end."""
    lines: list[bytes] = []
    size = 0
    for element in elements:
        line = f"{element}\n".encode("utf-8", "surrogateescape")
        lines.append(line)
        size += len(line)
        if size >= _CHUNK_BYTES:
            break
    return b"".join(lines)


def _lines(chunks: Iterator[bytes]) -> Iterator[str]:
    rest = b""
    for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            yield line.decode("utf-8", "surrogateescape")
    if rest:
        yield rest.decode("utf-8", "surrogateescape")


COMMAND: dict[str, Operator] = {"command": _command}
