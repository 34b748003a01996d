"""Join of two tables as a good Python programmer writes it by hand: the right one a dict, two processes over the left.

python bench/by_hand/join.py FOLDER OUTPUT
"""

import multiprocessing
import sys
from itertools import pairwise
from pathlib import Path

PROCESSES = 2

right: dict[bytes, bytes] = {}  # filled before the processes fork, so it is there once


def join(path: str, start: int, end: int, target: str) -> int:
    """Join the lines that begin in a range of bytes; both ends are beginnings of lines."""
    joined = 0
    with Path(path).open("rb") as lines, Path(target).open("wb") as out:
        lines.seek(start)
        for line in lines:
            start += len(line)
            key, _, value = line[:-1].partition(b"\t")
            other = right.get(key)
            if other is not None:
                out.write(b"%b\t%b\t%b\n" % (key, value, other))
                joined += 1
            if start == end:
                break
    return joined


def line_starts(path: str, count: int) -> list[int]:
    """Where to cut the file into so many ranges: at beginnings of lines."""
    size = Path(path).stat().st_size
    with Path(path).open("rb") as stream:
        cuts = [0]
        for n in range(1, count):
            stream.seek(size * n // count)
            stream.readline()
            cuts.append(stream.tell())
    return [*cuts, size]


if __name__ == "__main__":
    source, target = sys.argv[1:]
    with Path(source, "right.txt").open("rb") as lines:
        for line in lines:
            key, _, value = line[:-1].partition(b"\t")
            right[key] = value
    left = f"{source}/left.txt"
    Path(target).mkdir()
    cuts = pairwise(line_starts(left, PROCESSES))
    with multiprocessing.get_context("fork").Pool(PROCESSES) as pool:
        counts = pool.starmap(join, [(left, *cut, f"{target}/part-{n}") for n, cut in enumerate(cuts)])
    print(f"{sum(counts):,} rows joined with {len(right):,}")
