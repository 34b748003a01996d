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
LINKS_A_PAGE = 10
KEY_BYTES = 10
SMALL_FILE_LINES = 64
_REST_BYTES = 88  # with the key, a space and a newline: 100 bytes a line
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


def pieces(source: Path, count: int) -> Path:
    """A folder with the lines of a file, in so many files of about the same size."""

    def write(path: Path) -> None:
        path.mkdir()
        size = source.stat().st_size // count + 1
        with source.open("rb") as lines:
            for number in range(count):
                (path / f"piece-{number:03d}").write_bytes(lines.read(size) + lines.readline())

    return _made(f"{source.stem}-in-{count}", write)


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


def edges(count: int) -> Path:
    """Links between pages, one a line: where from, a tab, where to. About ten for each page, page after page.

    Where they end is a power law: the k-th of the pages that are linked to most has about k ** -0.75 of what the
    first has.
    """

    def lines() -> Iterator[bytes]:
        random, pages = Random(1), max(1, count // LINKS_A_PAGE)
        stride = _coprime(pages)  # so that pages that are linked to often do not lie together
        left = count
        for page in itertools.count():
            links = min(left, 1 + int(random.random() * (2 * LINKS_A_PAGE - 1)))
            targets = (int(random.random() ** 4 * pages) * stride % pages for _ in range(links))
            yield "".join([f"p{page}\tp{target}\n" for target in targets]).encode()
            left -= links
            if not left:
                return

    return _made(f"edges-{count}.txt", lambda path: _write(path, lines()))


def sortable(lines: int) -> Path:
    """Lines of 100 bytes that begin with a random key of 10 and a space."""
    return _made(f"sortable-{lines}.txt", lambda path: _write(path, _sortable_chunks(lines)))


def _sortable_chunks(lines: int) -> Iterator[bytes]:
    random = Random(2)
    pool = base64.b64encode(random.randbytes(_POOL_BYTES)).decode()
    places = len(pool) - _REST_BYTES
    for start in range(0, lines, _BATCH):
        keys = base64.b64encode(random.randbytes(_BATCH * KEY_BYTES * 3 // 4)).decode()
        numbers = range(min(_BATCH, lines - start))
        cuts = ((n * KEY_BYTES, (start + n) * 61 % places) for n in numbers)
        yield "".join(
            [f"{keys[key : key + KEY_BYTES]} {pool[rest : rest + _REST_BYTES]}\n" for key, rest in cuts]
        ).encode()


def tables(rows: int, partners: int, *, hot: float = 0.0, wide: int = 20) -> Path:
    """Two tables to join, a folder: `left.txt`, and `right.txt` with one row for each key.

    Args:
        rows: of the left table: a key, a tab, a value of about 10 bytes.
        partners: rows of the right table: a key, a tab, a value.
        hot: the share of the left rows that have one and the same key; the others' keys are even.
        wide: the bytes of a value in the right table.
    """

    def write(path: Path) -> None:
        path.mkdir()
        random = Random(3)
        stride = _coprime(partners)  # the right table is in no order either
        pool = base64.b64encode(random.randbytes(_POOL_BYTES)).decode()
        places = len(pool) - wide
        right = (
            f"{_customer(n * stride % partners)}\t{pool[n * 61 % places : n * 61 % places + wide]}\n".encode()
            for n in range(partners)
        )
        _write(path / "right.txt", right)
        keys = (0 if hot and random.random() < hot else int(random.random() * partners) for _ in range(rows))
        _write(path / "left.txt", (f"{_customer(key)}\torder{n:07d}\n".encode() for n, key in enumerate(keys)))

    return _made(f"tables-{rows}-{partners}-{hot:g}-{wide}", write)


def small_files(count: int) -> Path:
    """A folder of so many files of 4 KiB, of ``SMALL_FILE_LINES`` lines each."""

    def make(path: Path) -> None:
        path.mkdir()
        line = b"a line of text, of sixty-four bytes, its own line end included.\n"
        for number in range(count):
            (path / f"{number:06}.txt").write_bytes(line * SMALL_FILE_LINES)

    return _made(f"small-files-{count}", make)


def numbers(rows: int, keys: int, hot: float = 0.0) -> Path:
    """Lines of a key, a tab and a number below 1,000.

    Args:
        rows: how many lines.
        keys: how many keys there are.
        hot: the share of the lines that have one and the same key; the others' keys are even.
    """

    def write(path: Path) -> None:
        random = Random(4)
        drawn = (0 if hot and random.random() < hot else int(random.random() * keys) for _ in range(rows))
        _write(path, (f"{_customer(key)}\t{n * 61 % 1000}\n".encode() for n, key in enumerate(drawn)))

    return _made(f"numbers-{rows}-{keys}-{hot:g}.txt", write)


def _customer(number: int) -> str:
    return f"c{number:08d}"


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
