"""The inputs of the benchmarks, made when they are first wanted and the same for everybody who makes them.

    python bench/data.py [--size-mb 500] [--text FOLDER]

They stand in `.bench-data` in the checkout, or where GRISTMILL_BENCH_DATA says. A file appears under its name when it
is whole, so what is there is right.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import itertools
import math
import os
import re
import shutil
import sys
import sysconfig
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

MB = 1_000_000
LINES_A_MB = 10_000  # of an access log, for each MB of text: both then take about as long to count
HOT_KEY = "hot-key-ab"  # as long as the other keys
VALUE_BYTES = 38  # with the key, a space and a newline: 50 bytes a line
_POOL_BYTES = 1 << 20
_BATCH = 20_000
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1f]|\r(?!\n)")


def folder() -> Path:
    """Where inputs and outputs stand."""
    named = os.environ.get("GRISTMILL_BENCH_DATA")
    path = Path(named) if named else Path(__file__).resolve().parent.parent / ".bench-data"
    path.mkdir(parents=True, exist_ok=True)
    return path


class Texts:
    """Whole text files below a folder, as the stuff of larger texts.

    Args:
        source: the folder; by default the standard library's sources.
    """

    def __init__(self, source: Path | None = None) -> None:
        library = Path(sysconfig.get_paths()["stdlib"])
        files = sorted(source.rglob("*") if source else _sources(library))
        self.contents = [content for content in map(_content, files) if content]
        if not self.contents:
            raise SystemExit(f"{source or library} holds no text files.")
        self.name = "the standard library's sources" if source is None else f"{len(self.contents)} files of text"
        digest = hashlib.sha256()
        for content in self.contents:
            digest.update(content)
        self.digest = digest.hexdigest()[:8]

    def one_file(self, size_mb: int) -> Path:
        """A text of this size: the files one after the other, again and again."""
        return _made(f"text-{size_mb}mb-{self.digest}.txt", lambda path: _write(path, self._until(size_mb * MB)))

    def documents(self, size_mb: int) -> Path:
        """A folder of this size: the files again and again, each time under other names."""

        def write(path: Path) -> None:
            path.mkdir()
            for number, content in enumerate(self._until(size_mb * MB)):
                (path / f"document-{number:06d}").write_bytes(content)

        return _made(f"documents-{size_mb}mb-{self.digest}", write)

    def _until(self, size_bytes: int) -> Iterator[bytes]:
        for content in itertools.cycle(self.contents):
            yield content
            size_bytes -= len(content)
            if size_bytes <= 0:
                return


def access_log(lines: int) -> Path:
    """An access log of so many lines."""
    from gristmill.cli import access_log

    chunks = (chunk.encode() for chunk in access_log.lines(lines))
    return _made(f"access-{lines}.log", lambda path: _write(path, chunks))


def hot_key_text(keys: int) -> Path:
    """Lines of a key, a space and a value: so many distinct keys once each, and one key in every other line.

    100 bytes for each key: 20 million of them make 2 GB.
    """
    return _made(f"hot-key-{keys}.txt", lambda path: _write(path, _hot_key_chunks(keys)))


def _hot_key_chunks(keys: int) -> Iterator[bytes]:
    pool = base64.b64encode(Random(0).randbytes(_POOL_BYTES)).decode()
    places = len(pool) - VALUE_BYTES
    stride = _coprime(keys)  # visits every key once, in no order that would help
    for start in range(0, keys, _BATCH):
        numbers = range(start, min(start + _BATCH, keys))
        pairs = ((n * stride % keys, n * 61 % places, n * 89 % places) for n in numbers)
        yield "".join(
            [f"k{key:09d} {pool[a : a + VALUE_BYTES]}\n{HOT_KEY} {pool[b : b + VALUE_BYTES]}\n" for key, a, b in pairs]
        ).encode()


def _coprime(keys: int) -> int:
    return next(n for n in itertools.count(7_368_787) if math.gcd(n, keys) == 1)


def _sources(library: Path) -> Iterator[Path]:
    return (path for path in library.rglob("*.py") if "site-packages" not in path.parts)


def _content(path: Path) -> bytes:
    """The text of a file, ending in a newline; nothing if it is not text that every tool can read."""
    if not path.is_file():
        return b""
    content = path.read_bytes()
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        return b""
    if _CONTROL.search(text):
        return b""
    return content if content.endswith(b"\n") else content + b"\n"


def _write(path: Path, chunks: Iterator[bytes]) -> None:
    with path.open("wb") as stream:
        stream.writelines(chunks)


def _made(name: str, make: Callable[[Path], None]) -> Path:
    path = folder() / name
    if not path.exists():
        begun = time.monotonic()
        partial = path.with_name(f".{name}.{os.getpid()}.partial")
        try:
            make(partial)
            partial.rename(path)
        finally:
            if partial.is_dir():
                shutil.rmtree(partial)
            partial.unlink(missing_ok=True)
        print(f"made {name} in {time.monotonic() - begun:.0f} s", file=sys.stderr)
    return path


def size_bytes(path: Path) -> int:
    """The size of a file, or of all files in a folder."""
    return sum(each.stat().st_size for each in (path.iterdir() if path.is_dir() else [path]))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size-mb", type=int, default=500)
    parser.add_argument("--text", type=Path, help="folder with text files; the standard library's sources by default")
    options = parser.parse_args()
    texts = Texts(options.text)
    for made in (
        texts.one_file(options.size_mb),
        texts.documents(max(1, options.size_mb * 64 // 500)),
        access_log(options.size_mb * LINES_A_MB),
        hot_key_text(options.size_mb * 40_000),
    ):
        print(f"{size_bytes(made):>14,} {made}")
