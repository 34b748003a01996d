"""Frozen settings. Sizes ("64MiB") and durations ("10s") are parsed here and nowhere else."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from gristmill.errors import UsageError

VERSION = "0.1.0"  # gristmill.__version__, for those who must not import the package's own front
PYTHON_VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"
"""With VERSION: what a coordinator, its workers and its clients must have alike, for code travels between them."""
VERSION_HEADERS = {"Gristmill-Version": VERSION, "Gristmill-Python": PYTHON_VERSION}

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB

_SIZE_UNITS = {
    "": 1, "b": 1,
    "k": KIB, "kib": KIB, "kb": 1000,
    "m": MIB, "mib": MIB, "mb": 1000**2,
    "g": GIB, "gib": GIB, "gb": 1000**3,
    "t": 1024 * GIB, "tib": 1024 * GIB, "tb": 1000**4,
}  # fmt: skip
_DURATION_UNITS = {"ms": 0.001, "": 1.0, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_NUMBER = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z]*)\s*")


def parse_size(text: str | int) -> int:
    """Bytes of ``"64MiB"``, ``"2g"``, ``"1000"`` or a plain number; at least 1.

    Raises:
        UsageError: it is not a size.
    """
    if isinstance(text, int):
        size = text
    else:
        match = _NUMBER.fullmatch(text)
        unit = match and _SIZE_UNITS.get(match[2].lower())
        if not match or not unit:
            raise UsageError(f"{text!r} is not a size. Write a number and a unit, such as 64MiB or 2GiB.")
        size = int(float(match[1]) * unit)
    if size < 1:
        raise UsageError(f"{text!r} is not a size: it must be at least one byte.")
    return size


def parse_duration(text: str | float | int) -> float:
    """Seconds of ``"10s"``, ``"1.5h"``, ``"200ms"`` or a plain number; more than 0.

    Raises:
        UsageError: it is not a duration.
    """
    if isinstance(text, (int, float)):
        seconds = float(text)
    else:
        match = _NUMBER.fullmatch(text)
        unit = match and _DURATION_UNITS.get(match[2].lower())
        if not match or not unit:
            raise UsageError(f"{text!r} is not a duration. Write a number and a unit, such as 10s, 5m or 2h.")
        seconds = float(match[1]) * unit
    if seconds <= 0:
        raise UsageError(f"{text!r} is not a duration: it must be longer than 0.")
    return seconds


def format_size(size_bytes: float) -> str:
    """``1536`` as ``1.5 KiB``: for people."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(size_bytes) < 1024:
            return f"{size_bytes:.0f} {unit}" if unit == "B" else f"{size_bytes:.1f} {unit}"
        size_bytes /= 1024
    return f"{size_bytes:.1f} TiB"


_SECRET = re.compile(r"passw|secret|token|credential|(api|access|private)[-_]?key", re.IGNORECASE)


def names_secret(name: str) -> bool:
    """Whether what has this name is not to be shown: a setting, or a parameter of a job."""
    return _SECRET.search(name) is not None


def format_duration(seconds: float) -> str:
    """``75.3`` as ``1m 15s``, ``0.0042`` as ``4.2 ms``: for people."""
    if 0 < seconds < 0.0995:
        return f"{seconds * 1000:.2g} ms" if seconds >= 0.00095 else "under 1 ms"
    if seconds < 10:
        return f"{seconds:.2g} s" if seconds < 1 else f"{seconds:.1f} s"
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(int(seconds), 60)
    if minutes < 60:
        return f"{minutes}m {rest:02d}s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h {minutes:02d}m"


def available_cpus() -> int:
    """CPUs this process may use (affinity and container quota included)."""
    if hasattr(os, "sched_getaffinity"):
        count = len(os.sched_getaffinity(0))
    else:
        count = os.cpu_count() or 1
    quota = _read_words("/sys/fs/cgroup/cpu.max")
    if len(quota) == 2 and quota[0].isdigit():
        count = min(count, max(1, int(quota[0]) // int(quota[1])))
    return count


def available_memory() -> int:
    """Bytes of memory this process may use (container limit included)."""
    import psutil

    total = int(psutil.virtual_memory().total)
    limit = _read_words("/sys/fs/cgroup/memory.max")
    if limit and limit[0].isdigit():
        total = min(total, int(limit[0]))
    return total


def _read_words(path: str) -> list[str]:
    try:
        return Path(path).read_text().split()
    except OSError:
        return []


def default_data_dir() -> Path:
    """The platform's cache folder for Gristmill; ``GRISTMILL_DATA_DIR`` wins."""
    if named := os.environ.get("GRISTMILL_DATA_DIR"):
        return Path(named)
    if os.name == "nt":
        base = Path(os.environ.get("LOCALAPPDATA", str(Path.home() / "AppData" / "Local")))
    elif os.uname().sysname == "Darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "gristmill"


CHECKPOINT_FORMAT = "pickle"
"""Of elements that come back as they were; read only if a program asks for it."""
PLACES = ("inline", "local", "http://HOST:PORT", "ray", "ray://HOST:PORT")
"""Where jobs run."""
INPUT_FORMATS = ("text", "whole", "csv", "jsonl", "parquet", "orc", "avro")
OUTPUT_FORMATS = ("text", "csv", "jsonl", "parquet", "orc", "avro")
_OF_TEXT = ("none", "gzip", "bz2", "zstd")
COMPRESSIONS = {
    "text": _OF_TEXT,
    "csv": _OF_TEXT,
    "jsonl": _OF_TEXT,
    "parquet": ("none", "snappy", "gzip", "zstd", "lz4", "brotli"),
    "orc": ("none", "zlib", "snappy", "lz4", "zstd"),
    "avro": ("none", "deflate", "bzip2", "xz"),
}
"""How the files of each output format may be compressed."""
MAX_SPLIT_BYTES = 64 * MIB
MAX_RECORD_BYTES = 64 * MIB
MIN_EXECUTOR_MEMORY_BYTES = 64 * MIB
MAX_JOBS = 16  # of a server, that run at a time
MAX_SCRIPTS = 16  # likewise, of these: scripts, each of which has an executor beside those that run tasks
MAX_WAITING = 10_000  # likewise, that wait for their turn


@dataclass(frozen=True, kw_only=True)
class JobOptions:
    """How one job is to run: the options of ``gristmill run``, parsed.

    ``None`` means "choose": the resolved values are a matter of the planner (split size, reducers) and of the
    fleet (executors, memory).
    """

    on: str = "local"  # see PLACES
    executors: int | None = None
    memory_bytes: int | None = None  # of all executors together
    reducers: int | None = None
    split_bytes: int | None = None
    input_format: str | None = None  # by suffix, else text
    output_format: str | None = None  # by suffix of the output, else text
    overwrite: bool = False
    combiner: bool = True
    max_attempts: int = 4
    max_bad_records: int = 0
    task_timeout_seconds: float | None = None
    data_dir: Path = field(default_factory=default_data_dir)
    max_record_bytes: int = MAX_RECORD_BYTES
    params: Mapping[str, object] = field(default_factory=dict)
    resume: bool = False
    speculation: bool = True
    priority: int = 0
    deadline_seconds: float | None = None  # on a server: somebody is told of a job that is not over by then
    task_cpus: float | None = None  # the job's wish, else one
    task_memory_bytes: int = 0  # 0: nothing is reserved
    shuffle_dir: str | None = None
    py_files: tuple[str, ...] = ()
    token_file: Path | None = None  # holds the server's token
    max_processes: int | None = None  # of a task's code at a time; None: see runtime/process/limits.py
    max_file_bytes: int | None = None  # that a task writes; None: as the system allows
    place_timeout_seconds: float | None = None  # on Ray: for room for the first slot; None: as long as is usual there
    deaths_expected: bool = False  # processes may die, and attempts run too long, without limit

    def __post_init__(self) -> None:
        for name in ("executors", "reducers", "split_bytes", "memory_bytes", "max_processes", "max_file_bytes"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UsageError(f"{name} must be at least 1, not {value}.")
        if self.max_attempts < 1:
            raise UsageError(f"max_attempts must be at least 1, not {self.max_attempts}.")
        if self.max_bad_records < 0:
            raise UsageError(f"max_bad_records must be at least 0, not {self.max_bad_records}.")
        if self.task_cpus is not None and self.task_cpus <= 0:
            raise UsageError(f"task_cpus must be more than 0, not {self.task_cpus}.")
        if self.place_timeout_seconds is not None and self.place_timeout_seconds <= 0:
            raise UsageError(f"place_timeout must be more than 0, not {self.place_timeout_seconds}.")
        if self.on not in ("inline", "local") and not self.is_remote and not self.on_ray:
            raise UsageError(f"{self.on!r} is not a place to run on; there are: {', '.join(PLACES)}.")
        if self.input_format not in (None, *INPUT_FORMATS):
            raise UsageError(f"{self.input_format!r} is not an input format; there are: {', '.join(INPUT_FORMATS)}.")
        if self.output_format not in (None, *OUTPUT_FORMATS):
            raise UsageError(f"{self.output_format!r} is not an output format; there are: {', '.join(OUTPUT_FORMATS)}.")

    @property
    def is_remote(self) -> bool:
        """Whether the job runs on a server's workers."""
        return self.on.startswith(("http://", "https://"))

    @property
    def on_ray(self) -> bool:
        """Whether the job runs on a Ray cluster."""
        return self.on == "ray" or self.on.startswith("ray://")

    @property
    def executor_count(self) -> int:
        """Executor processes to start."""
        if self.on == "inline":
            return 1
        return self.executors or available_cpus()

    @property
    def executor_memory_bytes(self) -> int:
        """Memory budget of one executor.

        Raises:
            UsageError: less than an executor can work with.
        """
        total = self.memory_bytes or int(available_memory() * 0.6)
        share = total // self.executor_count
        if share < MIN_EXECUTOR_MEMORY_BYTES:
            raise UsageError(
                f"{format_size(total)} of memory for {self.executor_count} executors leaves {format_size(share)} each; "
                f"an executor needs {format_size(MIN_EXECUTOR_MEMORY_BYTES)}. Give more --memory or fewer --executors."
            )
        return share
