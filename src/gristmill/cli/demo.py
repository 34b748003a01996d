"""``gristmill demo``: a real job on real text that every machine has."""

from __future__ import annotations

import heapq
import shutil
import sys
import sysconfig
from collections.abc import Iterable, Sequence
from pathlib import Path

import click

from gristmill.cli.options import EXECUTORS
from gristmill.config import JobOptions
from gristmill.errors import InputMissing

_TOP = 20
_BAR_WIDTH = 40
_NOT_STDLIB = {"site-packages", "dist-packages"}
_EIGHTHS = " ▏▎▍▌▋▊▉█"


@click.command()
@EXECUTORS
def demo(executors: int | None) -> None:
    """Run a real job: count the words of Python's standard library."""
    from gristmill.api.loading import load_job
    from gristmill.cli.display import ProgressDisplay, show_summary
    from gristmill.cli.running import run_interruptibly

    root = Path(sysconfig.get_path("stdlib"))
    files = library_sources(root)
    click.echo(f"Counting the words of Python's standard library: {len(files):,} files below {root}", err=True)
    job = load_job("gristmill.cli.demo_job:WordCount", {})
    display = ProgressDisplay()
    options = JobOptions(executors=executors)
    with run_interruptibly(job, [str(path) for path in files], None, options, display) as result:
        total, top = most_common(result, _TOP)
    click.echo()
    click.echo("\n".join(chart(top)))
    click.echo()
    if display.view is not None:
        click.echo(f"{total:,} words, {display.view.records_out:,} different; above, the {len(top)} commonest.")
        show_summary(display.view, None)
    click.echo("\nNext, the same on files of your own:")
    # After `make demo` the command is in .venv/bin, where no shell looks for it.
    me = Path(sys.argv[0])
    command = me if me.name == "gristmill" and shutil.which(me.name) is None else "gristmill"
    click.secho(f"  {command} run gristmill.cli.demo_job:WordCount FILES -o counts", bold=True)


def library_sources(root: Path) -> list[Path]:
    """Every ``.py`` file below a folder, sorted, without what was installed there later."""
    files = sorted(
        path for path in root.rglob("*.py") if _NOT_STDLIB.isdisjoint(path.relative_to(root).parts) and path.is_file()
    )
    if not files:
        raise InputMissing(f"There are no sources of the standard library below {root}. Try `gristmill run` instead.")
    return files


def most_common(counts: Iterable[tuple[str, int]], n: int) -> tuple[int, list[tuple[str, int]]]:
    """The sum of all counts, and the n greatest, greatest first, equals by word."""
    total = 0

    def adding() -> Iterable[tuple[str, int]]:
        nonlocal total
        for word, count in counts:
            total += count
            yield word, count

    top = heapq.nsmallest(n, adding(), key=lambda pair: (-pair[1], pair[0]))
    return total, top


def chart(top: Sequence[tuple[str, int]]) -> list[str]:
    """Words and counts as lines with a bar each."""
    if not top:
        return []
    widest = max(len(word) for word, _ in top)
    most = max(count for _, count in top)
    return [f"{word:>{widest}}  {_bar(count / most):<{_BAR_WIDTH}}  {count:>9,}" for word, count in top]


def _bar(share: float) -> str:
    eighths = round(share * _BAR_WIDTH * 8)
    return "█" * (eighths // 8) + _EIGHTHS[eighths % 8].strip()
