"""What it costs when 90 % of the rows have one and the same key.

    python bench/skew.py [--runs 3] [--size-mb 500]

The same scripts of bench/datasets over two inputs of equal size, in turn: one whose keys are even, one in which nine
rows of ten have the same key. The results are those of the scripts by hand.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import sys
from dataclasses import dataclass, field
from pathlib import Path

import data
import measure
from results import conclude, digest, table, verdict
from settings import Settings, by_hand, dataset

LIMIT = 1.5
HOT = 0.9
ROWS_A_MB = 10_000  # for each MB of text: 5 million for 500
ROWS_A_KEY = 5
WIDE_BYTES = 100  # of a row of the right table: too many to be sent to everybody


@dataclass
class Work:
    """One script, and how long it took over either input."""

    name: str
    even: Path
    skewed: Path
    runs: list[tuple[measure.Run, measure.Run]] = field(default_factory=list)

    @property
    def ratio(self) -> float:
        """The median of the ratios within a turn."""
        return statistics.median(skewed.seconds / even.seconds for even, skewed in self.runs)


def section(settings: Settings) -> tuple[str, str]:
    """Measure.

    Returns:
        The section for RESULTS.md, and why it cannot be believed; empty if it can.
    """
    rows = settings.size_mb * ROWS_A_MB
    keys = rows // ROWS_A_KEY
    numbers = [data.numbers(rows, keys, hot) for hot in (0.0, HOT)]
    tables = [data.tables(rows, keys, hot=hot, wide=WIDE_BYTES) for hot in (0.0, HOT)]
    works = [Work("aggregation", *numbers), Work("join", *tables)]
    try:
        for work in works:
            expected = [_run(by_hand(work.name), source)[1] for source in (work.even, work.skewed)]
            for _ in range(settings.runs):
                pair = [_run(dataset(work.name), source) for source in (work.even, work.skewed)]
                if [found for _, found in pair] != expected:
                    return "", f"Skew: the {work.name} differs from the one by hand"
                (even, _), (skewed, _) = pair
                print(f"  {work.name}: even {even.seconds:.2f} s, skewed {skewed.seconds:.2f} s", file=sys.stderr)
                work.runs.append((even, skewed))
    except RuntimeError as error:
        return "", f"Skew: {error}"
    return _text(works, rows, keys), ""


def _run(command: list[str | Path], source: Path) -> tuple[measure.Run, str]:
    """The run, and a digest of the output."""
    output = data.folder() / "out" / "skew"
    output.parent.mkdir(exist_ok=True)
    try:
        done = measure.run([*command, source, output], {"GRISTMILL_DATA_DIR": str(data.folder() / "gristmill")})
        if done.error:
            raise RuntimeError(done.error)
        return done, digest(output)
    finally:
        if output.is_dir():
            shutil.rmtree(output)
        output.unlink(missing_ok=True)


def _text(works: list[Work], rows: int, keys: int) -> str:
    lines = [["", "even, median s", "skewed, median s", "×"]]
    for work in works:
        medians = (f"{statistics.median(run.seconds for run in runs):.2f}" for runs in zip(*work.runs, strict=True))
        lines.append([work.name, *medians, f"{work.ratio:.2f}"])
    worst = max(work.ratio for work in works)
    body = [
        "## Skew",
        f"{rows:,} rows, {keys:,} keys. Skewed means that {HOT:.0%} of the rows have one of the keys. The aggregation "
        f"is a `reduce_by_key`. The join's right table has one row of {WIDE_BYTES} bytes for each key. The results are "
        "those of scripts by hand.",
        table(lines),
        f"At worst {worst:.2f} × the even case. Limit {LIMIT} ({verdict(worst <= LIMIT)}). "
        + measure.disturbance([run for work in works for pair in work.runs for run in pair]),
    ]
    return "\n\n".join(body)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=Settings.runs)
    parser.add_argument("--size-mb", type=int, default=Settings.size_mb)
    given = parser.parse_args()
    conclude("skew", *section(Settings(given.runs, given.size_mb)), write=given.size_mb == Settings.size_mb)
