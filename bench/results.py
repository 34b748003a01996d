"""What the benchmarks write down: tables, the machine they ran on, and the sections of RESULTS.md."""

from __future__ import annotations

import hashlib
import os
import platform
import sys
from collections.abc import Iterator, Sequence
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

RESULTS = Path(__file__).resolve().parent / "RESULTS.md"
_ORDER = (
    *("wordcount", "access_log", "inverted_index", "first_result", "memory", "tasks"),
    *("two_agents", "straggler", "kill_one", "scheduler"),
    *("chain", "pagerank", "join", "sort", "skew", "small_files", "dataset_memory"),
    "page",
    *("ray_local", "ray_peers", "ray_shuffle"),
)
_CHUNK_BYTES = 1 << 20
_HEAD = """# What was measured

`make bench` measures everything; `bench/run.py --only NAME` measures one section anew and leaves the others.
Contenders take turns (A B C A B C …). Times are those of whole processes, from start to end; a time counts only
if the output is the one that the script by hand gives. Memory is anonymous and shared memory (RssAnon + RssShmem)
of all processes together, at its highest.
"""


def digest(output: Path) -> str:
    """A digest of all lines of an output, whatever their order and however many files they stand in."""
    count = total = 0
    for part in parts(output):
        with part.open("rb") as lines:
            for line in lines:
                count += 1
                total += int.from_bytes(hashlib.blake2b(line.rstrip(b"\r\n"), digest_size=16).digest())
    return f"{count}-{total % (1 << 128):032x}"


def digest_in_order(output: Path) -> str:
    """A digest of the bytes of an output, one file after another."""
    found = hashlib.sha256()
    for part in parts(output):
        with part.open("rb") as stream:
            while chunk := stream.read(_CHUNK_BYTES):
                found.update(chunk)
    return found.hexdigest()


def parts(output: Path) -> Iterator[Path]:
    """The files of an output."""
    if output.is_dir():
        yield from (path for path in sorted(output.iterdir()) if not path.name.startswith(("_", ".")))
    else:
        yield output


def table(rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; the first row is its head. All columns but the first are flushed right."""
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]

    def text(row: Sequence[str]) -> str:
        cells = [row[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(row[1:], widths[1:], strict=True))]
        return f"| {' | '.join(cells)} |"

    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    return "\n".join([text(rows[0]), text(rule), *map(text, rows[1:])])


def verdict(kept: bool) -> str:
    """Whether a limit was kept, for a sentence."""
    return "kept" if kept else "MISSED"


def mib(size_bytes: float) -> str:
    """Bytes in MiB, for a table."""
    return f"{size_bytes / (1 << 20):,.0f} MiB" if size_bytes else "–"


def machine() -> str:
    """This machine and its Python, in one line."""
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / (1 << 30)
    try:
        gristmill = f", Gristmill {version('gristmill')}"
    except PackageNotFoundError:
        gristmill = ""
    return (
        f"{cpus} × {_cpu_model()}, {memory:.0f} GiB, {platform.system()} {platform.release()}, "
        f"Python {platform.python_version()}{gristmill}, pyarrow {version('pyarrow')}, {date.today():%d %B %Y}"
    )


def command_line() -> str:
    """How this process was started, as it can be repeated in a checkout; folders of this machine are left out."""
    given = [f"{Path(argument).name}/" if Path(argument).is_dir() else argument for argument in sys.argv[1:]]
    return " ".join(["python", f"bench/{Path(sys.argv[0]).name}", *given])


def conclude(name: str, body: str, problem: str, *, write: bool = True) -> None:
    """The end of a benchmark that was run alone: show its section, and keep it, unless it cannot be believed.

    Raises:
        SystemExit: with the problem.
    """
    if problem:
        raise SystemExit(problem)
    print(body)
    if write:
        write_section(name, body)


def write_section(name: str, body: str) -> None:
    """Put a section into RESULTS.md in place of the one of that name."""
    sections = _sections(RESULTS.read_text()) if RESULTS.exists() else {}
    sections[name] = f"{body.strip()}\n\nBy `{command_line()}` on {machine()}.\n"
    known = [each for each in _ORDER if each in sections]
    order = [*known, *(each for each in sections if each not in known)]
    RESULTS.write_text(_HEAD + "".join(f"\n<!-- {each} -->\n{sections[each]}<!-- /{each} -->\n" for each in order))


def _sections(text: str) -> dict[str, str]:
    found = {}
    while (begin := text.find("<!-- ")) >= 0:
        name = text[begin + 5 : text.index(" -->", begin)]
        start = text.index("\n", begin) + 1
        end = text.index(f"<!-- /{name} -->", start)
        found[name] = text[start:end]
        text = text[text.index("-->", end) :]
    return found


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
