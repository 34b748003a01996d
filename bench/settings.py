"""What a run of the benchmarks is asked to do, and what all of its parts share."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
EXECUTORS = 2


@dataclass(frozen=True)
class Settings:
    """The command line of bench/run.py, parsed."""

    runs: int = 3
    size_mb: int = 500
    text: Path | None = None
    peers: tuple[str, ...] = ()


def gristmill(*arguments: str | Path) -> list[str | Path]:
    """The command line of ``gristmill``: the one beside this Python, else out of the sources on its path."""
    beside = Path(sys.executable).with_name("gristmill")
    return [*([beside] if beside.exists() else [sys.executable, "-m", "gristmill.cli.main"]), *arguments]


def by_hand(name: str) -> list[str | Path]:
    """The command line of a script by hand, up to its arguments."""
    return [sys.executable, HERE / "by_hand" / f"{name}.py"]


def job(name: str) -> Path:
    """The file of a Gristmill job."""
    return HERE / "jobs" / f"{name}.py"


def dataset(name: str) -> list[str | Path]:
    """The command line of a script with datasets, up to its arguments."""
    return [sys.executable, HERE / "datasets" / f"{name}.py"]
